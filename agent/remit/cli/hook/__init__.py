"""`remit hook`: put the tools of a coding agent under Remit.

installing  the files of the workspace and the settings of the coding agent
playing     a denied call, played through the real coding agent with a scripted model
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from remit.cli.local.hooking import CLIENTS
from remit.cli.output import echo, json_text, style


@click.group("hook", short_help="put the tools of a coding agent under Remit")
def hook_command() -> None:
    """Let Remit decide and record the calls that a coding agent makes with its own tools.

    \b
    Examples:
      remit hook install claude-code --write
      remit hook status
      remit doctor --hooks
    """


@hook_command.command("install", short_help="write the tool pack of a coding agent, and its settings")
@click.argument("client", type=click.Choice(CLIENTS))
@click.option(
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder of the project. Default: that of the workspace.",
)
@click.option(
    "--owner", metavar="MAIL", default="you@example.com", help="The owner of the tool, as its manifest names them."
)
@click.option(
    "--developer", "developers", multiple=True, metavar="USER", help="Who may use it: user:ann. Default: you."
)
@click.option("--approver", "approvers", multiple=True, metavar="USER", help="Who may approve its calls: user:dana.")
@click.option("--write", is_flag=True, help="Write the files. Without it, they are only shown.")
@click.option("--json", "as_json", is_flag=True, help="Print the files as JSON.")
def install_command(
    client: str,
    project: Path | None,
    owner: str,
    developers: tuple[str, ...],
    approvers: tuple[str, ...],
    write: bool,
    as_json: bool,
) -> None:
    """Show, or write with --write: a manifest of the coding agent's tools, an agent and starter rules in the workspace, and the hooks in
    the settings of the coding agent. What is there already stays; of the settings, only Remit's own hooks change.

    \b
    Examples:
      remit hook install claude-code --approver user:dana
      remit hook install claude-code --approver user:dana --write
      remit hook install codex --approver user:dana --project ~/shop --write
    """
    from remit.cli.hook.installing import Installation, changed_files, written

    asked = Installation(client=client, project=project, owner=owner, developers=developers, approvers=approvers)
    files = changed_files(asked)
    if as_json:
        echo(json_text({"ok": True, "written": write, "files": {str(item.path): item.after for item in files}}))
    else:
        for item in files:
            echo(item.diff or f"unchanged: {item.path}")
    if not write:
        if not as_json:
            echo("nothing is written yet: add --write")
        return
    pinned = written(asked, files)
    if not as_json:
        echo(f"written; the tool {pinned} is pinned as it was shown")
        echo("next:  remit serve   and in another terminal   remit doctor --hooks")


@hook_command.command("run", short_help="pass an event of a coding agent to the service; for its settings")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, hidden=True, help="The answer is JSON in any case.")
def run_command(words: tuple[str, ...], as_json: bool) -> None:
    """Read an event of a coding agent from standard input, and print the answer of the service. Its settings call this; people do not.

    It exits with 2, which blocks the call, if the service does not answer.

    \b
    Examples:
      remit hook run claude-code
      remit hook run codex --workspace /srv/agents --project /srv/shop --wait 30
    """
    from remit.cli.local.hooking import run_hook

    sys.exit(run_hook(words))


@hook_command.command("status", short_help="say whether the hooks are in force")
@click.option(
    "--project", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The folder of the project."
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def status_command(project: Path | None, as_json: bool) -> None:
    """Say for each coding agent whether its hooks are in its settings, whether its tool is pinned, and whether the service answers.

    It exits with 1 if hooks are written and would not hold. To see a call blocked: remit doctor --hooks.

    \b
    Examples:
      remit hook status
      remit hook status --json
    """
    from remit.cli.hook.installing import statuses

    found = statuses(project)
    ok = all(item.ok for item in found)
    if as_json:
        echo(json_text({"ok": ok, "clients": [item.as_json() for item in found]}))
        sys.exit(0 if ok else 1)
    for item in found:
        word = (
            style("in force", fg="green")
            if item.installed and item.ok
            else "not installed"
            if item.ok
            else style("does NOT hold", fg="red")
        )
        echo(f"{item.client}: {word}")
        for problem in item.problems:
            echo(f"  {problem}")
    sys.exit(0 if ok else 1)
