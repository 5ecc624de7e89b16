"""Replays a recorded run with parts left out, through the same graph and broker: does it still fail in the same way?

The model repeats its recorded turns without the calls that are left out. A remaining call has its recorded outcome.
Decisions are made again, so a decision that depended on a removed part can differ. A call without a recorded outcome
(it was refused when recorded, and is allowed now) ends the replay, because later events cannot be derived.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import remit.runtime  # LangGraph is loaded when a run is driven
from remit.core import Json, UsageError
from remit.core.events import AnyEvent, AttemptEnded, ModelResponded, Recorded, RunFinished, RunStarted
from remit.journal import Chain, ChainLink, Record, link
from remit.policy import Policy
from remit.replay.recorded import WhatIf, recorded_agent, recorded_approvals
from remit.replay.replay_log import RecordEnds, ReplayLog
from remit.workspace import Bundle

RunPart: TypeAlias = tuple[int, int]  # a call by step and index; index -1 is a turn that called nothing


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """The parts of a run that are kept.

    `values` replaces what these calls returned; calls in `once` keep only their last attempt.
    """

    parts: tuple[RunPart, ...]
    values: Mapping[RunPart, Json] = field(default_factory=dict[RunPart, Json])
    once: Collection[RunPart] = ()


def parts_of(records: Sequence[Recorded]) -> tuple[RunPart, ...]:
    """Every part of a run that can be left out, in order."""
    turns = [item.event for item in records if isinstance(item.event, ModelResponded)]
    return tuple(
        (turn.step, index)
        for turn in turns
        for index in (range(len(turn.proposed_calls)) if turn.proposed_calls else range(-1, 0))
    )


def reduce_run(records: Sequence[Recorded], left: Reduction) -> list[Recorded]:
    """The recorded events of the kept parts, with steps, calls and attempts renumbered from 0 (attempts from 1)."""
    return list(_Reducer(records, left).events())


async def replay_partially(
    records: Sequence[Recorded], bundles: Mapping[str, Bundle], *, run: str, policy: Policy | None = None
) -> list[Recorded]:
    """Replay those events as the run `run`, as far as they are recorded; returns the new run's events, unsealed."""
    started = records[0].event
    assert isinstance(started, RunStarted)
    if started.graph:
        raise UsageError("a custom graph drove this run, and only Remit's own loop can repeat a part of a run")
    log = ReplayLog(recorded=records)
    record = Record(log, run)
    agent = recorded_agent(log, record, started, bundles, WhatIf(policy=policy))
    record.append(started)
    with suppress(RecordEnds):
        await remit.runtime.drive(agent, recorded_approvals(log, record, agent.broker))
    return log.events(run)


def seal_run(records: Sequence[Recorded]) -> Chain:
    """The hash chain of a replayed run."""
    links: list[ChainLink] = []
    for item in records:
        assert item.event is not None
        prev = links[-1].hash if links else ""
        links.append(link(item.run, item.seq, item.at, prev, item.event, secrets.token_hex(16)))
    return Chain(run=links[0].run, links=tuple(links), head=(links[-1].seq, links[-1].hash))


class _Reducer:
    """Renumbers what is kept."""

    def __init__(self, records: Sequence[Recorded], left: Reduction) -> None:
        self._records = records
        self._left = left
        self._steps = {step: at for at, step in enumerate(sorted({step for step, _ in left.parts}))}
        self._calls: dict[RunPart, int] = {}
        for step in self._steps:
            kept = sorted(index for of, index in left.parts if of == step and index >= 0)
            self._calls |= {(step, index): at for at, index in enumerate(kept)}
        self._last = {
            (item.event.step, item.event.index): item.event.attempt
            for item in records
            if isinstance(item.event, AttemptEnded)
        }

    def events(self) -> Iterator[Recorded]:
        for item in self._records:
            event = None if item.event is None else self._event(item.event)
            if event is not None:
                yield item.model_copy(update={"event": event, "key": event.key})

    def _event(self, event: AnyEvent) -> AnyEvent | None:
        if isinstance(event, RunFinished) or (event.step is not None and event.step not in self._steps):
            return None
        if event.step is None:
            return event
        changes: dict[str, object] = {"step": self._steps[event.step]}
        if isinstance(event, ModelResponded):
            changes["proposed_calls"] = tuple(
                proposed for index, proposed in enumerate(event.proposed_calls) if (event.step, index) in self._calls
            )
        if event.index is not None:
            place = (event.step, event.index)
            if place not in self._calls:
                return None
            changes["index"] = self._calls[place]
            if event.attempt is not None and place in self._left.once:
                if event.attempt != self._last.get(place):
                    return None
                changes["attempt"] = 1
            if isinstance(event, AttemptEnded) and place in self._left.values:
                changes["value"] = self._left.values[place]
        return event.model_copy(update=changes)
