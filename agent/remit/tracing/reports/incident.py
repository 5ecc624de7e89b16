"""The incident report of a run: its timeline, the last good run, its budget, its holds, and the next commands to run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from remit.broker import hold_reason
from remit.core import UsageError
from remit.core.events import RunStarted
from remit.journal import RunSummary, find_run
from remit.tracing import Trace, open_trace
from remit.tracing.reports.failures import find_failures
from remit.tracing.reports.root_cause import RootCause, find_root_cause
from remit.tracing.reports.run_diff import BundleFiles, RunDiff, diff_runs, last_good_run
from remit.tracing.reports.timeline import Timeline, build_timeline
from remit.workspace import Budget, WorkspaceSession, recorded_budget

COMMANDS: Final = 3
# Why a run in that state is resumed.
_PURPOSES: Final = {
    "waiting": "continue the run after the approval",
    "waiting: model": "ask the model again now, and continue the run",
    "waiting: hold": "continue the run after the hold",
    "lost": "continue the run where it stopped",
    "ready": "continue the run where it stopped",
}


@dataclass(frozen=True, kw_only=True)
class IncidentReport:
    """A run and its context. `good` compares it with the last good run, None if there is none in this workspace.

    `row` is the line of the run in the list of runs, None if only the trace file is known. `erased` is True for a finished run
    whose content was erased. `commands` are the next commands to run, each with its purpose. `damage` are the faults of the record,
    one line each; empty for an intact one.
    """

    timeline: Timeline
    good: RunDiff | None = None
    budget: Budget | None = None
    held: str | None = None
    row: RunSummary | None = None
    erased: bool = False
    commands: tuple[tuple[str, str], ...] = ()
    damage: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """The state of the run now, in a few words; how it ended, if it has: `completed, 1 refused`."""
        if self.erased:
            return "erased"
        if self.row is not None and self.timeline.finished is None:
            return self.row.word
        outcome, refused = self.timeline.outcome, self.timeline.refused
        return f"{outcome}, {refused} refused" if refused and outcome == "completed" else outcome

    @property
    def driven(self) -> bool | None:
        """True while a process drives the run; None if only the trace file is known."""
        return None if self.row is None else self.row.state == "running"

    @property
    def cause(self) -> RootCause | None:
        """What ended or endangered the run; None if nothing failed. Of a lost run it is what was in flight when its process ended."""
        if self.row is None or self.row.state != "lost":
            return find_root_cause(self.timeline)
        what, step = _interrupted(self.timeline)
        who = self.row.holder or "the process"
        return RootCause(text=f"{what}: {who} ended before it could record how it went on", step=step)

    @property
    def accepted(self) -> list[str]:
        """What changed of the definition of the run, each time that it was resumed with a changed one."""
        resumed = self.timeline.resumed
        return [", ".join(event.accepted.changed) for event in resumed if event.accepted is not None]


def _interrupted(timeline: Timeline) -> tuple[str, int | None]:
    """Where a run was whose process ended, in a few words, and the step: the attempt without an end, or else what it did last."""
    for call in timeline.calls:
        if call.attempts and call.attempts[-1].ended is None and call.result is None:
            known = f"effect {call.effect}, outcome unknown" if call.effect != "read" else "a read"
            return (
                f"step {call.place}, {call.action} ({known}): attempt {call.attempts[-1].number} was running",
                call.step,
            )
    last = timeline.turns[-1].step if timeline.turns else None
    if timeline.in_flight:
        return timeline.in_flight[0], last
    return "before the first turn of the model" if last is None else f"after step {last}", last


def incident_report(trace: Trace, session: WorkspaceSession | None = None) -> IncidentReport:
    """The incident report of a run. Without `session` it uses the trace file alone."""
    timeline = build_timeline(trace.records)
    erased = trace.records[-1].event is None and trace.records[-1].type == "run.finished"
    report = IncidentReport(timeline=timeline, budget=_budget(trace, timeline), erased=erased)
    if session is not None:
        agent = timeline.started.subjects.agent if timeline.started else ""
        unfinished = timeline.finished is None and not erased
        row = find_run(session.journal, trace.run)
        report = IncidentReport(
            timeline=timeline,
            budget=report.budget,
            good=_diff_with_last_good(trace, session, row),
            held=hold_reason(session.journal.holds(), f"run:{trace.run}", agent) if unfinished else None,
            erased=erased,
            row=row,
        )
    return replace(report, commands=tuple(_commands(report, trace)[:COMMANDS]), damage=tuple(_damage(trace)))


def _damage(trace: Trace) -> list[str]:
    """The lines that could not be read, and the events that are missing or were changed."""
    faults = [fault for fault in trace.faults() if fault.broken]
    return [*(str(problem).partition("\n")[0] for problem in trace.damage), *map(str, faults)]


def first_bundle(trace: Trace) -> BundleFiles | None:
    """The files of the policy bundle that the run started with; None if it is not available."""
    try:
        return next(iter(trace.bundles().values()), None)
    except UsageError:
        return None


def _diff_with_last_good(trace: Trace, session: WorkspaceSession, row: RunSummary | None) -> RunDiff | None:
    if row is None:
        return None
    try:
        before = open_trace(session.traces, session.journal, last_good_run(session.journal, row).run)
    except UsageError:
        return None
    files = first_bundle(before), first_bundle(trace)
    both = (files[0], files[1]) if files[0] is not None and files[1] is not None else None
    return diff_runs(build_timeline(before.records), build_timeline(trace.records), files=both)


def _budget(trace: Trace, timeline: Timeline) -> Budget | None:
    files = first_bundle(trace)
    if files is None or timeline.started is None:
        return None
    return recorded_budget(files, timeline.started.subjects.agent.partition(":")[2])


def _commands(report: IncidentReport, trace: Trace) -> Sequence[tuple[str, str]]:
    """The next commands to run, each with its purpose; the most useful first."""
    return [*_to_go_on(report, trace.run[:8]), *_to_study(report.timeline.started, trace), *_to_share(report, trace)]


def _to_go_on(report: IncidentReport, run: str) -> Iterator[tuple[str, str]]:
    """The commands for what the run waits for, and for effects of unknown outcome."""
    timeline = report.timeline
    if report.state == "waiting":
        waiting = [call for call in timeline.waiting if call.approval is not None and call.approval.waits()][:1]
        yield from ((f"remit approve show {run}/{call.place}", "show what needs approval") for call in waiting)
    if report.state == "waiting: hold":
        yield "remit stop --list", "show all holds; `remit start` lifts one"
    if report.state in _PURPOSES and not (report.row and report.row.driver):
        yield f"remit run --resume {run}", _PURPOSES[report.state]
    if report.good is not None and not report.good.same:
        yield f"remit trace diff {run} --last-good", "show all differences from the last good run"
    unknown = [f"{item.step}.{item.index}" for item in timeline.effects if item.landed == "unknown"]
    if unknown and report.row is not None and not report.driven:
        yield (
            f'remit settle {run}/{unknown[0]} --landed --reason "…"',
            "or --not-landed, once you have looked whether it happened",
        )


def _to_study(started: RunStarted | None, trace: Trace) -> Iterator[tuple[str, str]]:
    """The commands that play the run again."""
    run, whole = trace.run[:8], _is_whole(started)
    if started is not None and started.imported is not None:
        yield f"remit policy backtest --imported {started.imported.name}", "show what today's rules would decide"
    if whole and (failures := find_failures(trace.records)):
        yield f"remit replay {run} --policy .", "show what today's rules would decide"
        keep = shlex.quote(failures[-1])
        yield f"remit trace shrink {run} --keep {keep}", "find the fewest calls that still fail like this"
    if whole:
        yield f"remit replay {run}", "replay the run from its record, without effects"


def _to_share(report: IncidentReport, trace: Trace) -> Iterator[tuple[str, str]]:
    """The commands that check the record, and write it for other people."""
    run, whole = trace.run[:8], _is_whole(report.timeline.started)
    if not whole:
        yield f"remit trace verify {run}", "check that the record was not changed"
    purpose = "write one file that replays anywhere" if whole else "write one file to share"
    yield f"remit trace export {run} -o {run}.jsonl", purpose
    yield f"remit trace show {run} --html {run}.html", "write a page to attach to the incident"


def _is_whole(started: RunStarted | None) -> bool:
    """True if the record has all that a replay needs."""
    return started is not None and started.content == "complete" and started.imported is None
