"""What on-call needs to know of a run besides its own events: the last good one, its limits, its holds, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from remit.broker import active_holds, hold_reason
from remit.core import RemitError, UsageError
from remit.journal import is_run_locked
from remit.tracing import Trace, open_trace
from remit.tracing.reports.failures import find_failures
from remit.tracing.reports.run_diff import Files, RunDiff, diff_runs, last_good
from remit.tracing.reports.timeline import Timeline, build_timeline
from remit.workspace import CODE_DIGESTS, Budget, WorkspaceSession, load_files, read_digests

COMMANDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class IncidentReport:
    """A run and what is known around it. `good` compares it with the last good run; None where there is none here."""

    timeline: Timeline
    good: RunDiff | None = None
    budget: Budget | None = None
    held: str | None = None
    driven: bool = False
    commands: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> str:
        """One word: how the run stands now."""
        if self.timeline.finished is not None:
            return self.timeline.verdict
        if self.held:
            return "held"
        if self.timeline.waiting:
            return "waiting"
        return "running" if self.driven else "cut off"


def incident_report(trace: Trace, session: WorkspaceSession | None = None) -> IncidentReport:
    """Everything about a run that can be told here. `house` None: only the file itself is known."""
    timeline = build_timeline(trace.records)
    found = IncidentReport(timeline=timeline, budget=_budget(trace, timeline))
    if session is not None:
        agent = timeline.started.subjects.agent if timeline.started else ""
        unfinished = timeline.finished is None
        found = IncidentReport(
            timeline=timeline,
            budget=found.budget,
            good=_good(trace, session),
            held=hold_reason(active_holds(session.journal), f"run:{trace.run}", agent) if unfinished else None,
            driven=unfinished and is_run_locked(session.traces, trace.run),
        )
    return replace(found, commands=tuple(_commands(found, trace)[:COMMANDS]))


def files_of(trace: Trace) -> Files | None:
    """The rulebook that the run began with; None where it is not here."""
    try:
        return next(iter(trace.bundles().values()), None)
    except UsageError:
        return None


def _good(trace: Trace, session: WorkspaceSession) -> RunDiff | None:
    runs = session.journal.runs()
    row = next((row for row in runs if row.run == trace.run), None)
    if row is None:
        return None
    try:
        before = open_trace(session.traces, session.journal, last_good(runs, row).run)
    except UsageError:
        return None
    files = files_of(before), files_of(trace)
    both = (files[0], files[1]) if files[0] is not None and files[1] is not None else None
    return diff_runs(build_timeline(before.records), build_timeline(trace.records), files=both)


def _budget(trace: Trace, timeline: Timeline) -> Budget | None:
    files = files_of(trace)
    if files is None or timeline.started is None:
        return None
    try:
        code = read_digests(files)
        rooms = load_files({path: data for path, data in files.items() if path != CODE_DIGESTS}, root=None, code=code)
        return rooms.agents[timeline.started.subjects.agent.partition(":")[2]].budget
    except (RemitError, KeyError, ValueError):
        return None  # a rulebook of another version: the run can be read all the same


def _commands(found: IncidentReport, trace: Trace) -> Sequence[tuple[str, str]]:
    """What to type next, and why; the most useful first."""
    timeline, run = found.timeline, trace.run[:8]
    named: list[tuple[str, str]] = []
    if found.state == "waiting":
        named += [(f"remit approve show {run}/{call.place}", "what is asked for") for call in timeline.waiting[:1]]
        named.append((f"remit run --resume {run}", "go on once it is answered"))
    if found.state == "held":
        named.append(("remit stop --list", "who holds what; `remit start` lifts it"))
    if found.state in ("held", "cut off"):
        named.append((f"remit run --resume {run}", "go on where it was left"))
    if found.good is not None and not found.good.same:
        named.append((f"remit trace diff {run} --good", "all that differs from the last good run"))
    whole = timeline.started is not None and timeline.started.content == "complete"
    failed = find_failures(trace.records) if whole else []
    if failed:
        named.append((f"remit replay {run} --policy .", "what today's rules would do"))
        named.append(
            (f"remit trace shrink {run} --keep {shlex.quote(failed[-1])}", "the fewest calls that still fail so")
        )
    if whole:
        named.append((f"remit replay {run}", "the same again, from the record"))
    else:
        named.append((f"remit trace verify {run}", "is it what was written"))
    named.append((f"remit trace export {run} -o {run}.jsonl", "one file that replays anywhere"))
    named.append((f"remit trace show {run} --html {run}.html", "a page to attach to the incident"))
    return named
