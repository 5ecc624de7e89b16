"""`remit settle`: a person records the outcome of a call whose outcome is unknown."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from remit.journal import InDoubt
    from remit.workspace import WorkspaceSession


@click.command("settle", short_help="record the outcome of a call whose outcome is unknown")
@click.argument("effect", required=False)
@click.option("--landed", "landed", flag_value="landed", help="The effect has happened: it is not done again.")
@click.option(
    "--not-landed", "landed", flag_value="not_landed", help="The effect has not happened: it may be done again."
)
@click.option("--reason", type=TEXT, help="How you know whether it has happened; recorded in the trace.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def settle_command(effect: str | None, landed: str | None, reason: str | None, as_json: bool) -> None:
    """Record whether an EFFECT (RUN, or RUN/STEP.INDEX) with unknown outcome has happened; without EFFECT, list them all.

    The outcome is unknown if the process died during an irreversible call. Until it is settled, the same call is refused.

    \b
    Examples:
      remit settle
      remit settle 3f2a/4.0 --landed --reason "it is in the bank's list"
      remit settle 3f2a/4.0 --not-landed --reason "the ticket is open"
    """
    from remit.workspace import open_session

    opened = open_session()
    if effect is None:
        _list(opened, as_json)
        return
    if landed is None or not reason:
        raise click.UsageError("check whether it happened, then add --landed or --not-landed, and --reason")
    run, doubt = _find_effect(opened, effect)
    _settle(opened, run, doubt, landed, reason)
    place = f"{run[:8]}/{doubt.step}.{doubt.index}"
    outcome = f"recorded: {doubt.action} of {place} has {'' if landed == 'landed' else 'not '}happened"
    following = "" if doubt.answered else f". Continue with: remit run --resume {run[:8]}"
    echo(json_text({"ok": True, "run": run, **asdict(doubt), "landed": landed}) if as_json else outcome + following)


def _settle(opened: WorkspaceSession, run: str, doubt: InDoubt, landed: str, reason: str) -> None:
    from remit.client import settle
    from remit.workspace import principal_of_process

    by = principal_of_process(opened.workspace.settings)
    settle(opened, opened.policy, run, doubt, landed=landed == "landed", by=by, reason=reason)


def _list(opened: WorkspaceSession, as_json: bool) -> None:
    from remit.journal import RunQuery, list_runs

    doubts = [(row.run, doubt) for row in list_runs(opened.journal, RunQuery(in_doubt=True)) for doubt in row.in_doubt]
    if as_json:
        echo(json_text([{"run": run, **asdict(doubt)} for run, doubt in doubts]))
        return
    for run, doubt in doubts:
        place = f"{run[:8]}/{doubt.step}.{doubt.index}"
        look = f'look whether it happened, then `remit settle {place} --landed --reason "…"`, or --not-landed'
        check = f"`remit run --resume {run[:8]}` lets the tool check"
        echo(f"{place}  {doubt.action}: outcome unknown; {look if doubt.answered else check}")
    if not doubts:
        echo("no effects with unknown outcome")


def _find_effect(opened: WorkspaceSession, name: str) -> tuple[str, InDoubt]:
    """The run and the effect that `name` names: RUN, or RUN/STEP.INDEX."""
    from remit.core import UsageError
    from remit.journal import StoredRecord, resolve_run

    run, _, place = name.partition("/")
    record = StoredRecord(opened.journal, resolve_run(opened.journal, run))
    doubts = record.state.in_doubt
    matches = [item for item in doubts if place in ("", f"{item.step}.{item.index}")]
    if len(matches) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in doubts) or "none"
        raise UsageError(
            f"{name!r} matches {len(matches)} effects with unknown outcome, not one; those of this run: {places}"
        )
    return record.run, matches[0]
