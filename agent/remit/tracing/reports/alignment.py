"""Which call of one run is which call of another: by what was asked of what, not by name or position.

Calls that ask the same of the same are anchors. Between anchors, calls are paired in order wherever they mean enough the
same: the same action, or another one that asks the same of the same resources, or that brought the same to light. What
is left over and asks exactly the same was only asked at another place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Final

from remit.core import Json, Succeeded
from remit.core.parsing import canonical_json
from remit.tracing.reports.timeline import CallTimeline, Timeline

# What differs between any two runs and means nothing: times, and ids that machines draw.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)

SAME_ACTION: Final = 3
SAME_RESOURCES: Final = 3
SAME_RESULT: Final = 2
SAME_ARGUMENTS: Final = 2  # and less where only some are the same
ENOUGH: Final = 3  # what two calls must have in common to be one
WIDEST: Final = 250_000  # pairs of one gap that are weighed; in wider ones, calls are paired by action alone


@dataclass(frozen=True, kw_only=True)
class CallPair:
    """One call in both runs, or in one of them. `moved` says that it was asked at another place among the others."""

    a: CallTimeline | None
    b: CallTimeline | None
    moved: bool = False


def align_calls(a: Timeline, b: Timeline) -> list[CallPair]:
    """The calls of both runs, in order, those that mean the same side by side."""
    left, right = [_ComparedCall(call, a.run) for call in a.calls], [_ComparedCall(call, b.run) for call in b.calls]
    matcher = SequenceMatcher(None, [one.key for one in left], [one.key for one in right], autojunk=False)
    found: list[tuple[_ComparedCall | None, _ComparedCall | None]] = []
    for tag, from_a, to_a, from_b, to_b in matcher.get_opcodes():
        if tag == "equal":
            found += zip(left[from_a:to_a], right[from_b:to_b], strict=True)
        else:
            found += _align_gap(left[from_a:to_a], right[from_b:to_b])
    return _join_moved(found)


def normalize(value: Json, run: str) -> str:
    """The value as text in which run id, times and drawn ids are the same in every run."""
    text = canonical_json(value).decode() if not isinstance(value, str) else value
    text = text.replace(run, "<run>") if run else text
    return _UUID.sub("<uuid>", _TIME.sub("<time>", text))


class _ComparedCall:
    """A call and what it is compared by."""

    def __init__(self, call: CallTimeline, run: str) -> None:
        self.call = call
        self._run = run

    @cached_property
    def arguments(self) -> dict[str, str]:
        return {name: normalize(value, self._run) for name, value in self.call.arguments.items()}

    @cached_property
    def resources(self) -> tuple[str, ...]:
        return tuple(normalize(resource, self._run) for resource in self.call.resources)

    @cached_property
    def key(self) -> tuple[str, str]:
        asked = self.call.arguments or self.call.ask.arguments or ""
        return self.call.name, normalize(asked, self._run)

    @cached_property
    def result(self) -> str:
        """What the call brought to light; "" for what says little: an error, or a value like `true`."""
        if not isinstance(self.call.result, Succeeded):
            return ""
        text = normalize(self.call.result.value, self._run)
        return text if len(text) > len("false") else ""

    def common(self, other: _ComparedCall) -> float:
        """How much the two have in common; below `ENOUGH` they are two calls."""
        same_resources = bool(self.resources) and self.resources == other.resources
        same_result = bool(self.result) and self.result == other.result
        names = self.arguments.keys() | other.arguments.keys()
        shared = sum(self.arguments.get(name) == other.arguments.get(name) for name in names)
        arguments = shared / len(names) if names else 0.0
        same_action = self.call.name == other.call.name
        if not same_action and not (same_resources and (arguments == 1.0 or same_result)):
            return 0.0
        return (
            SAME_ACTION * same_action
            + SAME_RESOURCES * same_resources
            + SAME_RESULT * same_result
            + SAME_ARGUMENTS * arguments
        )


def _align_gap(
    a: Sequence[_ComparedCall], b: Sequence[_ComparedCall]
) -> list[tuple[_ComparedCall | None, _ComparedCall | None]]:
    """The pairing, in order, with the most in common (Needleman and Wunsch, without a price for gaps)."""
    if not a or not b or len(a) * len(b) > WIDEST:
        return [*((one, None) for one in a), *((None, one) for one in b)]
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    common = [[one.common(other) for other in b] for one in a]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            paired = common[i][j] + best[i + 1][j + 1] if common[i][j] >= ENOUGH else 0.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    found: list[tuple[_ComparedCall | None, _ComparedCall | None]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        if common[i][j] >= ENOUGH and best[i][j] == common[i][j] + best[i + 1][j + 1]:
            found.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            found.append((a[i], None))
            i += 1
        else:
            found.append((None, b[j]))
            j += 1
    return [*found, *((one, None) for one in a[i:]), *((None, one) for one in b[j:])]


def _join_moved(found: Sequence[tuple[_ComparedCall | None, _ComparedCall | None]]) -> list[CallPair]:
    """Calls that are alone on both sides and ask exactly the same are one call that moved."""
    alone: dict[tuple[str, str], list[int]] = {}
    for at, (one, other) in enumerate(found):
        if one is None and other is not None:
            alone.setdefault(other.key, []).append(at)
    partner: dict[int, int] = {}
    for at, (one, other) in enumerate(found):
        if one is not None and other is None and alone.get(one.key):
            partner[at] = alone[one.key].pop(0)
    taken = set(partner.values())
    pairs: list[CallPair] = []
    for at, (one, other) in enumerate(found):
        if at in taken:
            continue
        there = found[partner[at]][1] if at in partner else other
        a, b = (one.call if one else None), (there.call if there else None)
        pairs.append(CallPair(a=a, b=b, moved=at in partner))
    return pairs
