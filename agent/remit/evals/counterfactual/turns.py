"""The turns of the model: as recorded while it reads what it read then, and those of another model after that."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core import NO_SETTINGS, Message, Model, ModelError, ModelTurn, ToolSpec, settings_of
from remit.core.events import ModelRequested, ModelResponded
from remit.evals.counterfactual.circumstances import PathLog
from remit.journal import Record
from remit.replay import RecordedModels, RecordEnds, recorded_turn
from remit.runtime import ModelList


class Turns:
    """The models of a run that goes on from a step of the record.

    `given` are the candidate's models: they take every turn from that step on. Without any, the recorded turns are repeated
    while the model reads exactly what it read then, and `otherwise` takes the others; without that one, the run ends there.
    """

    def __init__(self, log: PathLog, record: Record, given: Sequence[Model], otherwise: Model | None) -> None:
        started, recorded = record.state.started, log.recorded[0].event
        assert started is not None  # the first event is copied before
        self._log = log
        # Failures of the recorded model are repeated too, if nothing that it reads can differ.
        self._recorded = RecordedModels(log, started) if not given and started == recorded else None
        self._list = ModelList(given or [_RepeatedTurns(log, record, otherwise)])

    @property
    def repeats(self) -> bool:
        """True while turns and failures of the model are those of the record."""
        return self._log.follows and self._recorded is not None

    def choose(self, step: int, attempt: int | None, asked: str) -> Model | None:
        if self._log.follows and self._recorded is not None:
            return self._recorded.choose(step, attempt, asked)
        return self._list.choose(step, attempt, asked)

    def answered(self, model: Model) -> None:
        self._list.answered(model)

    def failed(self, step: int, attempt: int | None, model: Model, failure: ModelError) -> int | None:
        if self._log.follows and self._recorded is not None:
            return self._recorded.failed(step, attempt, model, failure)
        return self._list.failed(step, attempt, model, failure)


class _RepeatedTurns:
    """Repeats the recorded turn of a step if the model reads what it read then; else `otherwise` is asked."""

    def __init__(self, log: PathLog, record: Record, otherwise: Model | None) -> None:
        self._record = record
        self._otherwise = otherwise
        self._digests: dict[int, str] = {}
        self._turns: dict[int, ModelResponded] = {}
        for item in log.recorded:
            if isinstance(item.event, ModelRequested):
                self._digests[item.event.step] = item.event.input_digest
            elif isinstance(item.event, ModelResponded):
                self._turns[item.event.step] = item.event
        assert record.state.started is not None
        self.name = record.state.started.model if otherwise is None else otherwise.name
        self.scripted = record.state.started.scripted
        self.settings = NO_SETTINGS if otherwise is None else settings_of(otherwise)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        at = step + 1 + self._record.state.internal
        if at in self._turns and self._reads_the_same(at, tools):
            return recorded_turn(self._turns[at])
        if self._otherwise is None:
            raise RecordEnds(f"at step {at} the model reads something new, and no model is given that can answer it")
        return await self._otherwise.think(step, messages, tools)

    def _reads_the_same(self, at: int, tools: Sequence[ToolSpec]) -> bool:
        return self._digests[at] == self._record.conversation.input_digest(tools)
