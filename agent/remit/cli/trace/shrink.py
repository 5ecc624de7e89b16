"""`remit trace shrink`: finds the smallest run that still fails in the same way, and writes a test for it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import counted, echo, json_text, progress, style
from remit.cli.run_argument import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.replay import ShrinkResult
    from remit.tracing import Trace

TEST: Final = '''"""Regression test of an incident, written by `remit trace shrink`: run {run}, reduced from {before} to {after} steps.

It fails while today's rules or tools still produce the failure {failing}.
"""

import subprocess
import sys
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent{up}
GOLDEN = {golden!r}
FAILURE = {failing!r}


def test_{name}_does_not_come_back() -> None:
    command = [sys.executable, "-P", "-m", "remit", "replay", GOLDEN, {change}, "--fixed", FAILURE]
    done = subprocess.run(command, cwd=WORKSPACE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
'''

# The options with which the test checks the failure: today's rules; or, if a tool failed, live reads with today's tools.
BY_RULES: Final = '"--policy", "."'
BY_TOOLS: Final = '"--tools", ".", "--live-reads"'
OF_TOOLS: Final = frozenset({"tool_failed", "tool_crashed", "invalid_output", "timeout", "resource_exhausted"})


@click.command("shrink")
@click.argument("run")
@click.option(
    "--keep",
    metavar="FAILURE",
    help="The failure to keep: code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:…] or final~REGEX.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the smaller run to this file."
)
@click.option(
    "--to-test",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a golden trace, and a test in this file that replays it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def shrink_command(run: str, keep: str | None, output: Path | None, to_test: Path | None, as_json: bool) -> None:
    """Find the smallest run that still fails in the same way, by leaving out calls, attempts and outputs of RUN.

    No tool runs: each smaller run is replayed from the record, under the run's own rules.

    \b
    Examples:
      remit trace shrink 3f2a --keep code=policy_denied:files.read
      remit trace shrink 3f2a --keep decision=ask -o small.jsonl
      remit trace shrink 3f2a --keep code=budget_exhausted --to-test tests/test_incident.py
    """
    from remit.replay import shrink
    from remit.runtime import new_run_id
    from remit.tracing.reports import SELECTOR_FORMS, find_failures, parse_failure_selector
    from remit.workspace import open_bundles

    trace = open_run(run)
    if keep is None:
        failures = "; ".join(find_failures(trace.records)) or "none"
        raise click.UsageError(f"name the failure to keep: --keep {SELECTOR_FORMS}; failures of the run: {failures}")
    broken = [fault for fault in trace.faults() if fault.broken]
    if broken:
        raise click.UsageError(
            f"the trace of this run fails its integrity check: {broken[0]}; see `remit trace verify`"
        )
    golden = None if to_test is None else _golden(to_test)
    for path in (output, to_test, golden):
        if path is not None and path.exists():
            raise click.UsageError(f"{str(path)!r} already exists: remove it, or name another file")
    work = shrink(
        trace.records,
        open_bundles(trace.bundles()),
        parse_failure_selector(keep),
        run=new_run_id(),
        on_progress=_progress(as_json),
    )
    shrunk = asyncio.run(work)
    smaller = _trace_of(shrunk, trace)
    written: list[str] = []
    if output is not None:
        written.append(_write(smaller, output))
    if to_test is not None and golden is not None:
        written += [_write(smaller, golden), _write_test(to_test, golden, shrunk, trace.run, keep)]
    if as_json:
        body = {"run": smaller.run, "from": trace.run, "keeps": keep, "parts": _parts(shrunk), "written": written}
        echo(json_text({"ok": True, **body, "before": shrunk.before, "tries": shrunk.tries}))
    else:
        _show(shrunk, keep, written)


def _progress(as_json: bool) -> Callable[[int, int], None]:
    """A function that shows on a terminal how many calls are left; shrinking a long run takes a while."""
    is_shown = sys.stderr.isatty() and not as_json

    def show(left: int, total: int) -> None:
        if is_shown:
            progress(f"{left} of {total} calls left  ")

    return show


def _workspace() -> Path:
    from remit.workspace import find_workspace

    return find_workspace(Path.cwd())


def _golden(to_test: Path) -> Path:
    """The path of the golden trace of a test. Raises UsageError for a test outside the workspace."""
    workspace = _workspace()
    if not to_test.resolve().is_relative_to(workspace):
        raise click.UsageError(
            f"{str(to_test)!r} is outside the workspace {str(workspace)!r}: name a file inside it for --to-test"
        )
    return workspace / "traces" / "golden" / f"{to_test.stem.removeprefix('test_')}.jsonl"


def _trace_of(shrunk: ShrinkResult, source: Trace) -> Trace:
    from remit.replay import seal_run
    from remit.tracing import Trace

    chain = seal_run(shrunk.records)
    records = tuple(link.recorded() for link in chain.links)
    return Trace(run=chain.run, records=records, chain=chain, objects=source.objects, store=source.store)


def _write(smaller: Trace, path: Path) -> str:
    from remit.tracing import write_portable

    path.parent.mkdir(parents=True, exist_ok=True)
    write_portable(smaller, path)
    return _short_path(path)


def _write_test(path: Path, golden: Path, shrunk: ShrinkResult, run: str, keep: str) -> str:
    from remit.tracing.reports import parse_failure_selector

    workspace = _workspace()
    text = TEST.format(
        run=run,
        before=shrunk.before[0],
        after=len({step for step, _ in shrunk.origins}),
        failing=keep,
        golden=golden.relative_to(workspace).as_posix(),
        change=BY_TOOLS if parse_failure_selector(keep).code in OF_TOOLS else BY_RULES,
        name=re.sub(r"\W+", "_", path.stem.removeprefix("test_")).strip("_").lower() or "the_incident",
        up=".parent" * len(path.resolve().parent.relative_to(workspace).parts),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return _short_path(path)


def _short_path(path: Path) -> str:
    """The path, relative to the current folder if it is inside it."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


def _parts(shrunk: ShrinkResult) -> list[dict[str, Any]]:
    """Each remaining call: its place now and before, its action, decision and result."""
    from remit.tracing.reports import build_timeline

    calls = build_timeline(shrunk.records).calls
    places = [place for place in shrunk.origins if place[1] >= 0]
    return [
        {
            "step": call.step,
            "index": call.index,
            "was": f"{step}.{index}",
            "action": call.action,
            "resources": call.resources,
            "verdict": call.decision.verdict if call.decision else "refused",
            "ended": "" if call.result is None else call.error.code if call.error else "ok",
            "labels": call.labels,
        }
        for call, (step, index) in zip(calls, places, strict=False)
    ]


def _show(shrunk: ShrinkResult, keep: str, written: list[str]) -> None:
    steps, parts = shrunk.before
    left = len({step for step, _ in shrunk.origins})
    before = f"{counted(steps, 'step')} and {counted(parts, 'part')}"
    after = f"{counted(left, 'step')} and {counted(len(shrunk.origins), 'part')}"
    echo(f"reduced from {before} to {after}, still {style(keep, fg='red')}  ({counted(shrunk.tries, 'replay')})")
    for part in _parts(shrunk):
        labels = f", labels {', '.join(part['labels'])}" if part["labels"] else ""
        what = " ".join([part["action"], *part["resources"]])
        ended = part["ended"] or "no result"
        echo(f"  step {part['step']}.{part['index']} (was {part['was']})  {part['verdict']:<7} {what}: {ended}{labels}")
    for path in written:
        echo(f"wrote {path}")
    if any(path.endswith(".jsonl") for path in written):
        echo(f"replay it with: remit replay {next(path for path in written if path.endswith('.jsonl'))}")
