"""An event loop in a thread of its own, so that a graph may run in any loop, in several, or in none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from remit.core import UsageError

AT_ONCE: Final = 64  # calls of tools of the graph that run at the same time

_T = TypeVar("_T")


class Loop:
    """The event loop of the broker, in a thread of its own: a graph may run in any loop, in several, or in none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tools = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remit-tool")
        self._loop.set_default_executor(self._tools)
        self._thread = threading.Thread(target=self._loop.run_forever, name="remit", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have it done there, and wait."""
        return self._begun(work).result()

    async def acall(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.wrap_future(self._begun(work))

    def _begun(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        if self._loop.is_closed():
            work.close()
            raise UsageError("this Remit is closed: nothing more is carried out by it")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Have one more thing done there, without other threads: an interpreter that ends starts none."""
        self._loop.set_default_executor(_Here())
        try:
            self.call(last)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._tools.shutdown(wait=False)


class _Here(ThreadPoolExecutor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        done: Future[_T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as failure:  # noqa: BLE001 - whoever asked for it is told
            done.set_exception(failure)
        return done
