"""The longest time of a request, without a timer for the many that never wait."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

_T = TypeVar("_T")
_Steps = Coroutine[Any, Any, _T]


@types.coroutine
def in_time(work: _Steps[_T], seconds: float | None) -> Generator[Any, Any, _T]:
    """The result of `work`. Raises TimeoutError if it waits and is not there after so many seconds; None: it may wait as long as it wants.

    An answer from memory never waits. To set a timer and to take it back costs as much as to read the body of its request.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    return (yield from _timed(work, waits_for, seconds).__await__())


async def _timed(work: _Steps[_T], waits_for: object, seconds: float | None) -> _T:
    async with asyncio.timeout(seconds):
        return await _resumed(work, waits_for)


@types.coroutine
def _resumed(work: _Steps[_T], waits_for: object) -> Generator[Any, Any, _T]:
    """`await work`, for work that has begun and waits (PEP 380 says what `await` does)."""
    while True:
        try:
            try:
                given = yield waits_for
            except BaseException as failure:  # noqa: BLE001 - also that the request is cancelled: the work decides what follows
                waits_for = work.throw(failure)
            else:
                waits_for = work.send(given)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
