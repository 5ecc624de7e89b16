"""A run as a person reads it: the verdict and its first cause, the effects, then what happened in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from remit.call import Decision, Error, Failed, Result
from remit.event import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    AttemptEnded,
    AttemptIntended,
    CallAnswered,
    CallDecided,
    Landed,
    ModelAnswered,
    ModelFailed,
    Recorded,
    RunFinished,
    RunStarted,
)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect on the world: what, on what, and what is known of it."""

    step: int
    index: int
    action: str
    resources: tuple[str, ...]
    landed: Landed


@dataclass
class CallStory:
    """One call: how it was decided, who approved it, its attempts and its result. Times are Unix nanoseconds."""

    step: int
    index: int
    name: str
    decided_at: int
    answered_at: int | None = None
    decision: Decision | None = None
    arguments: dict[str, object] = field(default_factory=dict[str, object])
    resources: tuple[str, ...] = ()
    writes: bool = False
    approvals: list[ApprovalGranted | ApprovalRejected] = field(
        default_factory=list[ApprovalGranted | ApprovalRejected]
    )
    requested: ApprovalRequested | None = None
    intended: list[AttemptIntended] = field(default_factory=list[AttemptIntended])
    ended: list[AttemptEnded] = field(default_factory=list[AttemptEnded])
    result: Result | None = None

    @property
    def error(self) -> Error | None:
        return self.result.error if isinstance(self.result, Failed) else None

    @property
    def landed(self) -> Landed:
        """What is known of the call's effect; an attempt that has not ended may have landed."""
        if len(self.intended) > len(self.ended):
            return "unknown" if self.writes else "none"
        known = [ended.landed for ended in self.ended]
        for state in ("landed", "unknown", "not_landed"):
            if state in known:
                return state
        return "none"


@dataclass
class Turn:
    """One turn of the model, and its calls."""

    step: int
    at: int
    text: str
    calls: list[CallStory] = field(default_factory=list[CallStory])


@dataclass
class Story:
    """A whole run."""

    run: str
    started: RunStarted | None = None
    began_at: int = 0
    ended_at: int = 0
    turns: list[Turn] = field(default_factory=list[Turn])
    failure: ModelFailed | None = None
    finished: RunFinished | None = None
    resumed: int = 0

    @property
    def calls(self) -> list[CallStory]:
        return [call for turn in self.turns for call in turn.calls]

    @property
    def effects(self) -> list[Effect]:
        """Every effect that was attempted; a refused call has none."""
        return [
            Effect(step=call.step, index=call.index, action=call.name, resources=call.resources, landed=call.landed)
            for call in self.calls
            if call.landed != "none"
        ]

    @property
    def waiting(self) -> list[CallStory]:
        """Calls that wait for a person."""
        return [call for call in self.calls if call.requested is not None and call.result is None and not call.intended]

    @property
    def verdict(self) -> str:
        """One word: how the run stands."""
        if self.finished is not None:
            return self.finished.outcome
        return "waiting" if self.waiting else "unfinished"

    @property
    def first_cause(self) -> str | None:
        """The first thing that went otherwise than asked, in one sentence; None where all went well."""
        for call in self.calls:
            if call.error is not None:
                at = f"step {call.step}, {call.name}"
                return f"{at}: {call.error.code}, {call.error.message}"
        if self.failure is not None:
            return f"step {self.failure.step}: the model failed, {self.failure.message}"
        if self.finished is not None and self.finished.code is not None:
            return f"{self.finished.code}: {self.finished.message}"
        return None


def tell(records: Iterable[Recorded]) -> Story:
    """The story of one run, from its events alone."""
    story = Story(run="")
    calls: dict[tuple[int | None, int | None], CallStory] = {}
    for recorded in records:
        story.run = story.run or recorded.run
        story.began_at = story.began_at or recorded.at
        story.ended_at = recorded.at
        event = recorded.event
        match event:
            case RunStarted():
                story.started = event
            case ModelAnswered():
                story.turns.append(Turn(step=event.step, at=recorded.at, text=event.text))
            case ModelFailed():
                story.failure = event
            case CallDecided():
                call = calls.get((event.step, event.index))
                if call is None:
                    name = event.call.action if event.call else event.ask.action
                    call = CallStory(step=event.step, index=event.index, name=name, decided_at=recorded.at)
                    calls[event.step, event.index] = call
                    if not story.turns:
                        story.turns.append(Turn(step=event.step, at=recorded.at, text=""))
                    story.turns[-1].calls.append(call)
                call.decision = event.decision
                if event.call is not None:
                    call.arguments = dict(event.call.arguments)
                    call.resources = tuple(touch.resource for touch in event.call.touches)
                    call.writes = event.call.effect != "read"
            case ApprovalRequested():
                calls[event.step, event.index].requested = event
            case ApprovalGranted() | ApprovalRejected():
                calls[event.step, event.index].approvals.append(event)
            case AttemptIntended():
                calls[event.step, event.index].intended.append(event)
            case AttemptEnded():
                calls[event.step, event.index].ended.append(event)
            case CallAnswered():
                calls[event.step, event.index].result = event.result
                calls[event.step, event.index].answered_at = recorded.at
            case RunFinished():
                story.finished = event
            case _:
                story.resumed += recorded.type == "run.resumed"
    return story
