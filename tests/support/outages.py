"""Models whose provider fails: in this process, or over HTTP on loopback."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remit.core.messages import Message, Model, ModelError, ModelTurn, ToolSpec
from support.openai_server import OpenAIServer, Reply


def busy(message: str = "overloaded", *, after: float | None = None) -> ModelError:
    """A failure that passes; `after` is in how many seconds, as the provider says it."""
    return ModelError(message, fix="wait", retryable=True, retry_after=after)


def gone(message: str = "there is no such model") -> ModelError:
    """A failure that does not pass."""
    return ModelError(message, fix="name another model")


class Unsteady:
    """A model that gives the turns of another one, except at the requests in `failures` (from 0): there it fails."""

    def __init__(self, model: Model, failures: Mapping[int, ModelError], name: str = "") -> None:
        self._model = model
        self._failures = failures
        self.name = name or model.name
        self.scripted = model.scripted
        self.asked = 0

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        number, self.asked = self.asked, self.asked + 1
        if number in self._failures:
            raise self._failures[number]
        return await self._model.think(step, messages, tools)


@dataclass
class BackLater(OpenAIServer):
    """A server that fails with `failure` from its second turn on, for `seconds` from the first failure."""

    failure: Reply = Reply(status=503)
    seconds: float = 0.0
    failed_at: float = 0.0
    failures: int = 0

    def next_turn(self) -> tuple[int, Reply] | None:
        if self.played == 0:
            return super().next_turn()
        self.failed_at = self.failed_at or time.monotonic()
        if time.monotonic() < self.failed_at + self.seconds:
            self.failures += 1
            return self.played, self.failure
        return super().next_turn()


def replies(*calls: tuple[str, str], answer: str = "done") -> list[Any]:
    """A turn for each call, and then the answer."""
    return [*(Reply(calls=[call]) for call in calls), Reply(text=answer)]
