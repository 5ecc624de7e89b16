"""Models whose provider fails: in this process, or over HTTP on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.client import replay_trace
from remit.core.events import ModelFailed, ModelRequested, Recorded
from remit.core.messages import Message, Model, ModelError, ModelTurn, ToolSpec
from remit.journal import check_projections
from remit.replay.replayer import ReplayResult
from remit.runtime import runner as run
from remit.tracing import open_trace, read_trace
from remit.tracing.reports import verify
from remit.workspace.session import WorkspaceSession, open_session
from support.lifecycle import RUN, Killed, die_at
from support.openai_server import OpenAIServer, Reply
from support.principals import OPERATOR
from support.runs import Played, turn

PAY: Final = turn(ledger__pay={"name": "ann", "amount": 5})
LOOK: Final = turn(ledger__look={"name": "ann"})


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


def started(
    folder: Path,
    failures: Mapping[int, ModelError] | None = None,
    *fallbacks: Model,
    dies_at: str = "",
    seen: Callable[[Recorded], None] | None = None,
) -> Played | None:
    """Run the clerk with a model that fails at these requests; None if the process died."""
    opened = open_session(folder)
    if dies_at:
        die_at(opened.journal, dies_at)
    request = run.RunRequest(
        agent="clerk",
        task="keep the ledger",
        subject="user:operator",
        by=OPERATOR,
        model=Unsteady(run.open_model_of(opened, "clerk"), failures or {}),
        fallbacks=fallbacks,
        run=RUN,
    )
    try:
        ended = asyncio.run(run.start_run(opened, request, on_event=seen))
    except Killed:
        return None
    return Played(folder=folder, opened=opened, ended=ended)


def ended(folder: Path, failures: Mapping[int, ModelError], *fallbacks: Model) -> Played:
    played = started(folder, failures, *fallbacks)
    assert played is not None
    return played


def replayed_from_journal(opened: WorkspaceSession) -> ReplayResult:
    """The replay of the run as the journal has it, also if its process was killed."""
    return asyncio.run(replay_trace(open_trace(opened.traces, opened.journal, RUN)))


def failures_of(played: Played) -> list[ModelFailed]:
    return [item.event for item in played.records if isinstance(item.event, ModelFailed)]


def asked(played: Played) -> list[tuple[int, str]]:
    """The step and the model of each request."""
    return [(item.event.step, item.event.model) for item in played.records if isinstance(item.event, ModelRequested)]


def completed(played: Played, *, payments: int = 1) -> None:
    """The run completed, each payment was made once, the lists follow from the events, and the replay reproduces it."""
    assert played.ended.outcome == "completed", played.ended.finished
    assert len(played.effects) == payments
    assert verify(read_trace(played.ended.trace)) == ()
    assert check_projections(played.opened.journal) == []
    result = replayed_from_journal(played.opened)
    assert (result.divergences, result.complete) == ((), True)
