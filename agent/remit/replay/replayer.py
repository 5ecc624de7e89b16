"""Replays a recorded run through the same graph and the same broker, with everything outside answered from the record.

Model, tools, clock, people and holds are the recorded ones, and the policy is the one that the run names by digest. So a
replay has no effects, and needs nothing of the machine where the run was made. Each event that the replay appends is
compared with the recorded one; the first difference is the divergence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import remit.runtime  # LangGraph is loaded when a run is driven
from remit.core import UsageError
from remit.core.events import CallAnswered, CallDecided, ModelResponded, Recorded, RunFinished, RunResumed, RunStarted
from remit.journal import Chain, ChainFault, Record
from remit.replay.divergence import (
    MODEL_INPUT,
    POLICY_DEPENDENT,
    TOOL_DEPENDENT,
    ComparingLog,
    Diverged,
    Divergence,
    compare_tool_lists,
    tampering_divergence,
)
from remit.replay.recorded import WhatIf, recorded_agent, recorded_approvals
from remit.replay.replay_log import RecordEnds, events_before
from remit.runtime import AgentGraph
from remit.workspace import Bundle, tool_specs

NO_CHANGE: Final = WhatIf()


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """The result of a replay: the divergences, and how many decisions, model turns and tool results were compared.

    `since` is the step at which it began: the steps before are those of another run. `complete` is False if the record ends
    before the run did.
    """

    run: str
    divergences: tuple[Divergence, ...]
    decisions: int
    turns: int
    results: int
    complete: bool
    since: int = 0

    @property
    def reproduced(self) -> bool:
        return not self.divergences


def find_tampering(faults: Iterable[ChainFault], copy: Chain, original: Chain | None = None) -> list[Divergence]:
    """The faults of a changed record as divergences; with a diff if the journal still has the original."""
    bodies = [{link.seq: link.body for link in chain.links} if chain else {} for chain in (original, copy)]
    return [
        tampering_divergence(fault, bodies[0].get(fault.seq), bodies[1].get(fault.seq))
        for fault in faults
        if fault.broken
    ]


def check_replayable(records: Sequence[Recorded]) -> RunStarted:
    """The first event of a run whose record holds all that a replay needs. Raises UsageError if it does not."""
    if not records or not isinstance(records[0].event, RunStarted):
        raise UsageError("the first event of the run is missing or erased: the run cannot be replayed")
    if any(item.event is None for item in records):
        raise UsageError("events of the trace were erased: it can be read, not replayed")
    if records[0].event.content != "complete":
        raise UsageError(f"the content of the run was {records[0].event.content}: it can be read, not replayed")
    if records[0].event.imported is not None:
        raise UsageError("the run was imported from another tool: it can be read and decided again, not replayed")
    return records[0].event


async def replay(
    records: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    *,
    tampering: Iterable[Divergence] = (),
    what_if: WhatIf = NO_CHANGE,
    graphs: Collection[str] = (),
) -> ReplayResult:
    """Replay the recorded run and compare it with its record.

    `bundles` are the policy bundles that the run names, by digest; `tampering` are divergences that are already known, and
    come first in the result. `graphs` are the digests of the custom graphs that may be executed, because a person has reviewed
    them. A run that goes on with an accepted change of its definition is compared up to there. Raises UsageError if the record
    does not hold all that a replay needs.
    """
    started = check_replayable(records)
    _check_graph(started, bundles, graphs)
    # From there on the run has another definition, and its record says nothing of the one before.
    accepted = (at for at, item in enumerate(records) if isinstance(item.event, RunResumed) and item.event.accepted)
    records = records[: next(accepted, len(records))]
    ignored = POLICY_DEPENDENT if what_if.policy is not None else frozenset[str]()
    ignored |= TOOL_DEPENDENT if what_if.tools is not None else frozenset()
    ignored |= MODEL_INPUT if started.driver == "mcp" else frozenset()
    log = ComparingLog(recorded=records, loose=what_if != NO_CHANGE, ignored=ignored)
    goes_on = started.goes_on
    first = 0 if goes_on is None else goes_on.step
    if goes_on is not None:
        log.copy(events_before(records, first))
    record = Record(log, records[0].run)
    agent = recorded_agent(log, record, started, bundles, what_if)
    try:
        if goes_on is None:
            record.append(started)
        _finish_unstarted(log, record)
        await remit.runtime.drive(agent, recorded_approvals(log, record, agent.broker))
        log.check_unreached()
    except Diverged:
        pass
    except RecordEnds:
        log.check_ended()
    reached = [item.event for item in log.events("") if item.event is not None and (item.event.step or 0) >= first]
    return ReplayResult(
        run=records[0].run,
        divergences=(*tampering, *_tool_list_divergences(started, bundles, agent), *log.divergences),
        decisions=sum(isinstance(event, CallDecided) for event in reached),
        turns=sum(isinstance(event, ModelResponded) for event in reached),
        results=sum(isinstance(event, CallAnswered) for event in reached),
        complete=log.complete,
        since=first,
    )


def _check_graph(started: RunStarted, bundles: Mapping[str, Bundle], graphs: Collection[str]) -> None:
    """Raise UsageError if a replay would execute the code of a graph that nobody has reviewed: a trace may come from anywhere."""
    factory = bundles[started.bundle].workspace.agents[started.agent].graph if started.graph else None
    if factory is not None and factory.code not in graphs:
        what = f"a replay of this run executes its graph, {factory.file}, and this version of it is not reviewed here"
        raise UsageError(f"{what}: replay it in the workspace where it was made, or review and pin that version")


def _tool_list_divergences(started: RunStarted, bundles: Mapping[str, Bundle], agent: AgentGraph) -> list[Divergence]:
    """The tools that the model would be offered differently, with another version of the tools."""
    recorded = bundles[started.bundle].workspace
    config = recorded.agents[started.subjects.agent.partition(":")[2]]
    return compare_tool_lists(tool_specs(recorded, config), agent.tools)


def _finish_unstarted(log: ComparingLog, record: Record) -> None:
    """Append the end of a run that ended before its first step, because it had no sandbox: the graph never ran."""
    finished = log.by_key.get("run.finished/-/-/-")
    if len(log.recorded) == 2 and finished is not None and isinstance(finished.event, RunFinished):
        record.append(finished.event)
