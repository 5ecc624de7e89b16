"""What retention lets go: finished runs older than it says, except those that are golden or that somebody has yet to review.

A run goes whole: its events, its file, its checkpoints, and rules that no other run stands on. That it was there, and the
head of its chain, stays in the workspace's own record, so that a copy elsewhere can still be verified.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.broker.approvals import emergencies
from remit.core import UsageError
from remit.core.events import NANO, PolicyChanged, RunPruned, RunResumed, RunStarted
from remit.journal import WORKSPACE_RUN, RunSummary, is_run_locked
from remit.runtime.graph import checkpoints
from remit.tracing import ObjectStore, read_index, read_trace, trace_path
from remit.workspace import WorkspaceSession

_AGE: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}
YOUNG_S: Final = 3600  # an object that was put so lately may be of a run that has not recorded its beginning yet


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What went. `bytes` counts trace files and rules, not the journal's own room."""

    runs: tuple[str, ...]
    objects: int
    bytes: int


def retention_seconds(age: str) -> int:
    """Seconds of an age as `remit.toml` has it: 12h, 90d, 8w. Raises UsageError for what is none."""
    found = _AGE.fullmatch(age)
    if found is None:
        raise UsageError(f"{age!r} is no age: write a number and h, d or w, as 90d")
    return int(found[1]) * _SECONDS[found[2]]


def golden(traces: Path) -> set[str]:
    """The runs that are kept whatever retention says: those of golden traces, and those they were shrunk from.

    Raises UsageError or WorkspaceError where a golden trace cannot be read: then nobody knows what it keeps.
    """
    kept: set[str] = set()
    for path in sorted((traces / "golden").rglob("*.jsonl")):
        trace = read_trace(path)
        started = trace.records[0].event
        kept |= {trace.run, started.shrunk_from} if isinstance(started, RunStarted) else {trace.run}
    return kept


def prunable(session: WorkspaceSession, older_s: int) -> list[RunSummary]:
    """The finished runs that ended longer ago than that, are not golden, and hold no emergency approval to review."""
    before = time.time_ns() - older_s * NANO
    kept = golden(session.traces) | {found.run for found in emergencies(session.journal) if found.review is None}
    return [
        row
        for row in session.journal.runs()
        if row.ended_at is not None
        and row.ended_at < before
        and row.run not in kept
        and not is_run_locked(session.traces, row.run)
    ]


async def prune(
    session: WorkspaceSession,
    rows: Sequence[RunSummary],
    *,
    account: str,
    told: Callable[[int, int], None] = lambda _gone, _of: None,
) -> Pruned:
    """Let those runs go. What is cut short in the middle is finished by the next time.

    `told` hears how many of how many are gone.
    """
    freed = 0
    async with checkpoints(session.traces / "checkpoints.db") as saver:
        for gone, row in enumerate(rows, 1):
            head = session.journal.chain(row.run).head
            pruned = RunPruned(run=row.run, head="" if head is None else f"{head[0]}:{head[1]}", account=account)
            if session.journal.get(WORKSPACE_RUN, pruned.key) is None:
                session.journal.append(WORKSPACE_RUN, pruned, durable=True)
            path = trace_path(session.traces, row.run)
            freed += path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
            await saver.adelete_thread(row.run)
            # INVARIANT: last, for a run that the journal has is one that the next time finds.
            session.journal.delete_run(row.run)
            told(gone, len(rows))
    session.journal.vacuum()
    removed = _unused(session)
    freed += sum(size for _, size in removed)
    return Pruned(runs=tuple(row.run for row in rows), objects=len(removed), bytes=freed)


def _unused(session: WorkspaceSession) -> list[tuple[str, int]]:
    """Remove the objects that no run names any more."""
    objects = ObjectStore(session.traces / "objects")
    used: set[str] = set()
    for digest in _bundles(session):
        try:
            used |= {digest, *read_index(objects.get(digest)).values()}
        except UsageError:
            used.add(digest)  # not here, or not what it was: that is `verify`'s to say
    return objects.remove_unused(used, older_s=YOUNG_S)


def _bundles(session: WorkspaceSession) -> Iterable[str]:
    for kind in ("run.started", "run.resumed", "policy.changed"):
        for item in session.journal.every(kind):
            if isinstance(item.event, RunStarted | RunResumed | PolicyChanged) and item.event.bundle:
                yield item.event.bundle
