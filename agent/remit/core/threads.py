"""Work that may take long, away from the event loop: what others wait for is answered meanwhile.

The threads are of their own, because those of the loop may all be taken by tools that wait for this very work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

LARGE: Final = 32 << 10  # characters or bytes that are worth a thread: less takes a few milliseconds

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="remit-reading")


async def in_thread(size: int, function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """What the function returns or raises. `size` is how much it reads; where that is little, it is called here.

    The function must change nothing that others read: whoever is cancelled while it runs does not wait for it.
    """
    if size < LARGE:
        return function(*given, **named)
    try:
        work = asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *given, **named))
    except RuntimeError:  # the interpreter ends, and starts no thread any more
        return function(*given, **named)
    return await work


async def in_thread_to_its_end(size: int, function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """As `in_thread`; whoever is cancelled meanwhile gets the result all the same, and is cancelled at its next wait.

    For what has to be recorded once it has happened.
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
        task.cancel()  # raised where it waits next
    return work.result()
