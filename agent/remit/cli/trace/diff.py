"""`remit trace diff`: two runs side by side."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import is_file, open_run, open_run_of

if TYPE_CHECKING:
    from remit.tracing import Trace
    from remit.tracing.reports import BundleFiles, RunCost, RunDiff, RunDifference

SHOWN = 12  # differences after the first, and slower calls, on a terminal
LINES = 24  # of one diff


@click.command("diff")
@click.argument("run")
@click.argument("other", required=False)
@click.option("--good", is_flag=True, help="Compare with the last run of the same agent and task that completed.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff_command(run: str, other: str | None, good: bool, as_json: bool) -> None:
    """Where two runs part: first divergence, then decisions, arguments, results, latency and cost.

    Calls are aligned by what was asked of what, not by position or name. Times, run ids and UUIDs are not compared.
    Ends with 0 where both did the same, with 1 where they differ.

    \b
    Examples:
      remit trace diff 3f2a 9c1d
      remit trace diff 9c1d --good
      remit trace diff good.jsonl 9c1d
    """
    from remit.tracing.reports import build_timeline, diff_runs

    if good == (other is not None):
        raise click.UsageError("name another run, or write --good for the last one that completed")
    before, after = _open_last_good(run) if other is None else (open_run(run), open_run(other))
    found = diff_runs(build_timeline(before.records), build_timeline(after.records), files=_bundles_of(before, after))
    if as_json:
        echo(json_text({"ok": found.same, **asdict(found)}))
    else:
        _show(found)
    sys.exit(0 if found.same else 1)


def _open_last_good(run: str) -> tuple[Trace, Trace]:
    """The last good run before `run`, and `run`."""
    from remit.core import UsageError
    from remit.tracing.reports import last_good_run
    from remit.workspace import open_session

    opened = open_session()
    runs = opened.journal.runs()
    after = open_run_of(opened, run)
    row = next((row for row in runs if row.run == after.run), None)
    if row is None:
        where = f"{run!r} is no run of this workspace" if is_file(run) else f"the journal has no run {run}"
        raise UsageError(f"{where}, so nothing says which run came before it: name the other one")
    return open_run_of(opened, last_good_run(runs, row).run), after


def _bundles_of(a: Trace, b: Trace) -> tuple[BundleFiles, BundleFiles] | None:
    """The rulebooks that the runs began with; None where one of them is not here."""
    from remit.core import UsageError

    try:
        return next(iter(a.bundles().values())), next(iter(b.bundles().values()))
    except (UsageError, StopIteration):
        return None


def _show(found: RunDiff) -> None:
    echo(f"{found.a[:8]} and {found.b[:8]}: {_count(found.aligned, 'call')} side by side")
    for changed in found.changed:
        echo(f"\n{style('changed', fg='yellow')} {changed.name}")
        _show_diff(changed.diff)
    if found.first is None:
        echo(f"\n{style('no divergence', fg='green')}: both made the same calls, with the same results")
    else:
        echo(f"\n{style('first divergence', fg='red', bold=True)} {_line(found.first)}")
        _show_diff(found.first.diff)
        rest = found.differences[1:]
        echo("\nthen" if rest else "\nthen nothing else")
        for difference in rest[:SHOWN]:
            echo(f"  {_line(difference)}")
        if len(rest) > SHOWN:
            echo(f"  … and {len(rest) - SHOWN} more: --json lists them all")
    for a, b in found.moved[:SHOWN]:
        echo(f"moved: {a} is {b}")
    for slow in found.slower[:SHOWN]:
        times = f"{slow.after / slow.before:.0f} times" if slow.before else "from nothing"
        echo(
            f"slower: {slow.b or ''} {slow.name}: {slow.before:.2f} s is {slow.after:.2f} s, {times}".replace("  ", " ")
        )
    before, after = found.costs
    echo(f"\ncost   {_cost(before)}\n    is {_cost(after)}")


def _line(difference: RunDifference) -> str:
    places = [place for place in dict.fromkeys((difference.a, difference.b)) if place]
    where = f"at step {' / '.join(places)}, " if places else ""
    return f"{where}{difference.kind}: {_short(difference.what)}"


def _show_diff(lines: tuple[str, ...]) -> None:
    colours = {"+": "green", "-": "red"}
    for line in lines[:LINES]:
        echo("    " + style(clipped(line), fg=colours.get(line[:1])))


def _cost(cost: RunCost) -> str:
    tokens = "tokens not counted" if cost.input_tokens is None else f"{cost.input_tokens} + {cost.output_tokens} tokens"
    counts = f"{_count(cost.turns, 'turn')}, {_count(cost.calls, 'call')}, {_count(cost.attempts, 'attempt')}, {tokens}"
    return f"{counts}, {cost.seconds:.1f} s ({cost.thinking:.1f} s the model, {cost.calling:.1f} s the calls)"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    from remit.cli.live_output import short

    return short(text, 160)


def clipped(line: str, width: int = 160) -> str:
    """One line of a diff with its indentation, hidden characters written out, folded honestly."""
    from remit.guardrails import visible

    shown = visible(line.rstrip())
    return shown if len(shown) <= width else f"{shown[:width]}… (+{len(shown) - width})"
