"""Answers the model of a run from its record: each request gets the recorded turn or failure."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core import NO_SETTINGS, Message, Model, ModelError, ModelTurn, ToolSpec
from remit.core.events import ModelFailed, ModelRequested, ModelResponded, RunFinished, RunStarted
from remit.replay.replay_log import RecordEnds, ReplayLog


class RecordedModels:
    """The models of a recorded run: each request goes to the recorded model, and gets the recorded turn or failure."""

    def __init__(self, log: ReplayLog, started: RunStarted) -> None:
        self._log = log
        self._started = started

    def choose(self, step: int, attempt: int | None, asked: str) -> Model | None:
        requested = self._log.event(_key("model.requested", step, attempt))
        if isinstance(requested, ModelRequested):
            return _RecordedModel(self._log, self._started, (step, attempt), requested)
        # A record that ends while the run waits for its model. A whole one may say that the time budget ended meanwhile.
        if attempt is not None and self._log.event("run.finished/-/-/-") is None:
            return None
        return _RecordedModel(self._log, self._started, (step, attempt))

    def answered(self, model: Model) -> None:
        return None

    def failed(self, step: int, attempt: int | None, model: Model, failure: ModelError) -> int | None:
        failed = self._log.event(_key("model.failed", step, attempt))
        return failed.again_at if isinstance(failed, ModelFailed) else None


class _RecordedModel:
    """Returns the recorded turn of one model. `request` is its step, and its attempt: None for the first of a step."""

    def __init__(
        self,
        log: ReplayLog,
        started: RunStarted,
        request: tuple[int, int | None],
        requested: ModelRequested | None = None,
    ) -> None:
        self._log = log
        self._step, self._attempt = request
        self.name = started.model if requested is None else requested.model
        self.scripted = started.scripted
        self.settings = NO_SETTINGS if requested is None else requested.settings

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        if (refused := self._log.next_overflow(self._step, self._attempt)) is not None:
            message, _, fix = refused.message.partition("\n    fix: ")
            raise ModelError(message, fix=fix, overflow=True)
        failed = self._log.event(_key("model.failed", self._step, self._attempt))
        if isinstance(failed, ModelFailed):
            message, _, fix = failed.message.partition("\n    fix: ")
            raise ModelError(message, fix=fix, retryable=failed.passing)
        answered = self._log.event(f"model.responded/{self._step}/-/-")
        if isinstance(answered, ModelResponded):
            return recorded_turn(answered)
        finished = self._log.event("run.finished/-/-/-")
        if isinstance(finished, RunFinished) and finished.code == "budget_exhausted":
            raise TimeoutError  # the time budget of the run ended while the model was answering
        raise RecordEnds


def recorded_turn(responded: ModelResponded) -> ModelTurn:
    """The turn of a model, as it was recorded."""
    return ModelTurn(
        text=responded.text,
        proposed_calls=(*responded.proposed_calls, *responded.own_calls),
        finish=responded.finish,
        usage=responded.usage,
        response_model=responded.response_model,
        provider_state=responded.provider_state,
        deviations=responded.deviations,
        by=responded.by,
    )


def _key(kind: str, step: int, attempt: int | None) -> str:
    return f"{kind}/{step}/-/{'-' if attempt is None else attempt}"
