"""`remit rollout`: a change of an agent takes effect step by step, and is taken back when it does harm."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, progress, style
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.core import Principal
    from remit.core.events import BarEvidence, RolloutCompared
    from remit.evals import Changes, RolloutPlan
    from remit.journal import RolloutState
    from remit.workspace import WorkspaceSession

BARS = ("refused", "failed", "asked", "slow", "costly", "in_doubt", "violation")
OFFLINE = ("backtest", "counterfactual")  # stages in which recorded runs are compared
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
HARM = ((0.02, 0.2), (0.02, 0.06))  # the chances before and after, for which `open` says how long they go unnoticed


@click.group("rollout", short_help="let a change of an agent take effect step by step")
def rollout_command() -> None:
    """Let a change of an agent, its model, prompt, tools or rules take effect step by step, and take it back when it does harm.

    \b
    Examples:
      remit rollout open triage --candidate ../candidate
      remit rollout show
      remit rollout widen triage
      remit rollout rollback triage --reason "customers complain"
    """


@rollout_command.command("open")
@click.argument("agent")
@click.option("--candidate", type=FOLDER, help="A folder with the changed workspace, such as a git worktree.")
@click.option("--model", help="The workspace on disk with another model: openai:gpt-5.")
@click.option("--prompt", type=FILE, help="The workspace on disk with the prompt in this file.")
@click.option("--policy", type=FOLDER, help="The workspace on disk with the rules of this folder or workspace.")
@click.option("--tools", type=FOLDER, help="The workspace on disk with the tools of another one: its folder `tools`.")
@click.option(
    "--share",
    "shares",
    multiple=True,
    type=float,
    default=(10, 50),
    show_default=True,
    help="The percentage of a canary stage.",
)
@click.option("--skip", multiple=True, type=click.Choice((*OFFLINE, "shadow")), help="Leave out this stage.")
@click.option("--bar", "bars", multiple=True, type=click.Choice(BARS), help="Compare only this. Default: all.")
@click.option("--hard", multiple=True, type=click.Choice(BARS), help="Roll back at the first run with this.")
@click.option("--slow", type=float, metavar="SECONDS", help="A run above this is slow. Default: p95 of recent runs.")
@click.option("--costly", type=float, metavar="MONEY", help="A run above this is costly. Default: the median.")
@click.option("--by-run", is_flag=True, help="Assign each run to an arm, instead of each user with all of their runs.")
@click.option("--alpha", type=click.FloatRange(0.0001, 0.5), default=0.05, show_default=True, help="The most chance to roll back a candidate that is no worse.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def open_command(agent: str, as_json: bool, **options: Any) -> None:
    """Open a rollout for AGENT, of the workspace in a folder or of that on disk with changes. No run has it before its stage canary.

    The rules must allow you the action remit.rollout on agent:AGENT. Prints after how many runs a harm is noticed.

    \b
    Examples:
      remit rollout open triage --candidate ../candidate
      remit rollout open triage --model openai:gpt-5 --share 5 --share 25 --hard failed
    """
    from remit.evals import open_for

    opened, by = _opened()
    rollout = open_for(opened, agent, _tried(options), _plan(options), by=by)
    if as_json:
        echo(json_text({"ok": True, **_as_json(rollout, ()), "delays": _delays(rollout)}))
        return
    _print_state(rollout, ())
    if missing := [name for name in BARS if name not in {bar.name for bar in rollout.opened.bars}]:
        echo(f"  not compared: {', '.join(missing)}")
    for line in _delay_lines(rollout):
        echo(f"  {line}")
    echo(f"next:  {_next_command(rollout)}")


def _tried(options: dict[str, Any]) -> Path | Changes:
    """The candidate that the options name. Raises UsageError for none or two."""
    from remit.evals import Changes

    changes = Changes(**{name: options[name] for name in ("model", "prompt", "policy", "tools")})
    folder: Path | None = options["candidate"]
    if (folder is None) == (changes == Changes()):
        raise click.UsageError("name what is tried: either --candidate FOLDER, or --model, --prompt, --policy, --tools")
    return folder or changes


def _plan(options: dict[str, Any]) -> RolloutPlan:
    from remit.evals import RolloutPlan

    named = {name: options[name] for name in ("skip", "hard", "slow", "costly", "by_run", "alpha")}
    return RolloutPlan(shares=[share / 100 for share in options["shares"]], bars=options["bars"] or None, **named)


@rollout_command.command("show")
@click.argument("rollout", required=False)
@click.option("--limit", default=10, show_default=True, help="How many of the latest rollouts to list.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_command(rollout: str | None, limit: int, as_json: bool) -> None:
    """Show one ROLLOUT (its id, or an agent) with its evidence; without it, the latest ones. A broken bar is noticed here too.

    \b
    Examples:
      remit rollout show
      remit rollout show triage
      remit rollout show 3f2a91c0 --json
    """
    from remit.evals import comparisons_of
    from remit.journal import list_rollouts
    from remit.rollout import check_bars, evidence_of, named_rollout

    opened, _ = _opened()
    journal = opened.journal
    listed = list_rollouts(journal, limit=limit) if rollout is None else [named_rollout(journal, rollout)]
    states = [check_bars(journal, state.id) for state in listed]
    found = [(state, evidence_of(journal, state) if state.ended is None else state.ended.evidence) for state in states]
    if as_json:
        shown = [_as_json(state, evidence) for state, evidence in found]
        echo(json_text(shown if rollout is None else shown[0]))
        return
    for state, evidence in found:
        _print_state(state, evidence)
        for compared in comparisons_of(journal, state):
            echo(f"  {_compared_text(compared)}")
    if not found:
        echo("no rollout was opened here")


@rollout_command.command("compare")
@click.argument("rollout")
@click.option("--limit", type=click.IntRange(1), help="How many of the latest runs. Default: 200, and 20 to play.")
@click.option("--money", type=float, help="Play no further run once the models of the candidate have cost so much.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare_command(rollout: str, limit: int | None, money: float | None, as_json: bool) -> None:
    """Try the candidate of ROLLOUT (its id, or an agent) on recorded runs, without any effect, as its stage says.

    In the stage backtest its rules decide the recorded calls again. In the stage counterfactual it plays finished runs again.

    \b
    Examples:
      remit rollout compare triage
      remit rollout compare 3f2a91c0 --limit 1000
      remit rollout compare triage --money 5
    """
    from remit.core import UsageError
    from remit.evals import backtest, play_finished_runs
    from remit.rollout import named_rollout

    opened, by = _opened()
    found = named_rollout(opened.journal, rollout)
    if found.ended is not None or found.stage.name not in OFFLINE:
        raise UsageError(f"rollout {found.id} is in no stage in which recorded runs are compared")
    if found.stage.name == "backtest":
        compared = backtest(opened, found, by=by, limit=limit or 200, progress=_progress)
    else:
        work = play_finished_runs(opened, found, by=by, limit=limit or 20, money=money, progress=_progress)
        compared = asyncio.run(work)
    if as_json:
        echo(json_text(compared.model_dump(mode="json")))
        return
    echo(_compared_text(compared))
    echo(f"next:  remit rollout widen {found.id}")


def _progress(done: int, every: int) -> None:
    if sys.stderr.isatty():
        progress(f"{done} of {every} runs ")


def _compared_text(compared: RolloutCompared) -> str:
    counts = ", ".join(f"{count} {way}" for way, count in compared.counts.items()) or "no difference"
    return f"{compared.stage}: {compared.different} of {compared.runs} runs differ: {counts}"


@rollout_command.command("widen")
@click.argument("rollout")
@click.option("--least", default=20, show_default=True, help="How many runs must have ended in this stage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def widen_command(rollout: str, least: int, as_json: bool) -> None:
    """Move ROLLOUT (its id, or an agent) to its next stage; from the last one, finish it. The rules must allow you the action remit.rollout.

    \b
    Examples:
      remit rollout widen triage
      remit rollout widen 3f2a91c0 --least 100
    """
    from remit.client import Remit
    from remit.rollout import evidence_of

    client = Remit.open()
    moved = client.widen_rollout(rollout, least=least)
    evidence = evidence_of(client.session.journal, moved)
    if as_json:
        echo(json_text({"ok": True, **_as_json(moved, evidence), "delays": _delays(moved)}))
        return
    _print_state(moved, evidence)
    for line in _delay_lines(moved):
        echo(f"  {line}")


@rollout_command.command("rollback")
@click.argument("rollout")
@click.option("--reason", type=TEXT, required=True, help="Why you take the candidate back; recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def rollback_command(rollout: str, reason: str, as_json: bool) -> None:
    """Take the candidate of ROLLOUT (its id, or an agent) back. Everybody may do this. New runs have the files on disk, and its rules decide no call more.

    \b
    Examples:
      remit rollout rollback 3f2a91c0 --reason "customers complain"
    """
    from remit.client import Remit

    taken = Remit.open().roll_back(rollout, reason=reason)
    echo(json_text({"ok": True, **_as_json(taken, ())}) if as_json else f"rollout {taken.id} is rolled back")


def _opened() -> tuple[WorkspaceSession, Principal]:
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    return opened, principal_of_process(opened.workspace.settings)


def _as_json(rollout: RolloutState, evidence: Sequence[BarEvidence]) -> dict[str, Any]:
    return {
        "rollout": rollout.id,
        "status": rollout.status,
        "number": rollout.number,
        "stage": rollout.stage.model_dump(mode="json"),
        "opened": rollout.opened.model_dump(mode="json"),
        "ended": None if rollout.ended is None else rollout.ended.model_dump(mode="json"),
        "evidence": [{**item.model_dump(mode="json"), "broken": item.broken} for item in evidence],
    }


def _print_state(rollout: RolloutState, evidence: Sequence[BarEvidence]) -> None:
    from remit.rollout import evidence_text

    opened, stage = rollout.opened, rollout.stage
    status = rollout.status.replace("_", " ")
    colour = {"open": "yellow", "rolled_back": "red", "finished": "green"}[rollout.status]
    share = f", {stage.share:.0%} of {opened.unit}s have the candidate" if stage.share and rollout.ended is None else ""
    at = f"stage {rollout.number + 1} of {len(opened.stages)}: {stage.name}"
    echo(f"{rollout.id}  {opened.agent}  {style(status, fg=colour)}  {at}{share}")
    if reason := getattr(rollout.ended, "reason", ""):
        echo(f"  {reason}")
    echo(f"  changes {', '.join(opened.changes)}; candidate {opened.candidate[:15]}")
    for item in evidence:
        echo(f"  {style('broken', fg='red') if item.broken else 'holds'}  {evidence_text(item)}")


def _delays(rollout: RolloutState) -> list[dict[str, Any]]:
    """After how many runs each canary stage notices that something happens more often."""
    from remit.rollout import evidence_limit, expected_delay

    limit = evidence_limit(rollout.opened)
    return [
        {
            "share": stage.share,
            "before": before,
            "after": after,
            **vars(expected_delay(stage.share, limit, before, after)),
        }
        for stage in rollout.opened.stages[rollout.number :]
        if stage.name == "canary"
        for before, after in HARM
    ]


def _delay_lines(rollout: RolloutState) -> list[str]:
    unit = "" if rollout.opened.unit == "run" else " of different users"
    return [
        f"at {delay['share']:.0%}, what rises from {delay['before']:.0%} to {delay['after']:.0%} of runs is rolled back after "
        f"{_runs(delay['half'])}{unit}, in 95 of 100 cases after {_runs(delay['most'])}"
        for delay in _delays(rollout)
    ]


def _runs(number: int | None) -> str:
    return "more than 20,000 runs" if number is None else f"about {number} runs"


def _next_command(rollout: RolloutState) -> str:
    verb = "compare" if rollout.stage.name in OFFLINE else "widen"
    return f"remit rollout {verb} {rollout.id}"
