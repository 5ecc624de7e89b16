"""`remit trace shrink`: the smallest run that still fails the same way, and the test that it becomes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, progress, style
from remit.cli.replay import open_bundles
from remit.cli.run_argument import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.replay import ShrinkResult
    from remit.tracing import Trace

TEST: Final = '''"""An incident, kept as a test by `remit trace shrink`: run {run}, shrunk from {before} steps to {after}.

It fails as long as a call of that run still ends with {failing} today.
"""

import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parent{up}
GOLDEN = {golden!r}
FAILURE = {failing!r}


def test_{name}_does_not_come_back() -> None:
    command = [sys.executable, "-m", "remit", "replay", GOLDEN, {asked}, "--gone", FAILURE]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
'''

# How a test asks whether a failure is mended: by today's rules; or, where a tool failed, by reading with today's tool.
BY_RULES: Final = '"--policy", "."'
BY_TOOLS: Final = '"--tools", ".", "--live-reads"'
OF_TOOLS: Final = frozenset({"tool_failed", "tool_crashed", "invalid_output", "timeout", "resource_exhausted"})


@click.command("shrink")
@click.argument("run")
@click.option(
    "--keep",
    metavar="FAILURE",
    help="What must stay: code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:…] or final~REGEX.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the smaller run to this file."
)
@click.option(
    "--to-test",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a golden trace, and this test that replays it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def shrink_command(run: str, keep: str | None, output: Path | None, to_test: Path | None, as_json: bool) -> None:
    """The smallest run that still fails the same way: calls, attempts and outputs of RUN are left out while it does.

    Nothing runs: decisions are made anew from the record, under the run's own rules.

    \b
    Examples:
      remit trace shrink 3f2a --keep code=policy_denied:files.read
      remit trace shrink 3f2a --keep decision=ask -o small.jsonl
      remit trace shrink 3f2a --keep code=budget_exhausted --to-test tests/test_incident.py
    """
    from remit.replay import shrink
    from remit.runtime import new_run_id
    from remit.tracing.reports import SELECTOR_FORMS, find_failures, parse_failure_selector

    trace = open_run(run)
    if keep is None:
        found = find_failures(trace.records)
        raise click.UsageError(
            f"say what must stay, by --keep {SELECTOR_FORMS}; the run has: {'; '.join(found) or 'no failure'}"
        )
    broken = [fault for fault in trace.faults() if fault.broken]
    if broken:
        raise click.UsageError(f"the record is not the one that was written: {broken[0]}")
    golden = None if to_test is None else _golden(to_test)
    for path in (output, to_test, golden):
        if path is not None and path.exists():
            raise click.UsageError(f"{str(path)!r} is there already: remove it, or name another file")
    work = shrink(
        trace.records, open_bundles(trace), parse_failure_selector(keep), run=new_run_id(), told=_progress(as_json)
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
    """Tells on a terminal how many calls are left; shrinking a long run takes a while."""
    shown = sys.stderr.isatty() and not as_json

    def told(left: int, of: int) -> None:
        if shown:
            progress(f"{of} calls: {left} left  ")

    return told


def _session() -> Path:
    from remit.workspace import find_workspace

    return find_workspace(Path.cwd())


def _golden(to_test: Path) -> Path:
    """Where the golden trace of a test lies. Raises UsageError for a test outside the workspace, whose rules it is about."""
    session = _session()
    if not to_test.resolve().is_relative_to(session):
        raise click.UsageError(
            f"{str(to_test)!r} lies outside the workspace {str(session)!r}, whose rules the test is about"
        )
    return session / "traces" / "golden" / f"{to_test.stem.removeprefix('test_')}.jsonl"


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
    return _named(path)


def _write_test(path: Path, golden: Path, shrunk: ShrinkResult, run: str, keep: str) -> str:
    from remit.tracing.reports import parse_failure_selector

    session = _session()
    text = TEST.format(
        run=run,
        before=shrunk.before[0],
        after=len({step for step, _ in shrunk.origins}),
        failing=keep,
        golden=golden.relative_to(session).as_posix(),
        asked=BY_TOOLS if parse_failure_selector(keep).code in OF_TOOLS else BY_RULES,
        name=re.sub(r"\W+", "_", path.stem.removeprefix("test_")).strip("_").lower() or "the_incident",
        up=".parent" * len(path.resolve().parent.relative_to(session).parts),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return _named(path)


def _named(path: Path) -> str:
    """The path as a person would type it here."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


def _parts(shrunk: ShrinkResult) -> list[dict[str, Any]]:
    """Each call that is left: its place now and before, what it asked, and how it ended."""
    from remit.tracing.reports import build_timeline

    calls = build_timeline(shrunk.records).calls
    places = [place for place in shrunk.origins if place[1] >= 0]
    return [
        {
            "step": call.step,
            "index": call.index,
            "was": f"{step}.{index}",
            "action": call.name,
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
    echo(
        f"{steps} steps, {parts} parts are {left} and {len(shrunk.origins)}: still {style(keep, fg='red')}"
        f"  ({shrunk.tries} tries)"
    )
    for part in _parts(shrunk):
        labels = f", labels {', '.join(part['labels'])}" if part["labels"] else ""
        what = " ".join([part["action"], *part["resources"]])
        ended = part["ended"] or "without an answer"
        echo(f"  step {part['step']}.{part['index']} (was {part['was']})  {part['verdict']:<7} {what}: {ended}{labels}")
    for path in written:
        echo(f"wrote {path}")
    if any(path.endswith(".jsonl") for path in written):
        echo(f"replay it with: remit replay {next(path for path in written if path.endswith('.jsonl'))}")
