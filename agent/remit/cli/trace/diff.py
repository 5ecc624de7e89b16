"""`remit trace diff`: compares two runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from remit.cli.output import counted, echo, json_text, style
from remit.cli.run_argument import open_run

if TYPE_CHECKING:
    from remit.tracing import Trace
    from remit.tracing.reports import BundleFiles, RunCost, RunDiff, RunDifference

SHOWN = 12  # differences after the first, and slower calls, on a terminal
LINES = 24  # shown of one diff


@click.command("diff")
@click.argument("run")
@click.argument("other", required=False)
@click.option("--last-good", is_flag=True, help="Compare with the last completed run of the same agent and task.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff_command(run: str, other: str | None, last_good: bool, as_json: bool) -> None:
    """Show where two runs differ: the first divergence, then all other differences, latency and cost.

    Calls are paired by action, arguments, resources and result, not by position. Times, run ids and UUIDs are not compared.

    Exit codes: 0 both runs did the same, 1 they differ.

    \b
    Examples:
      remit trace diff 3f2a 9c1d
      remit trace diff 9c1d --last-good
      remit trace diff good.jsonl 9c1d
    """
    from remit.tracing.reports import build_timeline, diff_runs

    if last_good == (other is not None):
        raise click.UsageError("name a second run or add --last-good, but not both")
    before, after = _open_last_good(run) if other is None else (open_run(run), open_run(other))
    diff = diff_runs(build_timeline(before.records), build_timeline(after.records), files=_bundles_of(before, after))
    if as_json:
        echo(json_text({"ok": diff.same, **asdict(diff)}))
    else:
        _show(diff)
    sys.exit(0 if diff.same else 1)


def _open_last_good(run: str) -> tuple[Trace, Trace]:
    """The last good run before `run`, and `run`."""
    from remit.client import open_trace_of
    from remit.core import UsageError
    from remit.journal import find_run
    from remit.tracing import is_trace_file
    from remit.tracing.reports import last_good_run
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    after = open_trace_of(opened, run, by=by)
    row = find_run(opened.journal, after.run)
    if row is None:
        where = f"{run!r} is not a run of this workspace" if is_trace_file(run) else f"the journal has no run {run}"
        raise UsageError(f"{where}, so its last good run is unknown: name the second run")
    return open_trace_of(opened, last_good_run(opened.journal, row).run, by=by), after


def _bundles_of(a: Trace, b: Trace) -> tuple[BundleFiles, BundleFiles] | None:
    """The policy bundles that the runs started with; None if one of them is not available."""
    from remit.core import UsageError

    try:
        return next(iter(a.bundles().values())), next(iter(b.bundles().values()))
    except (UsageError, StopIteration):
        return None


def _show(diff: RunDiff) -> None:
    echo(f"{diff.a[:8]} and {diff.b[:8]}: {counted(diff.aligned, 'call')} in both runs")
    for changed in diff.changed:
        echo(f"\n{style('changed', fg='yellow')} {changed.name}")
        _show_diff(changed.diff)
    show_differences(diff)
    for a, b in diff.moved[:SHOWN]:
        echo(f"moved: was {a}, now {b}")
    for slow in diff.slower[:SHOWN]:
        place = f"{slow.b} " if slow.b else ""
        times = f" ({slow.after / slow.before:.0f} times)" if slow.before else ""
        echo(f"slower: {place}{slow.name}: was {slow.before:.2f} s, now {slow.after:.2f} s{times}")
    before, after = diff.costs
    echo(f"\ncost was  {_cost(before)}\ncost now  {_cost(after)}")


def show_differences(diff: RunDiff) -> None:
    """Print the first difference in full, and a line for each other one."""
    if diff.first is None:
        echo(f"\n{style('no divergence', fg='green')}: both runs made the same calls, with the same results")
    else:
        echo(f"\n{style('first divergence', fg='red', bold=True)} {_line(diff.first)}")
        _show_diff(diff.first.diff)
        rest = diff.differences[1:]
        echo("\nmore differences" if rest else "\nno more differences")
        for difference in rest[:SHOWN]:
            echo(f"  {_line(difference)}")
        if len(rest) > SHOWN:
            echo(f"  … and {len(rest) - SHOWN} more: --json lists all of them")


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
    counts = (
        f"{counted(cost.turns, 'turn')}, {counted(cost.calls, 'call')}, {counted(cost.attempts, 'attempt')}, {tokens}"
    )
    return f"{counts}, {cost.seconds:.1f} s (model {cost.thinking:.1f} s, calls {cost.calling:.1f} s)"


def _short(text: str) -> str:
    from remit.cli.live_output import short

    return short(text, 160)


def clipped(line: str, width: int = 160) -> str:
    """One line of a diff with its indentation; hidden characters are written as numbers, a long line says what it lost."""
    from remit.guardrails import with_visible_characters

    shown = with_visible_characters(line.rstrip())
    return shown if len(shown) <= width else f"{shown[:width]}… (+{len(shown) - width})"
