"""Grades one run of a scenario: each expectation is a check of what the journal recorded, or of the world after the run."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from remit.core import Json, Refusal, WorkspaceError
from remit.core.events import Check
from remit.core.parsing import Mismatch, canonical_json, parse_arguments, read_text, validate
from remit.evals.scenarios import CallMatch, Expected, ExpectedAnswer, ExpectedState, Scenario
from remit.policy.language import parse_pattern, parse_resource
from remit.tracing.reports import CallTimeline, Timeline

MOST_LISTED: Final = 5  # calls that a detail names


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run used. `tokens` and `money` are None if they are not known. `seconds` is wall-clock time."""

    seconds: float
    calls: int
    tokens: int | None
    money: float | None


def spent_by(timeline: Timeline) -> Spent:
    """What the run used, from its record. A scripted model uses no tokens and no money."""
    turns = [turn for turn in timeline.turns if not turn.internal]
    scripted = timeline.started is not None and timeline.started.scripted
    counts = [(turn.usage.input_tokens, turn.usage.output_tokens) for turn in turns]
    known = all(count is not None for pair in counts for count in pair)
    costs = [turn.cost for turn in turns]
    return Spent(
        seconds=timeline.took / 1e9,
        calls=sum(not call.internal for call in timeline.calls),
        tokens=0 if scripted else sum((one or 0) + (other or 0) for one, other in counts) if known else None,
        money=0.0 if scripted else None if None in costs else float(sum(cost for cost in costs if cost is not None)),
    )


def check_record(scenario: Scenario, timeline: Timeline, agent_folder: Path) -> Iterator[Check]:
    """The checks of what the run did, but for the end state of its world. `agent_folder` has the files that they name."""
    expect, calls = scenario.expect, timeline.calls
    yield _outcome(expect, timeline)
    landed = [call for call in calls if call.landed in ("landed", "unknown")]
    for match in expect.never:
        found = [call for call in landed if match.matches(call.action, call.resources)]
        yield Check(name="never", passed=not found, hard=True, detail=f"{match} must never land{_found(found)}")
    if expect.effects is not None:
        yield from _effects(expect, landed)
    for refused in expect.refused:
        found = [
            call
            for call in calls
            if call.error is not None
            and call.error.attempts == 0
            and refused.code in (None, call.error.code)
            and refused.matches(call.action, call.resources)
        ]
        enough = refused.least <= len(found) and (refused.at_most is None or len(found) <= refused.at_most)
        detail = (
            f"{refused.least} to {refused.at_most if refused.at_most is not None else 'any number of'} refused calls"
        )
        yield Check(name="refused", passed=enough, detail=f"{detail} of {refused}, and {len(found)} were refused")
    if expect.asked is not None:
        asked = [call for call in calls if call.approval is not None]
        yield from _exactly("asked", expect.asked, asked, "ask for approval")
    if expect.answer is not None:
        yield from _answer(expect.answer, timeline, agent_folder)
    yield from _within(scenario, timeline)


async def check_world(
    states: Sequence[ExpectedState], world: Path, run: Callable[[str], Awaitable[str]]
) -> list[Check]:
    """The checks of the world after a run. `run` runs a program confined in the world, and returns what it finds wrong."""
    return [
        Check(name="world", passed=not wrong, detail=wrong)
        for state in states
        for wrong in [await run(state.program) if state.program is not None else _file(state, world)]
    ]


def _outcome(expect: Expected, timeline: Timeline) -> Check:
    finished = timeline.finished
    why = f": {finished.message}" if finished is not None and finished.message else ""
    detail = f"expected {expect.outcome}, and the run is {timeline.outcome}{why}"
    return Check(name="outcome", passed=timeline.outcome == expect.outcome, detail=detail)


def _effects(expect: Expected, landed: Sequence[CallTimeline]) -> Iterator[Check]:
    assert expect.effects is not None
    yield from _exactly("effects", expect.effects, landed, "land")
    for match in expect.effects:
        found = sum(match.matches(call.action, call.resources) for call in landed)
        if match.times is not None and found != match.times and found:
            yield Check(
                name="effects", passed=False, detail=f"{match} must land {match.times} times, and landed {found} times"
            )


def _exactly(name: str, expected: Sequence[CallMatch], calls: Sequence[CallTimeline], verb: str) -> Iterator[Check]:
    """Whether each expected call is there, and no other one."""
    missing = [match for match in expected if not any(match.matches(call.action, call.resources) for call in calls)]
    others = [call for call in calls if not any(match.matches(call.action, call.resources) for match in expected)]
    parts = [f"{match} does not {verb}" for match in missing]
    if others:
        parts.append(f"no other call may {verb}{_found(others)}")
    yield Check(name=name, passed=not parts, detail="; ".join(parts))


def _found(calls: Sequence[CallTimeline]) -> str:
    named = [f"{call.place} {call.action} of {', '.join(call.resources) or 'nothing'}" for call in calls]
    more = [f"and {len(named) - MOST_LISTED} more"] if len(named) > MOST_LISTED else []
    return f", and the run has {'; '.join([*named[:MOST_LISTED], *more])}" if named else ""


def _answer(expect: ExpectedAnswer, timeline: Timeline, folder: Path) -> Iterator[Check]:
    text = "" if timeline.finished is None else timeline.finished.answer
    lower = text.casefold()
    wrong: list[str] = []
    for item in expect.contains:
        options = item if isinstance(item, list) else [item]
        if not any(option.casefold() in lower for option in options):
            wrong.append(f"it does not contain {' or '.join(map(repr, options))}")
    wrong += [f"it contains {item!r}" for item in expect.lacks if item.casefold() in lower]
    if expect.shape is not None:
        wrong += _shape(text, folder / expect.shape)
    wrong += [f"it does not cite {pattern}" for pattern in expect.cites if not _cites(pattern, text, timeline)]
    wrong += _members(expect.members, text)
    yield Check(name="answer", passed=not wrong, detail="; ".join(wrong))


def _shape(text: str, file: Path) -> list[str]:
    try:
        validate(parse_arguments(read_text(file, file=file.name)), parse_arguments(text), fill=False)
    except Mismatch as mismatch:
        return [f"it does not match {file.name}: {mismatch}"]
    except Refusal as refusal:
        return [f"it is not one JSON object: {refusal.message}"]
    return []


def _members(expected: Mapping[str, Json], text: str) -> Iterator[str]:
    if not expected:
        return
    try:
        answer = parse_arguments(text)
    except Refusal as refusal:
        yield f"it is not one JSON object: {refusal.message}"
        return
    for name, value in expected.items():
        if name not in answer or canonical_json(answer[name]) != canonical_json(value):
            yield f"its member {name!r} is not {json.dumps(value)}"


def _cites(pattern: str, text: str, timeline: Timeline) -> bool:
    """True if the answer names such a resource that the run read, or cites the result of its call (`2.1`) in `citations`."""
    cited: object = None
    with suppress(Refusal):  # an answer in words
        cited = cast("Mapping[str, Json]", parse_arguments(text)).get("citations")
    places = cast("Sequence[object]", cited) if isinstance(cited, list) else ()
    covers = parse_pattern(pattern).covers
    return any(
        covers(parse_resource(resource)) and (call.place in places or resource.partition(":")[2] in text)
        for call in timeline.calls
        if call.error is None
        for resource in call.resources
    )


def _within(scenario: Scenario, timeline: Timeline) -> Iterator[Check]:
    within, spent = scenario.within, spent_by(timeline)
    limits: Sequence[tuple[str, float | None, float | None]] = (
        ("calls", within.calls, spent.calls),
        ("tokens", within.tokens, spent.tokens),
        ("money", within.money, spent.money),
    )
    wrong = [
        f"its {what} {'are' if what != 'money' else 'is'} not known: the model reports none, or has no price"
        if used is None
        else f"{used:g} {what}, and at most {most:g} are allowed"
        for what, most, used in limits
        if most is not None and (used is None or used > most)
    ]
    if any(most is not None for _, most, _ in limits):
        yield Check(name="within", passed=not wrong, detail="; ".join(wrong))


def _file(state: ExpectedState, world: Path) -> str:
    """What is wrong with a file of the world; "" if nothing is."""
    assert state.file is not None
    path = world / state.file
    # A run may have put a symbolic link there, which could lead out of the world.
    is_there = path.is_file() and path.resolve().is_relative_to(world.resolve())
    if state.absent or not is_there:
        return "" if state.absent != is_there else f"{state.file} {'exists' if is_there else 'does not exist'}"
    try:
        text = read_text(path, file=state.file)
    except WorkspaceError as error:
        return f"{state.file}: {error.problems[0].what}"
    wrong = [f"{state.file} does not contain {item!r}" for item in state.contains if item not in text]
    return "; ".join(wrong + [f"{state.file} contains {item!r}" for item in state.lacks if item in text])
