"""The events of a run while it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeAlias

from remit.core import UsageError
from remit.core.events import Recorded
from remit.runtime import RunResult

# Starts the run; the argument gets each event after it is recorded.
Drive: TypeAlias = Callable[[Callable[[Recorded], None]], Coroutine[Any, Any, RunResult]]


class AsyncRunStream:
    """The events of one run, in order, each after it is recorded. The run starts when the first event is requested.

    Leaving the loop early, or `aclose`, stops driving the run: it can be resumed.

        async with client.stream("triage", "Checkout is failing") as stream:
            async for event in stream:
                print(event.event.type)
        print(stream.result.outcome)
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._events: asyncio.Queue[Recorded | None] = asyncio.Queue()
        self._task: asyncio.Task[RunResult] | None = None

    @property
    def result(self) -> RunResult:
        """How the run ended or paused. Raises UsageError before the last event was read."""
        if self._task is None or not self._task.done():
            raise UsageError("the run still goes on: read all events of the stream first")
        return self._task.result()

    def __aiter__(self) -> AsyncIterator[Recorded]:
        return self

    async def __anext__(self) -> Recorded:
        if self._task is None:
            self._task = asyncio.ensure_future(self._drive(self._events.put_nowait))
            self._task.add_done_callback(lambda _: self._events.put_nowait(None))
        recorded = await self._events.get()
        if recorded is None:
            self._events.put_nowait(None)  # a second loop ends at once
            self._task.result()  # raises what ended the run
            raise StopAsyncIteration
        return recorded

    async def aclose(self) -> None:
        """Stop driving the run, if it still goes on."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


class RunStream:
    """The events of one run, in order, each after it is recorded. The run starts when the first event is requested.

    The run waits while the program handles an event. Leaving the `with` block early stops driving the run: it can be resumed.

        with client.stream("triage", "Checkout is failing") as stream:
            for event in stream:
                print(event.event.type)
        print(stream.result.outcome)
    """

    def __init__(self, events: AsyncRunStream) -> None:
        self._stream = events
        self._runner = asyncio.Runner()
        self._closed = False

    @property
    def result(self) -> RunResult:
        """How the run ended or paused. Raises UsageError before the last event was read."""
        return self._stream.result

    def __iter__(self) -> Iterator[Recorded]:
        return self

    def __next__(self) -> Recorded:
        if self._closed:
            raise StopIteration
        recorded = self._runner.run(self._next())
        if recorded is None:
            self.close()
            raise StopIteration
        return recorded

    async def _next(self) -> Recorded | None:
        return await anext(self._stream, None)

    def close(self) -> None:
        """Stop driving the run, if it still goes on."""
        if not self._closed:
            self._closed = True
            self._runner.run(self._stream.aclose())
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
