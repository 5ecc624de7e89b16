"""The record of decisions that enforcement points were given.

An enforcement point waits for each answer, and asks for hundreds a second; so its decisions are recorded together, a fifth of a
second later. What a crash of the service can lose is the record of the decisions of that time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from remit.core import Principal
from remit.core.events import DecisionsGiven, GivenDecision
from remit.journal import Journal, note_act
from remit.server.http.answers import HttpRefusal

TOGETHER_S: Final = 0.2  # how long decisions wait for others
MOST_WAITING: Final = 10_000  # decisions that are not recorded yet
MOST_IN_EVENT: Final = 100
_log: Final = logging.getLogger("remit.server")


@dataclass(frozen=True, kw_only=True)
class _Given:
    """One decision, and what decisions of one event have in common."""

    by: Principal
    point: str
    policy_digest: str
    decision: GivenDecision

    @property
    def common(self) -> tuple[str, str, str, str, str]:
        return (self.point, self.policy_digest, self.by.subject, self.by.issuer, self.by.session)


class GivenDecisions:
    """Records decisions of one workspace. Used by one event loop.

    INVARIANT: once the record has failed, or is too far behind, nothing more is decided until all of it is written.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal: Final = journal
        self._waiting: list[_Given] = []
        self._failed = False
        self._writing: asyncio.Task[None] | None = None
        self._one_writes = asyncio.Lock()

    def check(self) -> None:
        """Raise HttpRefusal `unrecorded` if a decision could not be recorded now."""
        if self._failed or len(self._waiting) >= MOST_WAITING:
            self._write_soon()
            raise HttpRefusal("unrecorded", "decisions cannot be recorded, so none is given", retry_after_s=1.0)

    def add(
        self, by: Principal, point: str, policy_digest: str, decisions: Iterable[GivenDecision], request: str
    ) -> None:
        """Record them soon; `request` is the id that the enforcement point gave its request."""
        at = time.time_ns()
        self._waiting += [
            _Given(
                by=by,
                point=point,
                policy_digest=policy_digest,
                decision=one.model_copy(update={"at": at, "request": request}),
            )
            for one in decisions
        ]
        self._write_soon()

    async def end(self) -> None:
        """Record what waits."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_later())

    async def _write_later(self) -> None:
        while self._waiting and not self._failed:
            await asyncio.sleep(TOGETHER_S)
            await asyncio.shield(self._write())
        if self._failed:  # the next request that is refused tries again
            await asyncio.sleep(TOGETHER_S)
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        async with self._one_writes:
            while self._waiting:
                batch = self._waiting[:MOST_IN_EVENT]
                try:
                    written = await self._journal.run_in_thread(_write_one, self._journal, batch)
                except Exception:  # noqa: BLE001 - whatever fails is in the log; those who ask get one code
                    _log.exception("%d decisions are not recorded yet", len(self._waiting))
                    self._failed = True
                    return
                del self._waiting[:written]
            self._failed = False


def _write_one(journal: Journal, batch: Sequence[_Given]) -> int:
    """Record the first decisions that have everything in common; returns how many."""
    first, decisions = next(_together(batch))
    note_act(
        journal,
        lambda number: DecisionsGiven(
            number=number, point=first.point, policy_digest=first.policy_digest, decisions=decisions, by=first.by
        ),
    )
    return len(decisions)


def _together(batch: Sequence[_Given]) -> Iterator[tuple[_Given, tuple[GivenDecision, ...]]]:
    for _, group in groupby(batch, key=lambda one: one.common):
        same = list(group)
        yield same[0], tuple(one.decision for one in same)
