"""Functions of other code run in threads of their own, and a thread is used again once its function has returned."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Final

import pytest

from remit.core import in_own_thread, in_pool, threads
from support.journals import soon

WHO: Final[ContextVar[str]] = ContextVar("who", default="nobody")


def waits(released: threading.Event) -> Callable[[], int]:
    """A function that returns its thread once it is released."""

    def run() -> int:
        released.wait(30)
        return threading.get_ident()

    return run


async def test_a_thread_runs_the_next_function_once_its_own_has_returned() -> None:
    first = await in_own_thread(threading.get_ident)
    assert first != threading.get_ident()
    assert await in_own_thread(threading.get_ident) == first


async def test_a_function_that_has_not_returned_keeps_its_thread_to_itself() -> None:
    released = threading.Event()
    stuck = asyncio.ensure_future(in_own_thread(waits(released)))
    late = asyncio.ensure_future(in_own_thread(waits(released)))
    await asyncio.sleep(0.05)
    stuck.cancel()  # as at the limit of a tool
    others = {await in_own_thread(threading.get_ident) for _ in range(3)}
    released.set()
    assert await late not in others


async def test_what_a_function_raises_and_the_context_of_its_caller_stay_with_that_call() -> None:
    def fails() -> None:
        WHO.set("the tool")
        raise StopAsyncIteration("broken")

    WHO.set("ann")
    with pytest.raises(StopAsyncIteration, match="broken"):
        await in_own_thread(fails)
    assert await in_own_thread(WHO.get) == "ann"
    assert WHO.get() == "ann"


async def test_a_thread_that_gets_no_function_for_a_while_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_S", 0.05)
    own = threads._OwnThreads()
    monkeypatch.setattr(threads, "_OWN_THREADS", own)
    before = await in_own_thread(threading.get_ident)
    await soon(lambda: before not in {thread.ident for thread in threading.enumerate()})
    assert await in_own_thread(lambda: "again") == "again"


def test_a_process_that_is_forked_starts_threads_of_its_own() -> None:
    """None of those of its parent exists there: a function that one of them gets would never run."""
    asyncio.run(in_own_thread(threading.get_ident))
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            answer = asyncio.run(asyncio.wait_for(in_own_thread(lambda: b"ran"), 10))
        except BaseException:  # noqa: BLE001 - the child must not go on with the tests
            answer = b"failed"
        os.write(writing, answer)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"ran"
    os.close(reading)
    os.close(writing)


async def test_what_a_pool_has_begun_is_completed_although_its_caller_was_cancelled() -> None:
    released, done = threading.Event(), threading.Event()

    def write() -> None:
        released.wait(30)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = asyncio.ensure_future(asyncio.wait_for(in_pool(pool, write), 0.05))
        queued = in_pool(pool, lambda: "second")
        with pytest.raises(TimeoutError):
            await waiting
        released.set()
        assert await queued == "second"
        assert done.is_set()
