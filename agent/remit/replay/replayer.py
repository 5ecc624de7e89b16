"""A recorded run, run again: the same graph and the same broker, with every outside thing answered from the record.

Model, tools, clock, people and holds are recorded ones, and the rules are those that the run names by digest, so a replay
has no effect and needs nothing of the machine where the run was made. What the replay appends is compared, event by
event, with what was recorded; the first difference is the divergence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.core import UsageError
from remit.core.events import CallAnswered, CallDecided, ModelResponded, Recorded, RunFinished, RunStarted
from remit.journal import Chain, ChainFault, Record
from remit.replay.divergence import (
    POLICY_DEPENDENT,
    TOOL_DEPENDENT,
    ComparingLog,
    Diverged,
    Divergence,
    compare_tool_lists,
    tampering_divergence,
)
from remit.replay.recorded import RecordEnds, WhatIf, recorded_agent, recorded_approvals
from remit.runtime import AgentGraph, drive, forgotten
from remit.workspace import Bundle, tool_specs

NO_CHANGE: Final = WhatIf()


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What a replay found. `complete` is False where the record itself ends before the run did."""

    run: str
    divergences: tuple[Divergence, ...]
    decisions: int
    turns: int
    results: int
    complete: bool

    @property
    def reproduced(self) -> bool:
        return not self.divergences


def find_tampering(faults: Iterable[ChainFault], copy: Chain, original: Chain | None = None) -> list[Divergence]:
    """What was done to a record, as divergences; with a diff where the journal still has the original."""
    bodies = [{link.seq: link.body for link in chain.links} if chain else {} for chain in (original, copy)]
    return [
        tampering_divergence(fault, bodies[0].get(fault.seq), bodies[1].get(fault.seq))
        for fault in faults
        if fault.broken
    ]


def check_replayable(records: Sequence[Recorded]) -> RunStarted:
    """The beginning of a run whose record holds what telling it again needs. Raises UsageError where it does not."""
    if not records or not isinstance(records[0].event, RunStarted):
        raise UsageError("the trace does not begin with the start of a run, or that was erased: it cannot be replayed")
    if any(item.event is None for item in records):
        raise UsageError("parts of the trace were erased: it can be read, not replayed")
    if records[0].event.content != "whole":
        raise UsageError(f"the content of the run was {records[0].event.content}: it can be read, not replayed")
    return records[0].event


async def replay(
    records: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    *,
    tampering: Iterable[Divergence] = (),
    what_if: WhatIf = NO_CHANGE,
) -> ReplayResult:
    """Run the recorded run again. `rulebooks` are those it names, by digest; `otherwise` asks what others would do.

    Raises UsageError where the record does not hold what a replay needs.
    """
    started = check_replayable(records)
    words = POLICY_DEPENDENT if what_if.policy is not None else frozenset[str]()
    words |= TOOL_DEPENDENT if what_if.tools is not None else frozenset()
    log = ComparingLog(recorded=records, loose=what_if != NO_CHANGE, ignored=words)
    record = Record(log, records[0].run)
    agent = recorded_agent(log, record, started, bundles, what_if)
    try:
        record.append(started)
        _finish_unstarted(log, record)
        await drive(agent, forgotten(), recorded_approvals(log, record, agent.broker), durability="exit")
        log.check_unreached()
    except Diverged:
        pass
    except RecordEnds:
        log.check_ended()
    reached = [item.event for item in log.events("")]
    return ReplayResult(
        run=records[0].run,
        divergences=(*tampering, *_tool_list_divergences(started, bundles, agent), *log.divergences),
        decisions=sum(isinstance(event, CallDecided) for event in reached),
        turns=sum(isinstance(event, ModelResponded) for event in reached),
        results=sum(isinstance(event, CallAnswered) for event in reached),
        complete=log.complete,
    )


def _tool_list_divergences(started: RunStarted, bundles: Mapping[str, Bundle], agent: AgentGraph) -> list[Divergence]:
    """What the model would be offered otherwise, under tools of another version."""
    rooms = bundles[started.bundle].workspace
    return compare_tool_lists(tool_specs(rooms, rooms.agents[started.subjects.agent.partition(":")[2]]), agent.tools)


def _finish_unstarted(log: ComparingLog, record: Record) -> None:
    """A run that ended before its first step, for want of a sandbox, has nothing to drive."""
    finished = log.by_key.get("run.finished/-/-/-")
    if len(log.recorded) == 2 and finished is not None and isinstance(finished.event, RunFinished):
        record.append(finished.event)
