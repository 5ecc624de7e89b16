"""The timeline of a run for a person: outcome, side effects, and what happened in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeAlias

from remit.broker import landed_of
from remit.core import Decision, Error, Failed, Json, Landed, ProposedCall, Repair, Result, Succeeded, is_refused
from remit.core.events import (
    AnswerRejected,
    AnyEvent,
    ApprovalAnswer,
    ApprovalState,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    ContextReduced,
    Deviation,
    EffectSettled,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    PolicyChanged,
    QuestionAnswered,
    QuestionAsked,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    Usage,
    next_approval,
)
from remit.journal import REFUSED

PersonsAct: TypeAlias = ApprovalAnswer | QuestionAsked | QuestionAnswered  # what people were asked and answered

UNRECORDED_EFFECTS: Final = "not recorded: another tool ran the calls"  # the side effects of an imported run


@dataclass(frozen=True, kw_only=True)
class AttemptedEffect:
    """One side effect: the action, the resources, and whether it landed."""

    step: int
    index: int
    action: str
    resources: tuple[str, ...]
    landed: Landed


@dataclass(frozen=True, kw_only=True)
class FailedRequest:
    """One request to the model that failed, after which the run asked again. `at` is when it failed, in Unix nanoseconds."""

    at: int
    failed: ModelFailed


@dataclass
class AttemptTimeline:
    """One attempt of one call. `ended` None: its end is not recorded. `cached`: see `AttemptBegun`. Times are Unix nanoseconds."""

    number: int
    began_at: int
    cached: str = ""
    ended_at: int | None = None
    ended: AttemptEnded | None = None


@dataclass
class CallTimeline:
    """One call: its decision, approvals, attempts and result. Times are Unix nanoseconds.

    `action` is TOOL.ACTION, and `proposed` the call as the model wrote it. `arguments` are canonical, and `resources` are those that
    it touches, each once, `left_out` those that it did not get; they are empty for a call that could not be parsed. `result` is
    None until it is answered, and `settled` what a person said of an unknown outcome. `approval` is its latest request for
    approval, `answers` all that was answered to any, and the questions of its tool. `internal` is True for a call that Remit
    makes itself before the first turn.
    """

    step: int
    index: int
    action: str
    decided_at: int
    proposed: ProposedCall
    answered_at: int | None = None
    decision: Decision | None = None
    arguments: dict[str, Json] = field(default_factory=dict[str, Json])
    resources: tuple[str, ...] = ()
    effect: str = ""
    approval: ApprovalState | None = None
    answers: list[PersonsAct] = field(default_factory=list[PersonsAct])
    attempts: list[AttemptTimeline] = field(default_factory=list[AttemptTimeline])
    settled: EffectSettled | None = None
    result: Result | None = None
    refusal_labels: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    left_out: tuple[str, ...] = ()
    internal: bool = False
    enforced: bool = True

    @property
    def place(self) -> str:
        """Step and index as text: `4.0`."""
        return f"{self.step}.{self.index}"

    @property
    def error(self) -> Error | None:
        """Why the call failed, as the model read it; None if it succeeded or has no result."""
        return self.result.error if isinstance(self.result, Failed) else None

    @property
    def verdict(self) -> str:
        """What Remit decided: `allow`, `ask`, `deny`; `refused` before a decision, `imported` if another tool ran it undecided."""
        if self.decision is None:
            return "refused"
        return "imported" if self.decision.reason == "imported" else self.decision.verdict

    @property
    def refused(self) -> bool:
        """True if the call was refused before the tool was started."""
        return is_refused(self.result, enforced=self.enforced) and self.error is not None and self.error.code in REFUSED

    @property
    def refused_in_vain(self) -> bool:
        """True if the call was refused and, because that is not enforced, carried out by the graph all the same."""
        return is_refused(self.result, enforced=True) and not is_refused(self.result, enforced=self.enforced)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the result, or the tool's error message, adds to the run; none if the model did not read it."""
        if self.internal:
            return ()
        if isinstance(self.result, Succeeded):
            return self.result.labels
        ended = self.attempts[-1].ended if self.attempts else None
        return self.refusal_labels or (() if ended is None else ended.labels)

    @property
    def waiting(self) -> bool:
        """True if the call waits for the answer of a person."""
        if self.result is None and self.answers and isinstance(self.answers[-1], QuestionAsked):
            return True
        return self.approval is not None and self.result is None and self.approval.waits()

    @property
    def took(self) -> int | None:
        """Nanoseconds from the decision to the result; None if there is no result yet."""
        return None if self.answered_at is None else max(0, self.answered_at - self.decided_at)

    @property
    def landed(self) -> Landed:
        """Whether the call's effect landed. An attempt without a recorded end may have landed."""
        ended = [attempt.ended for attempt in self.attempts]
        return landed_of(ended, self.settled, reads=self.effect == "read")


@dataclass
class TimelineTurn:
    """One turn of the model, and its calls. `asked_at` None: the request is not recorded.

    `model` is the one that gave the turn, and `failures` are the requests for it that failed before, each with its time.
    `problems` says why the final answer in this turn was rejected; empty if it was not. `deviations`: see `ModelTurn`.
    `own_calls` are those of functions of a custom graph, which are no calls of the broker.
    """

    step: int
    at: int
    text: str
    asked_at: int | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None
    model: str = ""
    failures: list[FailedRequest] = field(default_factory=list["FailedRequest"])
    problems: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    own_calls: tuple[ProposedCall, ...] = ()
    internal: bool = False
    calls: list[CallTimeline] = field(default_factory=list[CallTimeline])

    @property
    def took(self) -> int:
        """Nanoseconds that the model took."""
        return 0 if self.asked_at is None else max(0, self.at - self.asked_at)


@dataclass
class Timeline:
    """A whole run. Times are Unix nanoseconds.

    `failure` is the failure of the model that ended the run, and `model_wait` the last one while the run waits to ask again.
    `failures` are the failed requests of a step without a turn. `steps_back` lists where the clock stepped back: event number and
    nanoseconds. `waited` is how long the run has waited for its model in all. `thinking` is the step of a request to the model
    that has no answer yet.
    """

    run: str
    started: RunStarted | None = None
    began_at: int = 0
    ended_at: int = 0
    turns: list[TimelineTurn] = field(default_factory=list[TimelineTurn])
    failure: ModelFailed | None = None
    model_wait: ModelFailed | None = None
    failures: list[FailedRequest] = field(default_factory=list[FailedRequest])
    finished: RunFinished | None = None
    resumed: list[RunResumed] = field(default_factory=list[RunResumed])
    edits: list[PolicyChanged] = field(default_factory=list[PolicyChanged])
    reduced: list[ContextReduced] = field(default_factory=list[ContextReduced])
    waited: int = 0
    steps_back: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    thinking: int | None = None

    @property
    def calls(self) -> list[CallTimeline]:
        return [call for turn in self.turns for call in turn.calls]

    @property
    def refused(self) -> int:
        """How many calls were refused."""
        return sum(call.refused for call in self.calls)

    @property
    def took(self) -> int:
        """Nanoseconds from the first event to the last."""
        return max(0, self.ended_at - self.began_at)

    @property
    def effects(self) -> list[AttemptedEffect]:
        """Every side effect that was attempted; a refused call has none."""
        return [
            AttemptedEffect(
                step=call.step, index=call.index, action=call.action, resources=call.resources, landed=call.landed
            )
            for call in self.calls
            if call.landed != "none"
        ]

    @property
    def waiting(self) -> list[CallTimeline]:
        """The calls that wait for approval."""
        return [call for call in self.calls if call.waiting]

    @property
    def in_flight(self) -> list[str]:
        """What had begun and not ended when the record ends, in a few words each; empty for a finished run."""
        if self.finished is not None:
            return []
        found = [] if self.thinking is None else [f"step {self.thinking}: the model was asked"]
        for call in self.calls:
            if call.result is None and not call.waiting:
                running = [attempt.number for attempt in call.attempts if attempt.ended is None]
                what = f"attempt {running[-1]} was running" if running else "decided, not executed"
                found.append(f"step {call.place}, {call.action}: {what}")
        return found

    @property
    def outcome(self) -> str:
        """The outcome of a finished run; otherwise `waiting` (for approval), `waiting: model` or `unfinished`."""
        if self.finished is not None:
            return self.finished.outcome
        if self.model_wait is not None:
            return "waiting: model"
        return "waiting" if self.waiting else "unfinished"

    @property
    def labels(self) -> list[str]:
        """The labels on the run, in the order in which they were added."""
        found: dict[str, None] = {}
        for call in self.calls:
            found.update(dict.fromkeys(call.labels))
            found = {label: None for label in found if label not in call.labels_removed}
        return list(found)


def utc(at: int) -> str:
    """Unix nanoseconds as text in UTC, to the second: `2026-11-29 03:00:00Z`."""
    return datetime.fromtimestamp(at / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def model_wait_text(failed: ModelFailed) -> str:
    """Until when a run waits for its model, and which one failed: `until 2026-11-29 03:00:00Z for openai:x`."""
    again = "" if failed.again_at is None else f"until {utc(failed.again_at)} "
    return f"{again}for {failed.model}"


def failed_request_text(request: FailedRequest) -> str:
    """A failed request to the model, and when the run asked or asks again."""
    failed = request.failed
    again = max(0, (failed.again_at or 0) - request.at) / 1e9
    after = f"again after {again:.1f} s" if again else "the next model is asked"
    message = failed.message.partition("\n")[0]
    return f"{failed.model} failed: {message}; {after}"


def resumed_text(timeline: Timeline) -> str:
    """How often a run was resumed, and by which account: `once, by ann`."""
    last = timeline.resumed[-1].by.account
    return f"once, by {last}" if len(timeline.resumed) == 1 else f"{len(timeline.resumed)} times, last by {last}"


def unended_text(*, running: bool | None) -> str:
    """The state of an attempt without a recorded end.

    `running` is True while a process executes the run, None if that is not known.
    """
    if running is None:
        return "outcome unknown: the record has no end of it"
    return "still running" if running else "outcome unknown: the process died before it answered"


def build_timeline(records: Iterable[Recorded]) -> Timeline:
    """The timeline of one run, from its events alone. Of an erased event only the time is used."""
    builder = _TimelineBuilder()
    for recorded in records:
        builder.add(recorded)
    return builder.timeline


class _TimelineBuilder:
    """Builds a timeline, event by event."""

    def __init__(self) -> None:
        self.timeline = Timeline(run="")
        self._asked: dict[int, tuple[str, int]] = {}  # the model and the time of the last request, by step
        self._calls: dict[tuple[int | None, int | None], CallTimeline] = {}

    def add(self, recorded: Recorded) -> None:
        """Add one event."""
        timeline = self.timeline
        timeline.run = timeline.run or recorded.run
        timeline.began_at = timeline.began_at or recorded.at
        if recorded.at < timeline.ended_at:
            timeline.steps_back.append((recorded.seq, timeline.ended_at - recorded.at))
        timeline.ended_at = max(timeline.ended_at, recorded.at)
        match recorded.event:
            case RunStarted() as event:
                timeline.started = event
            case RunResumed() as event:
                timeline.resumed.append(event)
            case PolicyChanged() as event:
                timeline.edits.append(event)
            case ContextReduced() as event:
                timeline.reduced.append(event)
            case RunFinished() as event:
                timeline.finished, timeline.model_wait = event, None
            case ModelRequested() as event:
                self._requested(event, recorded.at)
            case ModelResponded() as event:
                self._answered(event, recorded.at)
            case ModelFailed() as event:
                self._failed(event, recorded.at)
            case AnswerRejected() as event if timeline.turns:
                timeline.turns[-1].problems = tuple(map(str, event.problems))
            case CallDecided() as event:
                self._decided(event, recorded.seq, recorded.at)
            case None:
                pass
            case event:
                call = self._calls.get((event.step, event.index))
                if call is not None:
                    _update_call(call, event, recorded)

    def _answered(self, event: ModelResponded, at: int) -> None:
        text = "pre-run lookup by Remit, not shown to the model" if event.internal else event.text
        model, asked_at = self._asked.get(event.step, ("", None))
        turn = TimelineTurn(step=event.step, at=at, text=text, asked_at=asked_at, usage=event.usage, model=model)
        turn.cost, turn.internal, turn.deviations = event.cost, event.internal, event.deviations
        turn.own_calls = event.own_calls
        turn.failures, self.timeline.failures = self.timeline.failures, []
        self.timeline.turns.append(turn)
        self.timeline.thinking = None

    def _requested(self, event: ModelRequested, at: int) -> None:
        timeline = self.timeline
        self._asked[event.step] = (event.model, at)
        if timeline.model_wait is not None:
            timeline.waited += max(0, at - timeline.failures[-1].at)
        timeline.thinking, timeline.model_wait = event.step, None

    def _failed(self, event: ModelFailed, at: int) -> None:
        timeline = self.timeline
        timeline.thinking = None
        if event.again_at is None:
            timeline.failure = event
        else:
            timeline.model_wait = event
            timeline.failures.append(FailedRequest(at=at, failed=event))

    def _decided(self, event: CallDecided, seq: int, at: int) -> None:
        call = self._calls.get((event.step, event.index))
        if call is None:
            action, proposed = event.call.action if event.call else event.proposed.action, event.proposed
            call = CallTimeline(step=event.step, index=event.index, action=action, decided_at=at, proposed=proposed)
            self._calls[event.step, event.index] = call
            if not self.timeline.turns:  # the turn itself was erased
                self.timeline.turns.append(TimelineTurn(step=event.step, at=at, text=""))
            call.internal = self.timeline.turns[-1].internal
            self.timeline.turns[-1].calls.append(call)
        call.approval = next_approval(call.approval, event, seq, at)
        call.decision, call.repairs, call.enforced = event.decision, event.repairs, event.enforced
        if event.call is not None:
            call.arguments, call.effect = dict(event.call.arguments), event.call.effect
            call.resources = tuple(dict.fromkeys(touch.resource for touch in event.call.touches))
            call.left_out = event.call.narrowing.left_out if event.call.narrowing else ()


def _update_call(call: CallTimeline, event: AnyEvent, recorded: Recorded) -> None:
    """Add an event that comes after the decision to its call."""
    at = recorded.at
    call.approval = next_approval(call.approval, event, recorded.seq, at)
    if isinstance(event, PersonsAct):
        call.answers.append(event)
    match event:
        case AttemptBegun():
            call.attempts.append(AttemptTimeline(number=event.attempt, began_at=at, cached=event.cached))
        case AttemptEnded():
            for attempt in call.attempts:
                if attempt.number == event.attempt:
                    attempt.ended, attempt.ended_at = event, at
        case EffectSettled():
            call.settled = event
        case CallAnswered():
            call.result, call.answered_at, call.labels_removed = event.result, at, event.labels_removed
            call.refusal_labels = event.labels
        case _:
            pass
