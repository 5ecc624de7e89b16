"""The log of a replayed run: it knows the recorded events, and which of them the replay has reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remit.core import Call, Claim, Error, Failed
from remit.core.events import (
    AnswerGiven,
    AnyEvent,
    ApprovalRefused,
    ApprovalRequested,
    AttemptProgressed,
    BreakGlassReviewed,
    BudgetSpent,
    CallAnswered,
    ContextReduced,
    EffectSettled,
    Recorded,
)
from remit.journal import MemoryLog, Record, RunState


class RecordEnds(Exception):
    """The record ends here: what the run needs next was not recorded."""


@dataclass
class ReplayLog(MemoryLog):
    """The log of a replayed run: it keeps appended events and maps each to the recorded event that it repeats.

    With `loose`, a recorded approval also counts for the same call under other rules.
    """

    recorded: Sequence[Recorded]
    loose: bool = True

    def __post_init__(self) -> None:
        super().__init__()
        self.by_key = {item.key: item for item in self.recorded}
        self.reached: set[str] = set()  # keys as recorded; under other rules the replayed keys can differ
        self._by_call: dict[tuple[int | None, int | None], list[Recorded]] = {}
        for item in self.recorded:
            # Events by people, and what a tool prints, have no fixed place among the steps of a call, so they never count as "next".
            if (
                item.event is not None
                and not is_by_person(item.event)
                and not isinstance(item.event, AttemptProgressed)
            ):
                self._by_call.setdefault((item.event.step, item.event.index), []).append(item)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        return self.follow(run, event, self.by_key.get(self.key_then(event)))

    def copy(self, items: Iterable[Recorded]) -> None:
        """Keep these events as they were recorded. They are numbered again, because events between them may be left out."""
        for item in items:
            self.reached.add(item.key)
            self.keep(item.model_copy(update={"seq": len(self._events)}))

    def follow(self, run: str, event: AnyEvent, recorded: Recorded | None) -> Recorded:
        """Keep the event, unsealed, with the time of the recorded event that it repeats."""
        at = self._events[-1].at if self._events else 0
        if recorded is not None:
            self.reached.add(recorded.key)
            at = max(at, recorded.at)
            if isinstance(event, ApprovalRequested) and isinstance(recorded.event, ApprovalRequested):
                # The expiry follows the version of Remit that recorded the request, not the one that replays it.
                event = event.model_copy(update={"expires_at": recorded.event.expires_at})
        # Built without validation: the event is valid, and this runs for each event of each replay.
        return self.keep(
            Recorded.model_construct(
                run=run,
                seq=len(self._events),
                at=at,
                type=event.type,
                key=event.key,
                prev="",
                hash="",
                payload_digest="",
                salt=None,
                event=event,
            )
        )

    def run_state(self, record: Record, call: Call) -> RunState:
        """The run state that a decision about that call may read."""
        return record.state

    def next_of(self, step: int | None, index: int | None) -> Recorded | None:
        """The first recorded event of that call that has not been reached."""
        return next((item for item in self._by_call.get((step, index), ()) if item.key not in self.reached), None)

    def error_next(self, call: Call) -> Error | None:
        """The error that the call ends with, if that is the next recorded event of the call."""
        following = self.next_of(call.step, call.index)
        answered = following.event if following is not None else None
        result = answered.result if isinstance(answered, CallAnswered) else None
        return result.error if isinstance(result, Failed) else None

    def next_overflow(self, step: int, attempt: int | None) -> ContextReduced | None:
        """The next recorded refusal of that request, because the conversation was too long for the model."""
        items = (item for item in self._by_call.get((step, None), ()) if item.key not in self.reached)
        events = (item.event for item in items if isinstance(item.event, ContextReduced))
        return next((event for event in events if event.cause == "overflow" and event.attempt == attempt), None)

    def next_decided(self, step: int, index: int) -> Recorded | None:
        """The next recorded decision of that call; only events of shared limits may come before it."""
        following = (item for item in self._by_call.get((step, index), ()) if item.key not in self.reached)
        return next((item for item in following if not isinstance(item.event, BudgetSpent)), None)

    def latest_decided(self, step: int, index: int) -> Recorded | None:
        """The last decision of that call that has been reached, or else the first one that is recorded."""
        decided = [item for item in self._by_call.get((step, index), ()) if item.type == "call.decided"]
        return next((item for item in reversed(decided) if item.key in self.reached), decided[0] if decided else None)

    def key_then(self, event: AnyEvent) -> str:
        """The key under which the record has this event.

        Keys of approvals contain the digest of the recorded decision, which is another one under other rules.
        """
        if not self.loose or not event.type.startswith("approval."):
            return event.key
        # The key of a rejection does not contain the approver.
        approver = "" if event.type == "approval.rejected" else getattr(event, "approver", "")
        number = f"/{getattr(event, 'number', 1)}" if event.type != "approval.rejected" else ""
        prefix, suffix = f"{event.type}/{event.step}/{event.index}/", f"/{approver}{number}" if approver else ""
        return next((key for key in self.by_key if key.startswith(prefix) and key.endswith(suffix)), event.key)

    def event(self, key: str) -> AnyEvent | None:
        """The recorded event of that key."""
        recorded = self.by_key.get(key)
        return recorded.event if recorded else None


def events_before(records: Sequence[Recorded], step: int) -> list[Recorded]:
    """The first event of a run, and the events of its steps before that one, as far as they were recorded before it began."""
    steps = [None if item.event is None else item.event.step for item in records]
    end = next((at for at, of in enumerate(steps) if of is not None and of >= step), len(records))
    return [records[0], *(item for item, of in zip(records[:end], steps, strict=False) if of is not None)]


def is_by_person(event: AnyEvent) -> bool:
    """True for an act of a person outside the steps of the run: a refused or reviewed approval, a given answer, or a settled effect."""
    return isinstance(event, ApprovalRefused | BreakGlassReviewed | AnswerGiven) or (
        isinstance(event, EffectSettled) and event.by_person
    )
