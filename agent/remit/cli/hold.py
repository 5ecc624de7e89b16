"""`remit stop` and `remit start`: an operator sets a hold and lifts it."""

from __future__ import annotations

from collections.abc import Mapping

import click

from remit.cli.output import echo, json_text
from remit.cli.text_argument import TEXT


def _scope(run: str | None, agent: str | None, tool: str | None, everything: bool) -> str:
    """The one scope that the options name. Raises UsageError for none or several."""
    scopes = [
        *([f"run:{run}"] if run else []),
        *([f"agent:{agent}"] if agent else []),
        *([f"tool:{tool}"] if tool else []),
        *(["all"] if everything else []),
    ]
    if len(scopes) != 1:
        raise click.UsageError("give exactly one of: RUN, --agent NAME, --tool NAME, --all")
    return scopes[0]


def _check_exists(name: str | None, known: Mapping[str, object], what: str) -> None:
    """Raise UsageError for a name that does not exist: a hold on a misspelled name would hold nothing, silently."""
    if name is not None and name not in known:
        from remit.core import one_of, spelled

        raise click.UsageError(f"there is no {what} {spelled(name)} here: {one_of(name, known)}")


@click.command("stop", short_help="hold a run, an agent, a tool, or everything")
@click.argument("run", required=False)
@click.option("--agent", help="Hold every run of this agent.")
@click.option("--tool", help="Hold every call of this tool.")
@click.option("--all", "everything", is_flag=True, help="Hold everything.")
@click.option("--reason", type=TEXT, help="Why you hold it. The model and the trace show this text.")
@click.option("--list", "listed", is_flag=True, help="List the holds in force.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def stop_command(
    run: str | None,
    agent: str | None,
    tool: str | None,
    everything: bool,
    reason: str | None,
    listed: bool,
    as_json: bool,
) -> None:
    """Hold a RUN, an agent, a tool, or everything. Running calls are killed within a second, and no new call starts.

    The outcome of a killed call is recorded as unknown, as after a crash. To continue a held run: remit start, then
    remit run --resume RUN.

    \b
    Examples:
      remit stop 3f2a --reason "wrong cluster"
      remit stop --tool tickets --reason "ticket system is down"
      remit stop --list
    """
    from remit.broker import set_hold
    from remit.journal import resolve_run
    from remit.workspace import authorize_hold, open_session, principal_of_process

    opened = open_session()
    if listed:
        holds = opened.journal.holds()
        if as_json:
            echo(json_text([item.model_dump(mode="json") for item in holds.values()]))
        else:
            for scope, item in holds.items():
                echo(f"{scope}  {item.by.account}: {item.reason}")
            if not holds:
                echo("no hold is in force")
        return
    if not reason:
        raise click.UsageError("a hold needs a reason: --reason …")
    run = resolve_run(opened.journal, run) if run else None
    _check_exists(agent, opened.workspace.agents, "agent")
    _check_exists(tool, opened.workspace.tools, "tool")
    by, scope = principal_of_process(opened.workspace.settings), _scope(run, agent, tool, everything)
    authorize_hold(opened.policy, opened.journal, scope, by, f"hold {scope}")
    held = set_hold(opened.journal, scope, why=reason, by=by)
    echo(
        json_text(held.model_dump(mode="json"))
        if as_json
        else f"{held.scope} is held; to lift the hold, use remit start with the same scope"
    )


@click.command("start", short_help="lift a hold")
@click.argument("run", required=False)
@click.option("--agent", help="Lift the hold on this agent.")
@click.option("--tool", help="Lift the hold on this tool.")
@click.option("--all", "everything", is_flag=True, help="Lift the hold on everything.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def start_command(run: str | None, agent: str | None, tool: str | None, everything: bool, as_json: bool) -> None:
    """Lift a hold. To continue a run that paused: remit run --resume RUN.

    \b
    Examples:
      remit start 3f2a
      remit start --tool tickets
    """
    from remit.broker import lift_hold
    from remit.journal import resolve_run
    from remit.workspace import authorize_hold, open_session, principal_of_process

    opened = open_session()
    run = resolve_run(opened.journal, run) if run else None
    scope = _scope(run, agent, tool, everything)
    by = principal_of_process(opened.workspace.settings)
    authorize_hold(opened.policy, opened.journal, scope, by, f"lift the hold on {scope}")
    lift_hold(opened.journal, scope, by=by)
    echo(json_text({"ok": True, "scope": scope}) if as_json else f"{scope} is no longer held")
