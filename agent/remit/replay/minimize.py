"""The smallest run that still fails the same way: delta debugging over what was recorded.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): leave out ever smaller groups of calls,
keep what still fails. Then attempts that changed nothing are left out, and what tools returned is emptied to its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from remit.core import Json, Refusal, UsageError
from remit.core.events import AttemptEnded, CallDecided, Recorded, RunStarted
from remit.policy import Policy
from remit.replay.partial import Reduction, RunPart, parts_of, reduce_run, replay_partially
from remit.replay.replayer import check_replayable
from remit.tracing.reports import FailureSelector, find_failures
from remit.workspace import Bundle, Workspace
from remit.workspace.manifest import check_output

FIRST_GROUPS: Final = 2

OnProgress = Callable[[int, int], None]  # calls that are left, and of how many


@dataclass(frozen=True, kw_only=True)
class ShrinkResult:
    """What is left. `records` is the smaller run as it was told again, unsealed; `origins` are its calls' former places."""

    records: tuple[Recorded, ...]
    origins: tuple[RunPart, ...]
    before: tuple[int, int]  # steps and parts of the run that was shrunk
    tries: int


async def shrink(
    records: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    failing: FailureSelector,
    *,
    run: str,
    told: OnProgress = lambda left, of: None,
) -> ShrinkResult:
    """Shrink a run to the smallest one that still fails so, and tell it as the run `run`.

    Raises UsageError where the run cannot be replayed, or does not fail so.
    """
    started = check_replayable(records)
    if not failing.found(records):
        others = "; ".join(find_failures(records)) or "it fails in no way"
        raise UsageError(f"the run does not fail so: {failing.text}; its failures: {others}")
    trying = _Trials(records, bundles, failing, run)
    parts = parts_of(records)
    if await trying.fails(Reduction(parts=parts)) is None:
        raise UsageError("the run does not fail so when it is told again: `remit replay` says where it diverges")
    left = Reduction(parts=await _fewer_parts(trying, parts, told))
    left = await _simplify(trying, left, bundles[started.bundle].workspace)
    found = await trying.fails(left)
    assert found is not None
    of = (len({step for step, _ in parts}), len(parts))
    return ShrinkResult(
        records=tuple(_mark_as_shrunk(found, records[0].run)), origins=left.parts, before=of, tries=trying.count
    )


class _Trials:
    """Tells parts of a run again and says whether they still fail; each only once."""

    def __init__(
        self, records: Sequence[Recorded], bundles: Mapping[str, Bundle], failing: FailureSelector, run: str
    ) -> None:
        self.records = records
        self._bundles = bundles
        self._failing = failing
        self._run = run
        self._known: dict[tuple[RunPart, ...], bool] = {}
        self.count = 0

    async def fails(self, left: Reduction) -> list[Recorded] | None:
        """The smaller run, or None where it does not fail so."""
        self.count += 1
        found = await replay_partially(reduce_run(self.records, left), self._bundles, run=self._run)
        return found if self._failing.found(found) else None

    async def still(self, parts: tuple[RunPart, ...]) -> bool:
        if parts not in self._known:
            self._known[parts] = bool(parts) and await self.fails(Reduction(parts=parts)) is not None
        return self._known[parts]


async def _fewer_parts(trying: _Trials, parts: tuple[RunPart, ...], told: OnProgress) -> tuple[RunPart, ...]:
    """ddmin: no single part can be left out of what this returns."""
    groups, of = FIRST_GROUPS, len(parts)
    while len(parts) > 1:
        size = -(-len(parts) // groups)
        pieces = [parts[at : at + size] for at in range(0, len(parts), size)]
        rests = [tuple(part for part in parts if part not in piece) for piece in pieces]
        for smaller, then in [*((piece, FIRST_GROUPS) for piece in pieces), *((rest, groups - 1) for rest in rests)]:
            if len(smaller) < len(parts) and await trying.still(smaller):
                parts, groups = smaller, max(then, FIRST_GROUPS)
                told(len(parts), of)
                break
        else:
            if groups >= len(parts):
                return parts
            groups = min(len(parts), groups * 2)
    return parts


async def _simplify(trying: _Trials, left: Reduction, workspace: Workspace) -> Reduction:
    """One attempt a call, and values emptied to their shape, wherever that changes nothing: all at once, else one by one."""
    values = _emptied_values(trying.records, set(left.parts), workspace)
    everything = replace(left, once=left.parts, values=values)
    if await trying.fails(everything) is not None:
        return everything
    for part in left.parts:
        candidates = [replace(left, once=[*left.once, part])]
        if part in values:
            candidates.append(replace(left, values={**left.values, part: values[part]}))
        for candidate in candidates:
            if await trying.fails(candidate) is not None:
                left = replace(left, once=candidate.once, values={**left.values, **candidate.values})
    return left


def _emptied_values(records: Sequence[Recorded], parts: set[RunPart], workspace: Workspace) -> dict[RunPart, Json]:
    """What each call returned with every text and list emptied, where its schema accepts that."""
    actions: dict[RunPart, str] = {}
    found: dict[RunPart, Json] = {}
    for item in records:
        event = item.event
        if isinstance(event, CallDecided) and event.call is not None:
            actions[event.step, event.index] = event.call.action
        if not isinstance(event, AttemptEnded) or event.code is not None:
            continue
        part = (event.step, event.index)
        value = empty(event.value)
        if part in parts and value != event.value and _fits_schema(workspace, actions[part], value):
            found[part] = value
    return found


def empty(value: Json) -> Json:
    """The value with every text and list in it emptied; names, numbers and booleans stay."""
    if isinstance(value, str):
        return ""
    if isinstance(value, list):
        return []
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {key: empty(item) for key, item in members.items()}
    return value


def _fits_schema(workspace: Workspace, name: str, value: Json) -> bool:
    tool, action = workspace.action(name)
    if tool.pin is None:
        return False
    try:
        check_output(tool.pin.schemas[action.name], value)
    except Refusal:
        return False
    return True


def _mark_as_shrunk(records: Sequence[Recorded], run: str) -> list[Recorded]:
    """The run says of itself that nobody ever ran it."""
    first = records[0]
    assert isinstance(first.event, RunStarted)
    return [first.model_copy(update={"event": first.event.model_copy(update={"shrunk_from": run})}), *records[1:]]


@dataclass(frozen=True, kw_only=True)
class FixCheck:
    """Whether a failure is gone under other rules, and why one can say so."""

    gone: bool
    what: str


async def check_fixed(
    records: Sequence[Recorded],
    now: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    failing: FailureSelector,
    policy: Policy | None,
) -> FixCheck:
    """Tell the run again under other rules, or with the outcomes of `now`: does it still fail so?

    What cannot be told counts as not gone. Raises UsageError where the run cannot be replayed, or does not fail so.
    """
    check_replayable(records)
    before = failing.found(records)
    if not before:
        raise UsageError(
            f"the run does not fail so: {failing.text}; its failures: {'; '.join(find_failures(records)) or 'none'}"
        )
    told = await replay_partially(
        reduce_run(now, Reduction(parts=parts_of(now))), bundles, run=records[0].run, policy=policy
    )
    still = failing.found(told)
    if still:
        return FixCheck(gone=False, what=f"{failing.text} still, at {_place(still[0])}")
    decided = {(item.event.step, item.event.index) for item in told if isinstance(item.event, CallDecided)}
    for item in records:
        event = item.event
        if (
            item.key in before
            and event is not None
            and (event.step, event.index) not in decided
            and event.step is not None
        ):
            return FixCheck(
                gone=False, what=f"nobody can tell: under these rules the run is not recorded up to {_place(item.key)}"
            )
    return FixCheck(gone=True, what=f"nothing ends with {failing.text} now")


def _place(key: str) -> str:
    kind, *numbers = key.split("/")
    return f"step {numbers[0]}.{numbers[1]}" if numbers[1:] and numbers[0] != "-" else kind
