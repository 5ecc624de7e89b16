"""`remit agent`: a new agent, with the rules that let it use its tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.workspace import WorkspaceSession


@click.group("agent", short_help="write a new agent")
def agent_command() -> None:
    """Write a new agent. An agent is a folder with agent.toml and a prompt.

    \b
    Examples:
      remit agent new clerk --tools files,tickets
      remit agent new clerk --tools files,tickets --write
    """


@agent_command.command("new")
@click.argument("new_name", metavar="NAME")
@click.option("--tools", required=True, metavar="TOOL,…", help="The tools of the agent, with commas between them.")
@click.option("--user", help="The user that it acts for. Default: the user of this account.")
@click.option(
    "--approver", default="", metavar="ROLE", help="The role that rules for actions that cannot be undone ask."
)
@click.option("--write", is_flag=True, help="Write the files.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def new_command(new_name: str, tools: str, user: str | None, approver: str, write: bool, as_json: bool) -> None:
    """Write an agent that works: agent.toml, a prompt, a script for its model, rules for its tools, and cases for the rules.

    The rules allow what the manifests of its tools reach, and ask a person for each action that cannot be undone. The files are shown,
    and written with --write.

    \b
    Examples:
      remit agent new clerk --tools files,tickets
      remit agent new clerk --tools files --approver role:reviewer --write
    """
    from remit.analysis import draft_agent, edit_workspace
    from remit.cli.tool.changes import show_diff
    from remit.runtime import acting_subject
    from remit.workspace import open_session, principal_of_process

    opened = open_session(Path.cwd())
    by = principal_of_process(opened.workspace.settings)
    names = tuple(dict.fromkeys(name.strip() for name in tools.split(",") if name.strip()))
    made = draft_agent(opened, new_name, names, user=acting_subject(opened, by, user), approver=approver)
    if write:
        edit_workspace(opened.root, made.files, repin=made.unpinned)
    if as_json:
        body = {"unpinned": list(made.unpinned), "written": write, "diff": made.diff}
        echo(json_text({"ok": True, "files": list(made.files), **body}))
        return
    show_diff(made.diff)
    for tool in made.unpinned:
        echo(f"then review tools/{tool} and run: remit tool pin {tool}")
    options = "".join(f" --{name} {value}" for name, value in (("user", user), ("approver", approver)) if value)
    again = f"remit agent new {new_name} --tools {','.join(names)}{options} --write"
    echo(f"written; next:  {_first_steps(opened, new_name, names)}" if write else f"to write it: {again}")


def _first_steps(opened: WorkspaceSession, agent: str, tools: Sequence[str]) -> str:
    """A script stands for the model of a new agent, so its first call is made by hand."""
    actions = [f"{tool}.{action}" for tool in tools for action in opened.workspace.tools[tool].manifest.actions]
    run = f'with a model in agent.toml, remit run {agent} "…"'
    return f"remit call {actions[0]} '{{…}}' --agent {agent}; {run}" if actions else run
