"""A recorded run with parts left out, told again by the same graph and broker: would it still have ended so?

The model says what it said, less the calls that are left out; a call that is left in has the outcome that is recorded for
it. Decisions are made anew, so what hung on a part that is gone turns out otherwise. A call that has no recorded outcome,
because then it was refused, ends the tale: nobody knows what would have followed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from remit.core import Json
from remit.core.events import AnyEvent, AttemptEnded, ModelResponded, Recorded, RunFinished, RunStarted
from remit.journal import Chain, ChainLink, Record, link
from remit.policy import Policy
from remit.replay.recorded import Guide, RecordEnds, WhatIf, agency, people
from remit.runtime import drive, memory_checkpoints
from remit.workspace import Bundle

Part: TypeAlias = tuple[int, int]  # a call by step and index; index -1 is a turn that called nothing


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is left of a run. `values` replaces what calls returned; of the calls in `once` only the last attempt is kept."""

    parts: tuple[Part, ...]
    values: Mapping[Part, Json] = field(default_factory=dict[Part, Json])
    once: Collection[Part] = ()


def parts_of(records: Sequence[Recorded]) -> tuple[Part, ...]:
    """Every part of a run that can be left out, in order."""
    turns = [item.event for item in records if isinstance(item.event, ModelResponded)]
    return tuple(
        (turn.step, index)
        for turn in turns
        for index in (range(len(turn.proposed_calls)) if turn.proposed_calls else range(-1, 0))
    )


def cut(records: Sequence[Recorded], left: Cut) -> list[Recorded]:
    """The recorded events of what is left, with steps, calls and attempts numbered anew."""
    return list(_Cutting(records, left).events())


async def replay_partially(
    records: Sequence[Recorded], bundles: Mapping[str, Bundle], *, run: str, policy: Policy | None = None
) -> list[Recorded]:
    """Tell those events again as the run `run`, as far as they are recorded; the new run's events, unsealed."""
    started = records[0].event
    assert isinstance(started, RunStarted)
    log = Guide(recorded=records)
    record = Record(log, run)
    agent = agency(log, record, started, bundles, WhatIf(policy=policy))
    record.append(started)
    with suppress(RecordEnds):
        await drive(agent, memory_checkpoints(), people(log, record, agent.broker), durability="exit")
    return log.events(run)


def sealed(records: Sequence[Recorded]) -> Chain:
    """The chain of a run that was told again."""
    links: list[ChainLink] = []
    for item in records:
        assert item.event is not None
        prev = links[-1].hash if links else ""
        links.append(link(item.run, item.seq, item.at, prev, item.event, secrets.token_hex(16)))
    return Chain(run=links[0].run, links=tuple(links), head=(links[-1].seq, links[-1].hash))


class _Cutting:
    """The new number of everything that is left."""

    def __init__(self, records: Sequence[Recorded], left: Cut) -> None:
        self._records = records
        self._left = left
        self._steps = {step: at for at, step in enumerate(sorted({step for step, _ in left.parts}))}
        self._calls: dict[Part, int] = {}
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
            kept = [ask for index, ask in enumerate(event.proposed_calls) if (event.step, index) in self._calls]
            changes["asks"] = tuple(kept)
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
