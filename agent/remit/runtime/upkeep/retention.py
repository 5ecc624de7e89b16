"""Deletes runs that are older than the retention period. Golden runs, runs with an unreviewed emergency approval and runs of
open rollouts are kept.

A run is deleted completely: its events, its trace file, and the policy bundles that no other run uses. The
workspace's record keeps the fact of the deletion and the head of the run's hash chain, so that an exported copy can still be
verified.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.broker.approvals import emergencies
from remit.core import Principal, UsageError, WorkspaceError
from remit.core.events import NANO, RunPruned, RunStarted
from remit.journal import (
    WORKSPACE_RUN,
    AlreadyRecorded,
    EndedRun,
    delete_run,
    ended_runs,
    forget_deleted,
    release_space,
    seal_run,
    unsealed_runs,
    used_bundles,
)
from remit.rollout import remove_unused_definitions
from remit.runtime.upkeep.folders import forget_folder
from remit.sandbox.packages import LOCK as PACKAGES
from remit.sandbox.packages import locked_wheels
from remit.tracing import ObjectStore, objects_of, read_index, read_trace, trace_path
from remit.workspace import CODE_DIGESTS, KeepRule, Settings, WorkspaceSession, authorize_runs, read_digests

_AGE: Final = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}
MIN_OBJECT_AGE_S: Final = 3600  # a newer object may belong to a run that has not recorded its first event yet


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted. `bytes` counts trace files and policy bundles, not the space in the journal."""

    runs: tuple[str, ...]
    objects: int
    bytes: int


def retention_seconds(age: str) -> int:
    """The seconds of an age as written in remit.toml: 12h, 90d, 8w. Raises UsageError for any other text."""
    match = _AGE.fullmatch(age)
    if match is None:
        raise UsageError(f"{age!r} is not an age: write a number and h, d or w, such as 90d")
    return int(match[1]) * _SECONDS[match[2]]


def golden_runs(traces: Path) -> set[str]:
    """The runs that are never deleted: those with a golden trace, and those that a golden trace was shrunk from.

    Raises UsageError or WorkspaceError if a golden trace cannot be read, because the run that it protects is then unknown.
    """
    kept: set[str] = set()
    for path in sorted((traces / "golden").rglob("*.jsonl")):
        trace = read_trace(path)
        started = trace.records[0].event
        kept |= {trace.run, started.shrunk_from} if isinstance(started, RunStarted) else {trace.run}
    return kept


def prunable(session: WorkspaceSession, older_s: int | None = None) -> list[EndedRun]:
    """The runs that ended more than `older_s` seconds ago, are not golden, have no emergency approval to review and no open rollout.

    Without `older_s`, remit.toml says how long each run is kept.
    """
    settings, now = session.workspace.settings, time.time_ns()
    ages = [settings.keep, *(rule.keep for rule in settings.keep_rules)] if older_s is None else []
    shortest = min((retention_seconds(age) for age in ages if age is not None), default=older_s)
    if shortest is None:
        return []
    kept = golden_runs(session.traces) | {item.run for item in emergencies(session.journal)}
    ended = ended_runs(session.journal, now - shortest * NANO)
    weighed = {rollout.id for rollout in session.journal.rollouts()}  # their runs are evidence until they end
    free = (row for row in ended if row.run not in kept and row.rollout not in weighed)
    return [row for row in free if older_s is not None or _is_over(row, settings, now)]


def _is_over(row: EndedRun, settings: Settings, now: int) -> bool:
    """True if the time for which remit.toml keeps the run has passed."""
    matching = (rule for rule in settings.keep_rules if _matches(row, rule))
    age = next((rule.keep for rule in matching), settings.keep)
    return age is not None and row.ended_at < now - retention_seconds(age) * NANO


def _matches(row: EndedRun, rule: KeepRule) -> bool:
    return (
        (not rule.agent or row.agent == f"agent:{rule.agent}")
        and (not rule.outcome or row.outcome == rule.outcome)
        and (not rule.label or rule.label in row.labels)
    )


def prune(
    session: WorkspaceSession,
    rows: Sequence[EndedRun],
    *,
    by: Principal,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Pruned:
    """Delete these runs, except those that a process drives. An interrupted call is completed by the next one.

    `on_progress` gets the number of runs that are done and the total, after each run.

    Raises:
        Refusal: `policy_denied`: the rules do not let the person erase one of them. None is deleted then.
    """
    authorize_runs(session.policy, session.journal, [row.run for row in rows], by, "remit.erase", "delete")
    freed = 0
    deleted: list[str] = []
    for done, row in enumerate(rows, 1):
        if not session.journal.is_driven(row.run):
            freed += _delete(session, row.run, by)
            deleted.append(row.run)
        on_progress(done, len(rows))
    forget_deleted(session.journal)
    removed = _unused(session)
    freed += sum(size for _, size in removed)
    return Pruned(runs=tuple(deleted), objects=len(removed), bytes=freed)


def _delete(session: WorkspaceSession, run: str, by: Principal) -> int:
    """Delete one run. Returns the bytes of its trace file."""
    head = session.journal.head(run)
    pruned = RunPruned(run=run, head="" if head is None else f"{head[0]}:{head[1]}", by=by)
    with suppress(AlreadyRecorded):  # by a call that was interrupted
        session.journal.append_shared(WORKSPACE_RUN, pruned)
    path = trace_path(session.traces, run)
    freed = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    forget_folder(session.storage, run)
    # INVARIANT: last. While the journal has the run, the next call finds it and deletes the rest.
    delete_run(session.journal, run)
    release_space(session.journal)
    return freed


def seal_finished(session: WorkspaceSession, older_s: int) -> int:
    """Seal the runs that ended more than `older_s` seconds ago. Returns how many. A damaged run stays as it is."""
    sealed = 0
    for run in unsealed_runs(session.journal, time.time_ns() - older_s * NANO):
        if not session.journal.is_driven(run):
            with suppress(UsageError):
                sealed += seal_run(session.journal, run)
            release_space(session.journal)
    if sealed:
        forget_deleted(session.journal)
    return sealed


def _unused(session: WorkspaceSession) -> list[tuple[str, int]]:
    """Remove the objects that no run uses any more. Returns their digests and sizes."""
    objects = objects_of(session)
    used: set[str] = set()
    for digest in used_bundles(session.journal):
        try:
            index = read_index(objects.get(digest))
            used |= {digest, *index.values(), *_code_objects(objects, index)}
        except UsageError:
            used.add(digest)  # missing or changed: `remit trace verify` reports that
    remove_unused_definitions(session.traces, used, older_s=MIN_OBJECT_AGE_S)
    return objects.remove_unused(used, older_s=MIN_OBJECT_AGE_S)


def _code_objects(objects: ObjectStore, index: Mapping[str, str]) -> set[str]:
    """The objects with the code of the tools of a bundle and the wheels of their packages. Those are stored that its run uses."""
    found: set[str] = set()
    with suppress(UsageError, WorkspaceError, KeyError):
        for code in read_digests({CODE_DIGESTS: objects.get(index[CODE_DIGESTS])}).values():
            with suppress(UsageError):
                files = read_index(objects.get(code))
                found |= {code, *files.values()}
                if PACKAGES in files:
                    found |= {wheel.digest for wheel in locked_wheels(objects.get(files[PACKAGES]))}
    return found
