"""Chooses the steps of a run that `remit trace show` prints: those around the root cause, and equal ones once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from remit.cli.output import counted, json_text
from remit.core import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from remit.tracing.reports import CallTimeline, Timeline, TimelineTurn

AROUND: Final = 5  # steps that are shown before and after the root cause
COLLAPSED: Final = 3  # equal steps in a row, from this number on, are shown once


@dataclass(frozen=True, kw_only=True)
class StepChoice:
    """Which steps to show: all, one with everything that is recorded of it, those with a failure, or those around the root cause."""

    every: bool = False
    step: int | None = None
    failures: bool = False


@dataclass(frozen=True, kw_only=True)
class Omitted:
    """Steps in a row that are not shown; `same` if they are equal to the step before them."""

    turns: Sequence[TimelineTurn]
    same: bool = False


@dataclass(kw_only=True)
class _Group:
    """A step, and equal ones that follow it."""

    turn: TimelineTurn
    equal: list[TimelineTurn] = field(default_factory=list["TimelineTurn"])

    @property
    def turns(self) -> list[TimelineTurn]:
        return [self.turn, *self.equal]


Part: TypeAlias = "TimelineTurn | Omitted"


def choose_steps(timeline: Timeline, choice: StepChoice, cause: int | None) -> list[Part]:
    """The steps to show, in order, and what is left out. `cause` is the step of the root cause, None if it is in no step.

    Raises UsageError if the run does not have the step.
    """
    turns = timeline.turns
    if choice.every:
        return [*turns]
    if choice.step is not None:
        chosen = [turn for turn in turns if turn.step == choice.step]
        if not chosen:
            has = f"steps {turns[0].step} to {turns[-1].step}" if turns else "no step"
            raise UsageError(f"run {timeline.run[:8]} has no step {choice.step}: it has {has}")
        return [*chosen]
    groups = _groups(turns)
    if choice.failures:
        shown = [any(map(has_failure, group.turns)) for group in groups]
    else:
        at = next(
            (at for at, group in enumerate(groups) if any(turn.step == cause for turn in group.turns)), len(groups) - 1
        )
        shown = [abs(place - at) <= AROUND for place in range(len(groups))]
    parts: list[Part] = []
    for is_shown, of in groupby(zip(groups, shown, strict=True), key=lambda item: item[1]):
        found = [group for group, _ in of]
        if not is_shown:
            parts.append(Omitted(turns=[turn for group in found for turn in group.turns]))
            continue
        for group in found:
            parts.append(group.turn)
            parts += [Omitted(turns=group.equal, same=True)] if group.equal else []
    return parts


def has_failure(turn: TimelineTurn) -> bool:
    """True if a call of the step, a request to the model or its answer failed."""
    return bool(turn.failures or turn.problems) or any(call.error is not None for call in turn.calls)


def omitted_text(omitted: Omitted) -> str:
    """What is left out, on one line."""
    first, last, count = omitted.turns[0].step, omitted.turns[-1].step, len(omitted.turns)
    which = f"step {first}" if count == 1 else f"steps {first} to {last}"
    if omitted.same:
        return f"{which}: the same calls with the same outcome, {count} more times"
    calls = [call for turn in omitted.turns for call in turn.calls]
    failed = sum(call.error is not None for call in calls)
    return f"{which}: {counted(len(calls), 'call')}, {failed} of them failed or refused; --all shows them"


def _groups(turns: Sequence[TimelineTurn]) -> list[_Group]:
    groups: list[_Group] = []
    for _, of in groupby(turns, key=_signature):
        equal = list(of)
        if len(equal) < COLLAPSED:
            groups += [_Group(turn=turn) for turn in equal]
        else:
            groups.append(_Group(turn=equal[0], equal=equal[1:]))
    return groups


def _signature(turn: TimelineTurn) -> Hashable:
    """What two equal steps have in common: everything that is shown of them but times."""
    failures = tuple((request.failed.model, request.failed.message) for request in turn.failures)
    own = tuple((call.name, call.arguments) for call in turn.own_calls)
    return turn.text, turn.model, turn.problems, turn.deviations, failures, own, tuple(map(_call_signature, turn.calls))


def _call_signature(call: CallTimeline) -> Hashable:
    attempts = tuple((attempt.cached != "", attempt.ended and attempt.ended.code) for attempt in call.attempts)
    arguments = json_text(call.arguments) if call.arguments else call.proposed.arguments
    verdict = call.decision.verdict if call.decision else ""
    error = (call.error.code, call.error.message) if call.error else None
    return (
        call.action,
        call.resources,
        arguments,
        verdict,
        error,
        call.labels,
        attempts,
        len(call.answers),
        call.result is None,
    )
