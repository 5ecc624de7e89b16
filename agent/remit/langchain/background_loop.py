"""An event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from remit.core import UsageError

MAX_PARALLEL: Final = 64  # calls of the graph's tools that run at the same time

_T = TypeVar("_T")


class BackgroundLoop:
    """The event loop of the broker, in its own thread: the graph may use any event loop, several, or none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tools = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="remit-tool")
        self._loop.set_default_executor(self._tools)
        self._thread = threading.Thread(target=self._loop.run_forever, name="remit", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run the coroutine in the background loop and wait for its result."""
        return self._submit(work).result()

    async def acall(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Like `call`, for a caller in another event loop."""
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        if self._loop.is_closed():
            work.close()
            raise UsageError("this RemitMiddleware is closed: create a new one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run one last coroutine, then end the loop. Starts no thread, because an interpreter that exits cannot start one."""
        self._loop.set_default_executor(_SameThreadExecutor())
        try:
            self.call(last)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._tools.shutdown(wait=False)


class _SameThreadExecutor(ThreadPoolExecutor):
    """An executor that runs each function immediately, in the calling thread."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        done: Future[_T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as failure:  # noqa: BLE001 - the future hands it to the caller
            done.set_exception(failure)
        return done
