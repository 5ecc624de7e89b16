"""Runs long computations in threads, so that the event loop stays responsive.

They have a pool of their own. All threads of the loop's default pool may be held by tools that wait for exactly these
computations, which would be a deadlock.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, Generic, ParamSpec, TypeAlias, TypeVar, cast

LARGE: Final = (
    32 << 10
)  # characters or bytes; a smaller input takes a few milliseconds, less than a change of threads is worth
IDLE_S: Final = 10.0  # how long a thread of `in_own_thread` waits for its next function

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Work: TypeAlias = Callable[[], Callable[[], object]]  # runs a function; returns what hands over its answer
_THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="remit-reading")


async def in_thread(size: int, function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """Call the function in a thread; a function whose input has less than `LARGE` characters or bytes is called directly.

    The function must not change shared data: a task that is cancelled does not wait for its end.
    """
    if size < LARGE:
        return function(*given, **named)
    try:
        work = asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *given, **named))
    except RuntimeError:  # the interpreter is shutting down and starts no thread
        return function(*given, **named)
    return await work


async def in_thread_uninterrupted(size: int, function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """As `in_thread`, but a task that is cancelled still gets the result, and is cancelled where it waits next.

    For results that must be recorded once they exist.
    """
    if size < LARGE:
        return function(*given, **named)
    work = asyncio.ensure_future(in_thread(size, function, *given, **named))
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.cancel()  # CancelledError is raised where the task waits next
    return work.result()


async def in_own_thread(function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """Call a function of other code, which may never return: it then holds no thread of a pool, and the process ends without it.

    A task that is cancelled does not wait for its end. A thread whose function has returned is used again.
    """
    work = partial(contextvars.copy_context().run, partial(function, *given, **named))
    return await _started(_OWN_THREADS.start, work)


def in_pool(pool: ThreadPoolExecutor, function: Callable[[], _T]) -> asyncio.Future[_T]:
    """What the function returns in a thread of the pool. It is carried out to its end also if the caller is cancelled.

    Raises RuntimeError if the pool takes no more functions.
    """
    return _started(lambda work: pool.submit(lambda: work()()), function)


def _started(start: Callable[[_Work], object], function: Callable[[], _T]) -> asyncio.Future[_T]:
    """What the function returns, which `start` starts in another thread."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def run() -> Callable[[], object]:
        answer = _answer_of(function)
        return lambda: _hand_over(loop, result, answer)

    start(run)
    return result


@dataclass(frozen=True)
class _Answer(Generic[_T]):
    """What a function returned, or raised."""

    value: _T | None = None
    raised: BaseException | None = None


def _answer_of(work: Callable[[], _T]) -> _Answer[_T]:
    try:
        return _Answer(work())
    except BaseException as failure:  # noqa: BLE001 - raised in the task that waits
        return _Answer(raised=failure)


def _hand_over(loop: asyncio.AbstractEventLoop, result: asyncio.Future[_T], answer: _Answer[_T]) -> None:
    """Give the answer to the task that waits, from another thread."""

    def settle() -> None:
        if result.done():  # the task was cancelled
            return
        if answer.raised is None:
            result.set_result(cast("_T", answer.value))
        else:
            result.set_exception(answer.raised)

    with suppress(RuntimeError):  # the event loop has been closed
        loop.call_soon_threadsafe(settle)


class _OwnThreads:
    """Starts each function in a thread that runs no other one meanwhile; a new one costs ten times as much as an idle one.

    INVARIANT: a thread is idle only after its function has returned. One whose function never returns is never used again.
    """

    def __init__(self) -> None:
        # The inboxes of idle threads; `pop`, `append` and `remove` are atomic.
        self._idle: list[SimpleQueue[_Work]] = []
        os.register_at_fork(after_in_child=self._idle.clear)  # the child has none of the threads

    def start(self, work: _Work) -> None:
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue[_Work]()
            threading.Thread(target=self._serve, args=(inbox,), name="remit-host", daemon=True).start()
        inbox.put(work)

    def _serve(self, inbox: SimpleQueue[_Work]) -> None:
        while (work := self._next(inbox)) is not None:
            hand_over = work()
            self._idle.append(inbox)  # before the answer: the next call finds this thread
            hand_over()
            del work, hand_over  # an idle thread keeps nothing of a call

    def _next(self, inbox: SimpleQueue[_Work]) -> _Work | None:
        """The next function; None if none comes within `IDLE_S`."""
        while True:
            try:
                return inbox.get(timeout=IDLE_S)
            except Empty:
                with suppress(ValueError):  # not idle any more: a function is on its way
                    self._idle.remove(inbox)
                    return None


_OWN_THREADS: Final = _OwnThreads()
