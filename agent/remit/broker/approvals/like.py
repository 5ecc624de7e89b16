"""What people approved before that is like a call: how often, and how the arguments differed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from remit.broker.approvals.summary import plain
from remit.core import Call, Json
from remit.core.events import NANO, AnyEvent, ApprovalGranted, ApprovalRequested, CallDecided
from remit.core.parsing import canonical_json
from remit.guardrails import Sanitizer
from remit.journal import Journal, Record

LIKE_SEEN: Final = 300  # the latest approvals that are looked at for like calls
LIKE_WINDOW_NS: Final = 90 * 86_400 * NANO
SHOWN: Final = 3  # similar approvals
LONGEST: Final = 200  # characters of a value in a difference
ABSENT: Final = "absent"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How one argument, or the resources, of a call differ from those of an earlier one, as texts for people."""

    name: str
    before: str
    now: str


@dataclass(frozen=True, kw_only=True)
class SimilarApproval:
    """An approval of a call of the same agent with the same action. `at` is Unix nanoseconds; without `differences` it was the same."""

    run: str
    step: int
    index: int
    approver: str
    role: str
    at: int
    differences: tuple[Difference, ...]


def like_approvals(journal: Journal, record: Record, requested: ApprovalRequested, now: int) -> int:
    """How many calls like this one people approved lately: calls of the same agent, with the same action and resources."""

    def like(call: Call | None) -> tuple[object, ...]:
        return () if call is None else (call.subjects.agent, call.action, *sorted({t.resource for t in call.touches}))

    this = like(_call(record.get(f"call.decided/{requested.step}/{requested.index}/0")))
    return len({place for place, _, _, call in _approved(journal, now) if this and like(call) == this})


def similar_approvals(
    journal: Journal, call: Call, now: int, sanitizer: Sanitizer, may_read: Callable[[str], bool]
) -> tuple[SimilarApproval, ...]:
    """The last approvals of other calls of the same agent with the same action, the latest first, each with what differs.

    INVARIANT: of a run for which `may_read` is False, nothing is in the result.
    """
    found: dict[tuple[str, int, int], SimilarApproval] = {}
    for place, at, granted, earlier in reversed(list(_approved(journal, now))):
        same = earlier is not None and (earlier.subjects.agent, earlier.action) == (call.subjects.agent, call.action)
        if earlier is None or not same or place in found or place == (call.run, call.step, call.index):
            continue
        if not may_read(place[0]):
            continue
        found[place] = SimilarApproval(
            run=place[0],
            step=granted.step,
            index=granted.index,
            approver=granted.approver,
            role=granted.role,
            at=at,
            differences=tuple(_differences(earlier, call, sanitizer)),
        )
        if len(found) == SHOWN:
            break
    return tuple(found.values())


def _approved(journal: Journal, now: int) -> Iterator[tuple[tuple[str, int, int], int, ApprovalGranted, Call | None]]:
    """The latest approvals of people, the oldest first: the place of the call, the time, the approval, the call."""
    for item in journal.every("approval.granted", since=now - LIKE_WINDOW_NS)[-LIKE_SEEN:]:
        event = item.event
        if isinstance(event, ApprovalGranted) and not event.scripted:
            decided = journal.get(item.run, f"call.decided/{event.step}/{event.index}/0")
            yield (item.run, event.step, event.index), item.at, event, _call(decided.event if decided else None)


def _call(event: AnyEvent | None) -> Call | None:
    return event.call if isinstance(event, CallDecided) else None


def _differences(before: Call, now: Call, sanitizer: Sanitizer) -> Iterator[Difference]:
    old: Mapping[str, Json] = sanitizer.arguments(before.arguments)
    new: Mapping[str, Json] = sanitizer.arguments(now.arguments)
    for name in sorted({*old, *new}):
        if name not in old or name not in new or old[name] != new[name]:
            yield Difference(name=plain(name), before=_text(old, name, sanitizer), now=_text(new, name, sanitizer))
    touched = [" ".join(sorted({touch.resource for touch in call.touches})) for call in (before, now)]
    if touched[0] != touched[1]:
        yield Difference(name="resources", before=plain(touched[0]), now=plain(touched[1]))


def _text(values: Mapping[str, Json], name: str, sanitizer: Sanitizer) -> str:
    if name not in values:
        return ABSENT
    shown = plain(sanitizer.text(canonical_json(values[name]).decode()))
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} … {len(shown) - LONGEST} more characters"
