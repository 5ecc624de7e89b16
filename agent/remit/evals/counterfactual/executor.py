"""Answers each call of a counterfactual run: from the record, from a copy of the seed, or by assumption. Nothing lands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from remit.broker import AttemptOutcome, DecodedCall, ProbeOutcome, Ready, ToolExecutor, receives_key
from remit.core import Call, Confinement
from remit.evals.counterfactual.circumstances import PathLog
from remit.evals.counterfactual.seed_copy import SeedCopy
from remit.evals.counterfactual.versions import (
    NEW,
    CallPlace,
    RecordedCalls,
    Version,
    effect_of,
    may_have_landed,
    name_of,
    version_of,
)
from remit.replay import RecordedExecutor, RecordEnds, ReplayLog
from remit.workspace import Workspace

Source: TypeAlias = Literal[
    "recorded",  # the record has an answer to this request, in this version of what it touches
    "re-run",  # the tool ran, confined, in a copy of the seed: a read, or an effect that landed only there
    "assumed",  # nothing ran: the effect would have landed, and its value is not known
]


@dataclass(frozen=True, kw_only=True)
class GivenAnswer:
    """Where the answer of one call is from. `place` is that of the recorded call, for `recorded`; `why` the reason, for `assumed`."""

    call: Call
    source: Source
    place: CallPlace | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """The place of the call in the run: `3.0`."""
        return name_of(_place(self.call))

    @property
    def effect(self) -> str:
        """The name of the effect of the call: that of the record, if it is from there."""
        return f"{NEW}{self.name}" if self.place is None else name_of(self.place)


class CounterfactualExecutor:
    """Answers calls without any effect. `answers` are those of the calls that were attempted, in order.

    `changed` are the names of the tools whose recorded answers do not count, because the candidate has another version.
    """

    def __init__(
        self, log: PathLog, recorded: RecordedCalls, workspace: Workspace, changed: Collection[str], copy: SeedCopy
    ) -> None:
        self.answers: dict[CallPlace, GivenAnswer] = {}
        self._log = log
        self._recorded = recorded
        self._workspace = workspace
        self._changed = changed
        self._copy = copy
        self._by_place = RecordedExecutor(log)
        self._by_version = RecordedExecutor(ReplayLog(recorded=log.recorded))
        self._effects = recorded.effects_before(log.start)

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        if self._log.follows:
            prepared = self._by_place.prepare(call, number)
            if prepared[0]:
                self.answers[_place(call)] = answer = GivenAnswer(call=call, source="recorded", place=_place(call))
                self._note(answer)
                return prepared
            self._log.leave()  # the record ends before this attempt
        answer = self.answers.get(_place(call)) or self._choose(call)
        self.answers[_place(call)] = answer
        self._note(answer)
        return self._executor(answer).prepare(_asked(answer), number)

    async def read_digest(self, call: Call, number: int) -> str:
        """That of the record while the run follows it. After that no answer is cached, so that each says where it is from."""
        return await self._by_place.read_digest(call, number) if self._log.follows else ""

    def keyed(self, call: Call) -> bool:
        answer = self.answers[_place(call)]
        return self._executor(answer).keyed(_asked(answer))

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        return (self._by_place if self._log.follows else self._copy.executor).stores(call, group)

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        answer = self.answers[_place(call)]
        return await self._executor(answer).probe(_asked(answer), number, idempotency_key=idempotency_key)

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        answer = self.answers[_place(call)]
        if answer.source == "re-run":
            async with self._copy.one_at_a_time:
                await self._bring_up_to_date(answer)
                opened = self._copy.executor.decode(call, number, named=named, idempotency_key=idempotency_key)
                async with opened as decoded:
                    yield Ready(run=lambda _: self._run(answer, decoded), arguments=decoded.arguments)
            return
        executor = self._executor(answer)
        async with executor.decode(_asked(answer), number, named=named, idempotency_key=idempotency_key) as decoded:
            yield decoded

    async def _bring_up_to_date(self, answer: GivenAnswer) -> None:
        """Give the copy the effects that the call builds on: also those since the call was prepared, but not those that wait."""
        self._note(answer)
        version = self._version(answer.call) - self._copy.running
        if obstacle := self._copy.obstacle(answer.call, version):
            raise _unknown(answer.call, obstacle)
        await self._copy.catch_up(version)

    async def _run(self, answer: GivenAnswer, decoded: DecodedCall) -> AttemptOutcome:
        outcome = await decoded.attempt()
        self._copy.running.discard(answer.effect)
        if may_have_landed(outcome):
            self._copy.applied.add(answer.effect)
        else:
            self._effects = [effect for effect in self._effects if effect.name != answer.effect]
        return outcome

    async def complete_copy(self) -> str:
        """Let the copy have every effect on files. Returns why it cannot, or ""."""
        version = frozenset(effect.name for effect in self._effects if effect.changes_files)
        if obstacle := self._copy.missing(version):
            return obstacle
        try:
            await self._copy.catch_up(version)
        except RecordEnds as failure:
            return str(failure)
        return ""

    def _version(self, call: Call) -> Version:
        """The version of what the call touches now, without its own effect."""
        own = self.answers.get(_place(call))
        return version_of(call, [effect for effect in self._effects if own is None or effect.name != own.effect])

    def _choose(self, call: Call) -> GivenAnswer:
        """Where the answer comes from. Raises RecordEnds if no record says it."""
        version = self._version(call)
        if call.action.partition(".")[0] not in self._changed:
            place = self._recorded.take(call.request_digest, version)
            if place is not None and _gets_the_same(call, self._recorded.by_name[name_of(place)].call):
                return GivenAnswer(call=call, source="recorded", place=place)
        obstacle = self._copy.obstacle(call, version)
        if not obstacle:
            return GivenAnswer(call=call, source="re-run")
        if call.effect == "read":
            raise _unknown(call, obstacle)
        return GivenAnswer(call=call, source="assumed", why=obstacle)

    def _note(self, answer: GivenAnswer) -> None:
        """Note the effect of the call before it is answered: from now on no other call gets an answer from before it."""
        if answer.place is not None:
            effect = self._recorded.by_name[answer.effect].effect
        else:
            effect = None if answer.call.effect == "read" else effect_of(answer.call, answer.effect)
        if effect is not None and all(other.name != effect.name for other in self._effects):
            self._effects.append(effect)
            if answer.source == "re-run":
                self._copy.running.add(effect.name)

    def _executor(self, answer: GivenAnswer) -> ToolExecutor:
        if answer.source == "recorded":
            return self._by_place if self._log.follows else self._by_version
        return self._copy.executor if answer.source == "re-run" else _Assumed(self._workspace)


def _unknown(call: Call, why: str) -> RecordEnds:
    return RecordEnds(f"the record does not say what {call.action} returns at step {name_of(_place(call))}: {why}")


def _place(call: Call) -> CallPlace:
    return (call.step, call.index)


def _gets_the_same(call: Call, recorded: Call) -> bool:
    """True if the rules narrow both calls to the same resources; what was left out does not matter."""
    narrowed = [None if each.narrowing is None else each.narrowing.permitted for each in (call, recorded)]
    return call.touches == recorded.touches and narrowed[0] == narrowed[1]


def _asked(answer: GivenAnswer) -> Call:
    """The call as the record knows it, if the answer is from there."""
    if answer.place is None:
        return answer.call
    step, index = answer.place
    return answer.call.model_copy(update={"step": step, "index": index})


class _Assumed:
    """Runs nothing, and says that the effect has landed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        return "", "none"

    async def read_digest(self, call: Call, number: int) -> str:
        return ""

    def keyed(self, call: Call) -> bool:
        return receives_key(self._workspace, call)

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        return ()

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        return ProbeOutcome(landed="landed")

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        async def assume(_: object) -> AttemptOutcome:
            return AttemptOutcome(code=None, value=None, landed="landed")

        yield Ready(run=assume)
