"""Who sends what, when it is tried again, and what is recorded. The journal is the queue and the memory.

An attempt is recorded before anything leaves the process. The key of its event is unique, so of several services one makes it; if that
one dies, another makes the next attempt after a minute. The key of a delivery is unique too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from remit.core.events import NANO, AnyEvent, NotificationBegun, NotificationFailed, NotificationSent
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal
from remit.notifications.messages import message_of
from remit.notifications.sending import NotSent, Sender
from remit.notifications.subjects import Subject, described, subjects_of
from remit.workspace import Channel

QUEUE: Final = 100  # subjects that one channel gets in one pass; the others wait in the journal
PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400)  # after attempt 1, 2, …
ATTEMPTS: Final = len(PAUSES_S) + 1
CLAIM_NS: Final = 60 * NANO  # longer than an attempt takes: then its process has died
REST_S: Final = 60.0  # the longest that a channel rests after a failure, without a wish of the receiver


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One attempt. `reason` says why it failed, "" if it arrived; `again_at` is in Unix nanoseconds, None without a further attempt."""

    channel: str
    subject: str
    number: int
    outcome: Literal["sent", "failed", "given up"]
    reason: str = ""
    again_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far a delivery has come: attempts that were begun, and when the next is due (Unix nanoseconds); None: there is none."""

    begun: int = 0
    due: int | None = 0


class ChannelDeliveries:
    """The deliveries of one channel. `jitter` spreads attempts of several services: it gives a factor of each pause."""

    def __init__(
        self,
        journal: Journal,
        channel: Channel,
        sender: Sender,
        *,
        jitter: Callable[[], float] = lambda: random.uniform(1.0, 1.2),  # noqa: S311 - no secret
    ) -> None:
        self._journal = journal
        self._channel = channel
        self._sender = sender
        self._jitter = jitter
        self._known: dict[str, _Progress] = {}  # of the subjects that are so now, and no others
        self._rests_until = 0

    async def send_due(self) -> list[Delivery]:
        """Make the attempts that are due, the oldest subject first, at most `QUEUE`. A failure of the channel ends the pass.

        Raises:
            RunEnded: `unrecorded`: the journal cannot be read or written. Nothing is sent then.
        """
        made: list[Delivery] = []
        if self._journal.clock() < self._rests_until:
            return made
        for subject in await self._journal.run_in_thread(self._due):
            begun = await self._journal.run_in_thread(self._begin, subject)
            if begun is None:
                continue
            made.append(await self._attempt(*begun))
            if self._journal.clock() < self._rests_until:
                break
        return made

    def _due(self) -> list[Subject]:
        """The subjects for this channel whose next attempt is due."""
        subjects = {item.id: item for item in subjects_of(self._journal) if self._is_for(item)}
        self._known = {id: progress for id, progress in self._known.items() if id in subjects}
        now, due = self._journal.clock(), list[Subject]()
        for id, subject in subjects.items():
            at = self._known.get(id, _Progress()).due
            if at is None or now < at:
                continue
            progress = self._known[id] = self._progress(id)  # another service may have sent it
            if progress.due is not None and now >= progress.due:
                due.append(subject)
                if len(due) == QUEUE:
                    break
        return due

    def _is_for(self, subject: Subject) -> bool:
        channel = self._channel
        concerns = not channel.agents or not subject.agent or subject.agent in channel.agents
        return subject.kind in channel.kinds and concerns

    def _progress(self, id: str) -> _Progress:
        """How far the delivery has come, by the journal."""
        place, number, due = f"{self._channel.name}/{id}", 0, 0
        if self._journal.get(WORKSPACE_RUN, f"notification.sent/{place}") is not None:
            return _Progress(due=None)
        while (begun := self._journal.get(WORKSPACE_RUN, f"notification.begun/{place}/{number + 1}")) is not None:
            number += 1
            failed = self._journal.get(WORKSPACE_RUN, f"notification.failed/{place}/{number}")
            due = begun.at + CLAIM_NS
            if failed is not None and isinstance(failed.event, NotificationFailed):
                if failed.event.again_at is None:
                    return _Progress(begun=number, due=None)
                due = failed.event.again_at
        return _Progress(begun=number, due=None if number >= ATTEMPTS else due)

    def _begin(self, subject: Subject) -> tuple[Subject, int] | None:
        """Record the attempt. None: the subject is not for the channel, or another service begins this attempt."""
        found = described(self._journal, subject)
        roles = self._channel.roles
        if found is None or (found.kind == "approval" and roles and not set(roles) & set(found.roles)):
            self._known[subject.id] = _Progress(due=None)
            return None
        number = self._known[subject.id].begun + 1
        begun = NotificationBegun(channel=self._channel.name, kind=found.kind, subject=found.id, number=number)
        try:
            # INVARIANT: durable before anything leaves the process: no record, no effect.
            self._journal.append_shared(WORKSPACE_RUN, begun, durable=True)
        except AlreadyRecorded:
            return None
        return found, number

    async def _attempt(self, subject: Subject, number: int) -> Delivery:
        delivery = Delivery(channel=self._channel.name, subject=subject.id, number=number, outcome="sent")
        try:
            await self._sender.send(message_of(subject, self._channel))
        except NotSent as failure:
            delivery = self._failed(delivery, failure)
        self._known[subject.id] = _Progress(begun=number, due=delivery.again_at)
        await self._journal.run_in_thread(self._record, subject, delivery)
        return delivery

    def _failed(self, delivery: Delivery, failure: NotSent) -> Delivery:
        """The failed attempt, with the time of the next one. The channel rests, if it is not about this message alone."""
        if failure.for_good or delivery.number >= ATTEMPTS:
            return replace(delivery, outcome="given up", reason=failure.reason)
        now = self._journal.clock()
        pause = max(PAUSES_S[delivery.number - 1] * self._jitter(), failure.after_s)
        if not failure.of_message:
            self._rests_until = now + int(max(min(pause, REST_S), failure.after_s) * NANO)
        again_at = now + int(pause * NANO)
        return replace(delivery, outcome="failed", reason=failure.reason, again_at=again_at)

    def _record(self, subject: Subject, delivery: Delivery) -> None:
        place = {"channel": delivery.channel, "kind": subject.kind, "subject": subject.id, "number": delivery.number}
        event: AnyEvent = (
            NotificationSent.model_validate(place)
            if delivery.outcome == "sent"
            else NotificationFailed.model_validate({**place, "reason": delivery.reason, "again_at": delivery.again_at})
        )
        with suppress(AlreadyRecorded):  # a slow service and another one have both sent it: one delivery is recorded
            self._journal.append_shared(WORKSPACE_RUN, event, durable=False)
