"""Runs long computations in threads, so that the event loop stays responsive.

They have a pool of their own. All threads of the loop's default pool may be held by tools that wait for exactly these
computations, which would be a deadlock.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

LARGE: Final = (
    32 << 10
)  # characters or bytes; a smaller input takes a few milliseconds, less than a change of threads is worth

_P = ParamSpec("_P")
_T = TypeVar("_T")
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

    A task that is cancelled does not wait for its end.
    """
    result = Future[_T]()
    result.set_running_or_notify_cancel()
    work = partial(contextvars.copy_context().run, partial(function, *given, **named))

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as failure:  # noqa: BLE001 - raised in the task that waits
            result.set_exception(failure)

    threading.Thread(target=run, name="remit-host", daemon=True).start()
    return await asyncio.wrap_future(result)
