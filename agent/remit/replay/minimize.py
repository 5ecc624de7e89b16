"""Finds the smallest run that still fails in the same way: delta debugging over a recorded run.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): leave out smaller and smaller groups of
calls, and keep what still fails. Then superfluous attempts are left out, and texts and lists in results are emptied.
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

OnProgress = Callable[[int, int], None]  # parts that are left, and parts of the whole run


@dataclass(frozen=True, kw_only=True)
class ShrinkResult:
    """The smaller run. `records` are its events, unsealed; `origins` are the places of its calls in the recorded run."""

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
    on_progress: OnProgress = lambda left, of: None,
) -> ShrinkResult:
    """Shrink a run to the smallest one that still has the failure `failing`; the smaller run gets the id `run`.

    Raises UsageError if the run cannot be replayed, or does not have that failure.
    """
    started = check_replayable(records)
    if not failing.matches(records):
        failures = "; ".join(find_failures(records)) or "none"
        raise UsageError(f"the run does not have the failure {failing.text}; its failures: {failures}")
    trials = _Trials(records, bundles, failing, run)
    parts = parts_of(records)
    if await trials.replay_failing(Reduction(parts=parts)) is None:
        raise UsageError(
            "the run does not fail in this way when it is replayed: `remit replay` shows where it diverges"
        )
    left = Reduction(parts=await _fewer_parts(trials, parts, on_progress))
    left = await _simplify(trials, left, bundles[started.bundle].workspace)
    smaller = await trials.replay_failing(left)
    assert smaller is not None
    before = (len({step for step, _ in parts}), len(parts))
    return ShrinkResult(
        records=tuple(_mark_as_shrunk(smaller, records[0].run)), origins=left.parts, before=before, tries=trials.count
    )


class _Trials:
    """Replays parts of a run to see whether they still fail; each selection of parts only once."""

    def __init__(
        self, records: Sequence[Recorded], bundles: Mapping[str, Bundle], failing: FailureSelector, run: str
    ) -> None:
        self.records = records
        self._bundles = bundles
        self._failing = failing
        self._run = run
        self._results: dict[tuple[RunPart, ...], bool] = {}
        self.count = 0

    async def replay_failing(self, left: Reduction) -> list[Recorded] | None:
        """The events of the smaller run, or None if it does not fail in the same way."""
        self.count += 1
        smaller = await replay_partially(reduce_run(self.records, left), self._bundles, run=self._run)
        return smaller if self._failing.matches(smaller) else None

    async def fails(self, parts: tuple[RunPart, ...]) -> bool:
        """True if the run with only these parts still fails in the same way."""
        if parts not in self._results:
            self._results[parts] = bool(parts) and await self.replay_failing(Reduction(parts=parts)) is not None
        return self._results[parts]


async def _fewer_parts(trials: _Trials, parts: tuple[RunPart, ...], on_progress: OnProgress) -> tuple[RunPart, ...]:
    """The algorithm ddmin of the paper: no single part can be left out of the result."""
    groups, total = FIRST_GROUPS, len(parts)
    while len(parts) > 1:
        size = -(-len(parts) // groups)
        pieces = [parts[at : at + size] for at in range(0, len(parts), size)]
        rests = [tuple(part for part in parts if part not in piece) for piece in pieces]
        # First each piece alone (the larger reduction), then the run without each piece. After a reduction to a rest the
        # pieces keep their size, so there is one group fewer.
        for smaller, next_groups in [
            *((piece, FIRST_GROUPS) for piece in pieces),
            *((rest, groups - 1) for rest in rests),
        ]:
            if len(smaller) < len(parts) and await trials.fails(smaller):
                parts, groups = smaller, max(next_groups, FIRST_GROUPS)
                on_progress(len(parts), total)
                break
        else:
            if groups >= len(parts):
                return parts
            groups = min(len(parts), groups * 2)
    return parts


async def _simplify(trials: _Trials, left: Reduction, workspace: Workspace) -> Reduction:
    """Keep one attempt for each call, and empty texts and lists in results, where the run still fails in the same way."""
    values = _emptied_values(trials.records, set(left.parts), workspace)
    everything = replace(left, once=left.parts, values=values)
    # One try for all parts is usually enough; only if it fails, each part is tried alone.
    if await trials.replay_failing(everything) is not None:
        return everything
    for part in left.parts:
        candidates = [replace(left, once=[*left.once, part])]
        if part in values:
            candidates.append(replace(left, values={**left.values, part: values[part]}))
        for candidate in candidates:
            if await trials.replay_failing(candidate) is not None:
                left = replace(left, once=candidate.once, values={**left.values, **candidate.values})
    return left


def _emptied_values(records: Sequence[Recorded], parts: set[RunPart], workspace: Workspace) -> dict[RunPart, Json]:
    """What each call returned, with every text and list emptied, if the schema of the action accepts that."""
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
    """The value with every text and list in it emptied; names of members, numbers and booleans stay."""
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
    """The run with the id of its original in `shrunk_from`, which marks it as synthetic."""
    first = records[0]
    assert isinstance(first.event, RunStarted)
    return [first.model_copy(update={"event": first.event.model_copy(update={"shrunk_from": run})}), *records[1:]]


@dataclass(frozen=True, kw_only=True)
class FixCheck:
    """Whether a failure is fixed under other rules or with other results, and a sentence that says why."""

    fixed: bool
    what: str


async def check_fixed(
    records: Sequence[Recorded],
    now: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    failing: FailureSelector,
    policy: Policy | None,
) -> FixCheck:
    """Replay the run under other rules, or with the outcomes in `now`: does it still fail in the same way?

    A failure counts as not fixed if the record does not reach far enough to say. Raises UsageError if the run cannot be
    replayed, or does not have that failure.
    """
    check_replayable(records)
    before = failing.matches(records)
    if not before:
        failures = "; ".join(find_failures(records)) or "none"
        raise UsageError(f"the run does not have the failure {failing.text}; its failures: {failures}")
    replayed = await replay_partially(
        reduce_run(now, Reduction(parts=parts_of(now))), bundles, run=records[0].run, policy=policy
    )
    still = failing.matches(replayed)
    if still:
        return FixCheck(fixed=False, what=f"the failure {failing.text} still occurs at {_place(still[0])}")
    # Without the failing call's own decision in the replay, the absence of the failure proves nothing: other rules can
    # allow an earlier call whose result was never recorded, and then the replay ends there.
    decided = {(item.event.step, item.event.index) for item in replayed if isinstance(item.event, CallDecided)}
    for item in records:
        event = item.event
        if (
            item.key in before
            and event is not None
            and (event.step, event.index) not in decided
            and event.step is not None
        ):
            what = f"cannot be determined: under these rules the record does not reach {_place(item.key)}"
            return FixCheck(fixed=False, what=what)
    return FixCheck(fixed=True, what=f"the failure {failing.text} no longer occurs")


def _place(key: str) -> str:
    kind, *numbers = key.split("/")
    return f"step {numbers[0]}.{numbers[1]}" if numbers[1:] and numbers[0] != "-" else kind
