"""Golden traces: runs that must be reproduced."""

from __future__ import annotations

import asyncio
from pathlib import Path

from remit.client import replay_trace
from remit.core import UsageError, WorkspaceError
from remit.replay import Divergence
from remit.tracing import read_trace

LINES = 12  # shown of one difference


def assert_replays(path: Path | str) -> None:
    """Fail unless every trace is intact, and a replay of it reproduces every decision, model turn and result.

    Nothing runs: model and tools are answered from the record, under the rules that the run recorded.

        assert_replays(Path(__file__).parent / "golden")

    Args:
        path: a trace file, as `remit trace export` writes it, or a folder with such files (`*.jsonl`, at any depth).
    """
    __tracebackhide__ = True
    path = Path(path)
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise AssertionError(f"{path} has no trace file (*.jsonl): write one with `remit trace export RUN -o {path}/…`")
    failures = [f"{file}: {problem}" for file in files if (problem := _problem_of(file))]
    if failures:
        raise AssertionError("\n".join([f"{len(failures)} of {len(files)} traces are not reproduced", *failures]))


def _problem_of(file: Path) -> str:
    """Why the trace in that file is not reproduced; "" if it is."""
    try:
        result = asyncio.run(replay_trace(read_trace(file)))
    except (UsageError, WorkspaceError) as failure:
        return f"it cannot be replayed: {failure}"
    if result.reproduced:
        return ""
    looked = f"\n    look at: remit replay {file}"
    return "".join(_described(item) for item in result.divergences) + looked


def _described(item: Divergence) -> str:
    place = "" if item.step is None else f" at step {item.step}" + ("" if item.index is None else f".{item.index}")
    lines = [f"diverged{place}, {item.kind}: {item.what}", *item.diff[:LINES]]
    return "\n    ".join(["", *lines])
