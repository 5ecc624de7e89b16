"""Pairs the calls of two runs by action, arguments, resources and result, not by position.

Calls with equal action and arguments are anchors. Between anchors, calls are paired in order if they have enough in
common: the same action, or another action with the same resources and the same arguments or result. Of the calls that
remain, two with equal action and arguments are one call that moved.
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

# What differs between any two runs and has no meaning: times and random ids.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)

SAME_ACTION: Final = 3
SAME_RESOURCES: Final = 3
SAME_RESULT: Final = 2
SAME_ARGUMENTS: Final = 2  # multiplied by the share of equal arguments
ENOUGH: Final = 3  # the score from which two calls count as the same call
WIDEST: Final = 250_000  # the largest number of pairs in one gap that are scored; in a wider gap no calls are paired


@dataclass(frozen=True, kw_only=True)
class CallPair:
    """One call in both runs, or in one of them. `moved`: it has another position among the calls of the other run."""

    a: CallTimeline | None
    b: CallTimeline | None
    moved: bool = False


def align_calls(a: Timeline, b: Timeline) -> list[CallPair]:
    """The calls of both runs, in order, with the same calls side by side."""
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
    """The value as text, with placeholders for the run id, times and random ids."""
    text = canonical_json(value).decode() if not isinstance(value, str) else value
    text = text.replace(run, "<run>") if run else text
    return _UUID.sub("<uuid>", _TIME.sub("<time>", text))


class _ComparedCall:
    """A call, and the normalized texts by which it is compared."""

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
        arguments = self.call.arguments or self.call.proposed.arguments or ""
        return self.call.action, normalize(arguments, self._run)

    @cached_property
    def result(self) -> str:
        """The result as text; "" for an error, or for a value like `true` that many calls return."""
        if not isinstance(self.call.result, Succeeded):
            return ""
        text = normalize(self.call.result.value, self._run)
        return text if len(text) > len("false") else ""

    def common(self, other: _ComparedCall) -> float:
        """The score of what both calls have in common; below `ENOUGH` they are two different calls."""
        same_resources = bool(self.resources) and self.resources == other.resources
        same_result = bool(self.result) and self.result == other.result
        names = self.arguments.keys() | other.arguments.keys()
        shared = sum(self.arguments.get(name) == other.arguments.get(name) for name in names)
        arguments = shared / len(names) if names else 0.0
        same_action = self.call.action == other.call.action
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
    """The pairing in order with the highest total score (Needleman and Wunsch, without a gap penalty)."""
    if not a or not b or len(a) * len(b) > WIDEST:
        return [*((one, None) for one in a), *((None, one) for one in b)]
    # best[i][j]: the highest total score for a[i:] and b[j:], filled from the end; the second loop follows it from the start.
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
    """Join two unpaired calls with equal action and arguments, one of each run: it is one call that moved."""
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
