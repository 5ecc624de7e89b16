"""Answers a call that only reads from the record of its run, if an earlier call read the same.

An earlier call counts if it was the same request to the same code in the same confinement, and if what it could read had the same
digest before it ran, after it ran, and now. The call itself is decided and recorded like any other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remit.broker.attempts import DecodedCall, Ready
from remit.broker.ports import AttemptOutcome
from remit.core import Call, ResourceUsage
from remit.core.events import AttemptBegun, AttemptEnded
from remit.journal import Record


@dataclass(frozen=True, kw_only=True)
class CachedRead:
    """The recorded result of an earlier call. `place` is that call: "STEP.INDEX"."""

    place: str
    ended: AttemptEnded

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        """The call with its recorded result. The same arguments were decoded for the earlier call."""
        yield Ready(run=lambda _: self._attempt())

    async def _attempt(self) -> AttemptOutcome:
        size = self.ended.spent.output_bytes
        spent = ResourceUsage(output_bytes=size)
        return AttemptOutcome(code=None, value=self.ended.value, objects=self.ended.objects, spent=spent)


def cached_read(record: Record, call: Call, profile: str, read: str) -> CachedRead | None:
    """The result of an earlier call that answers this one; None without one.

    `profile` is the digest of its confinement, `read` that of what it can read now.
    """
    # Only of an earlier step: calls of one step run at the same time, and a replay must find the same call again.
    place = record.state.reads.get(call.request_digest)
    if place is None or place[0] >= call.step:
        return None
    step, index, attempt = place
    begun, ended = (record.get(f"attempt.{what}/{step}/{index}/{attempt}") for what in ("begun", "ended"))
    if not isinstance(begun, AttemptBegun) or not isinstance(ended, AttemptEnded):
        return None
    if (begun.profile_digest, ended.read_digest) != (profile, read):
        return None
    return CachedRead(place=f"{step}.{index}", ended=ended)
