"""`remit allow`: the complete change of the workspace with which a refused call would pass."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import open_for_person
from remit.cli.tool.changes import show_diff

if TYPE_CHECKING:
    from remit.analysis import CallToAllow, Patch
    from remit.workspace import WorkspaceSession

_PLACE: Final = re.compile(r"(.+)/([0-9]{1,6})\.([0-9]{1,6})", re.DOTALL)


@click.command("allow", short_help="the change that would let a refused call pass")
@click.argument("call", metavar="ACTION|RUN/STEP.INDEX")
@click.argument("arguments", required=False)
@click.option("--agent", help="With ACTION: the agent that makes the call.")
@click.option("--user", help="With ACTION: the user that it acts for. Default: the user of this account.")
@click.option(
    "--approver", default="", metavar="ROLE", help="The role that a new rule for an action that cannot be undone asks."
)
@click.option("--write", is_flag=True, help="Write the change.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def allow_command(
    call: str, arguments: str | None, agent: str | None, user: str | None, approver: str, write: bool, as_json: bool
) -> None:
    """Print the smallest change of agent.toml, tool.toml and the rules with which a call passes.

    CALL is an action with its ARGUMENTS (a JSON object), or a recorded call. The change is tried in a copy of the workspace: there the
    call is decided again. A call that a rule denies, or that a condition limits, gets no change. Exit code 1 if a case would no longer hold.

    \b
    Examples:
      remit allow files.read '{"path": "docs/plan.md"}' --agent triage
      remit allow 3f2a/2.0
      remit allow 3f2a/2.0 --write
    """
    from remit.analysis import edit_workspace

    opened = open_for_person()
    given = (
        _recorded(opened, match) if (match := _PLACE.fullmatch(call)) else _named(opened, call, arguments, agent, user)
    )
    patch = draft_patch(opened, given, approver)
    if write and patch.changes:
        edit_workspace(opened.root, patch.files, repin=patch.repin)
    if as_json:
        echo(json_text({"ok": not patch.broken, "written": write, **patch_body(patch)}))
    else:
        show_patch(patch, write=f"remit allow {_command(call, arguments, agent, user)} --write", written=write)
    if patch.broken:
        raise SystemExit(1)


def draft_patch(opened: WorkspaceSession, call: CallToAllow, approver: str = "") -> Patch:
    """The change with which the call passes. Raises UsageError if there is none."""
    from remit.analysis import draft_for_call

    return asyncio.run(draft_for_call(opened, call, approver=approver))


def place_of(opened: WorkspaceSession, run: str, step: int, index: int) -> CallToAllow:
    """The recorded call at that place of the run."""
    from remit.analysis import recorded_call
    from remit.analysis.diff import working_tree
    from remit.journal import resolve_run

    records = opened.journal.events(resolve_run(opened.journal, run))
    return recorded_call(records, (step, index), working_tree(opened.root).rule_set())


# Codes of calls that another workspace would let pass.
_CHANGEABLE: Final = ("unknown_action", "policy_denied", "sandbox_violation")
_BY_TOOL: Final = ("tool_failed", "tool_crashed")  # a tool may fail because a request of it was refused


def allowing(opened: WorkspaceSession, run: str, step: int, index: int, code: str) -> dict[str, Any] | None:
    """The change that would let a refused call of the run pass, with the command that writes it; None if there is none.

    If no change of rules helps, `advice` is what a person can do.
    """
    from remit.analysis import NotByRules
    from remit.core import RemitError

    if code not in (*_CHANGEABLE, *_BY_TOOL):
        return None
    try:
        call = place_of(opened, run, step, index)
        if code in _BY_TOOL and call.refused is None:
            return None
        patch = draft_patch(opened, call)
    except NotByRules as why:
        return {"advice": str(why)}
    except RemitError:  # the call stays refused, and its own result says why
        return None
    return {"command": f"remit allow {run[:8]}/{step}.{index} --write", **patch_body(patch)} if patch.changes else None


def show_allowing(allow: dict[str, Any]) -> None:
    """Print what `allowing` has found."""
    if "advice" in allow:
        echo(f"  {allow['advice']}")
        return
    echo("  this change would let it pass:\n")
    for line in allow["diff"].splitlines():
        echo(f"  {line}")
    echo(f"\n  to write it: {allow['command']}")


def _recorded(opened: WorkspaceSession, match: re.Match[str]) -> CallToAllow:
    return place_of(opened, match[1], int(match[2]), int(match[3]))


def _named(
    opened: WorkspaceSession, action: str, arguments: str | None, agent: str | None, user: str | None
) -> CallToAllow:
    from remit.analysis import CallToAllow
    from remit.runtime import acting_subject
    from remit.workspace import principal_of_process

    if arguments is None or agent is None:
        raise click.UsageError('name a call: remit allow ACTION \'{"key": "value"}\' --agent AGENT, or RUN/STEP.INDEX')
    by = principal_of_process(opened.workspace.settings)
    subject = acting_subject(opened, by, user)
    return CallToAllow(agent=agent.removeprefix("agent:"), user=subject, action=action, arguments=arguments)


def patch_body(patch: Patch) -> dict[str, Any]:
    """The patch for JSON output."""
    body = {key: value for key, value in asdict(patch).items() if key != "changes"}
    return {**body, "files": [change.file for change in patch.changes], "diff": patch.diff}


def show_patch(patch: Patch, *, write: str, written: bool = False) -> None:
    """Print the change and what it leads to. `write` is the command that writes it."""
    if not patch.changes:
        echo(f"the call needs no change: {patch.message}")
        return
    show_diff(patch.diff)
    people = "; ".join(f"{role} ({', '.join(who)})" for role, who in patch.asks)
    echo(
        f"with this change the call {f'waits for the approval of {people}' if people else 'is allowed'}, as decided in a copy"
    )
    for note in patch.broken:
        echo(style(f"contradicts a case: {note}", fg="red"))
    for tool in patch.repin:
        echo(f"then review tools/{tool} and run: remit tool pin {tool}")
    echo("written" if written else f"to write it: {write}")


def _command(call: str, arguments: str | None, agent: str | None, user: str | None) -> str:
    from shlex import quote

    if arguments is None:
        return call
    return f"{call} {quote(arguments)} --agent {agent}{f' --user {user}' if user else ''}"
