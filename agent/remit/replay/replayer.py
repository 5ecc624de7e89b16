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
from remit.replay.divergence import POLICY_WORDS, TOOL_WORDS, Comparison, Diverged, Divergence, offered, tampered
from remit.replay.recorded import RecordEnds, WhatIf, agency, people
from remit.runtime import AgentGraph, drive, memory_checkpoints
from remit.workspace import Bundle, tool_specs

RECORDED: Final = WhatIf()


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


def tampering(faults: Iterable[ChainFault], copy: Chain, original: Chain | None = None) -> list[Divergence]:
    """What was done to a record, as divergences; with a diff where the journal still has the original."""
    bodies = [{link.seq: link.body for link in chain.links} if chain else {} for chain in (original, copy)]
    return [tampered(fault, bodies[0].get(fault.seq), bodies[1].get(fault.seq)) for fault in faults if fault.broken]


def replayable(records: Sequence[Recorded]) -> RunStarted:
    """The beginning of a run whose record holds what telling it again needs. Raises UsageError where it does not."""
    if not records or not isinstance(records[0].event, RunStarted):
        raise UsageError("the trace does not begin with the start of a run, or that was erased: it cannot be replayed")
    if any(item.event is None for item in records):
        raise UsageError("parts of the trace were erased: it can be read, not replayed")
    if records[0].event.content != "complete":
        raise UsageError(f"the content of the run was {records[0].event.content}: it can be read, not replayed")
    return records[0].event


async def replay(
    records: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    *,
    tampering: Iterable[Divergence] = (),
    what_if: WhatIf = RECORDED,
) -> ReplayResult:
    """Run the recorded run again. `rulebooks` are those it names, by digest; `otherwise` asks what others would do.

    Raises UsageError where the record does not hold what a replay needs.
    """
    started = replayable(records)
    words = POLICY_WORDS if what_if.policy is not None else frozenset[str]()
    words |= TOOL_WORDS if what_if.tools is not None else frozenset()
    log = Comparison(recorded=records, loose=what_if != RECORDED, ignored=words)
    record = Record(log, records[0].run)
    agent = agency(log, record, started, bundles, what_if)
    try:
        record.append(started)
        _finish_unstarted(log, record)
        await drive(agent, memory_checkpoints(), people(log, record, agent.broker), durability="exit")
        log.check_unreached()
    except Diverged:
        pass
    except RecordEnds:
        log.check_ended()
    reached = [item.event for item in log.events("")]
    return ReplayResult(
        run=records[0].run,
        divergences=(*tampering, *_offered(started, bundles, agent), *log.divergences),
        decisions=sum(isinstance(event, CallDecided) for event in reached),
        turns=sum(isinstance(event, ModelResponded) for event in reached),
        results=sum(isinstance(event, CallAnswered) for event in reached),
        complete=log.complete,
    )


def _offered(started: RunStarted, bundles: Mapping[str, Bundle], agent: AgentGraph) -> list[Divergence]:
    """What the model would be offered otherwise, under tools of another version."""
    rooms = bundles[started.bundle].workspace
    return offered(tool_specs(rooms, rooms.agents[started.subjects.agent.partition(":")[2]]), agent.tools)


def _finish_unstarted(log: Comparison, record: Record) -> None:
    """A run that ended before its first step, for want of a sandbox, has nothing to drive."""
    finished = log.by_key.get("run.finished/-/-/-")
    if len(log.recorded) == 2 and finished is not None and isinstance(finished.event, RunFinished):
        record.append(finished.event)
