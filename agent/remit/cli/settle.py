"""`remit settle`: a person says what came of an effect whose end nobody saw."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from remit.broker import InDoubt
    from remit.workspace import WorkspaceSession


@click.command("settle", short_help="say what came of an effect whose end nobody saw")
@click.argument("effect", required=False)
@click.option("--landed", "landed", flag_value="landed", help="It has happened: nothing does it a second time.")
@click.option("--not-landed", "landed", flag_value="not_landed", help="It has not happened: it may be done.")
@click.option("--reason", type=TEXT, help="How you know; it stays in the trace.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def settle_command(effect: str | None, landed: str | None, reason: str | None, as_json: bool) -> None:
    """Say what came of an EFFECT (RUN, or RUN/STEP.INDEX) whose end nobody saw; without one, list those in doubt.

    A process that dies in the middle of an irreversible call leaves it so. Until it is settled, nothing does the same again.

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
        raise click.UsageError("say what you found and how: --landed or --not-landed, and --reason …")
    found = _named(opened, effect)
    _settle(opened, found, landed, reason)
    said = f"{found.action} of {found.run[:8]}/{found.step}.{found.index} has {'' if landed == 'landed' else 'not '}happened"
    goes_on = "" if found.answered else f"; goes on with: remit run --resume {found.run[:8]}"
    echo(json_text({"ok": True, **asdict(found), "landed": landed}) if as_json else said + goes_on)


def _settle(opened: WorkspaceSession, found: InDoubt, landed: str, reason: str) -> None:
    from remit.broker import settle_effect
    from remit.journal import Record, lock_run
    from remit.workspace import os_account, subject_of

    account = os_account()
    # An open call may be at work this very moment: only its own process would know.
    with nullcontext() if found.answered else lock_run(opened.traces, found.run):
        settle_effect(
            Record(opened.journal, found.run),
            found.step,
            found.index,
            landed="landed" if landed == "landed" else "not_landed",
            person=subject_of(opened.workspace.settings, account),
            account=account,
            reason=reason,
        )


def _list(opened: WorkspaceSession, as_json: bool) -> None:
    from remit.broker import effects_in_doubt, runs_in_doubt
    from remit.journal import Record

    found = [item for run in runs_in_doubt(opened.journal) for item in effects_in_doubt(Record(opened.journal, run))]
    if as_json:
        echo(json_text([asdict(item) for item in found]))
        return
    for item in found:
        state = "the agent was told so" if item.answered else f"remit run --resume {item.run[:8]} looks for itself"
        echo(f"{item.run[:8]}/{item.step}.{item.index}  {item.action} may have happened; {state}")
    if not found:
        echo("no effect is in doubt")


def _named(opened: WorkspaceSession, name: str) -> InDoubt:
    from remit.broker import effects_in_doubt
    from remit.core import UsageError
    from remit.journal import Record

    run, _, place = name.partition("/")
    record = Record(opened.journal, opened.journal.resolve_run(run))
    every = effects_in_doubt(record)
    found = [item for item in every if place in ("", f"{item.step}.{item.index}")]
    if len(found) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in every) or "none"
        raise UsageError(f"{name!r} names {len(found)} effects; in doubt in that run: {places}")
    return found[0]
