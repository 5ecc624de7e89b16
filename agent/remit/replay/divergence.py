"""Finds where a replay differs from the record: the first different event, the kind of difference, and a diff."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, Literal, TypeAlias, cast

from pydantic import BaseModel

from remit.core import Call, Claim, Failed, Json, Succeeded, ToolSpec
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRevoked,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    ModelRequested,
    Recorded,
    RunFinished,
)
from remit.core.parsing import canonical_json, load_json
from remit.journal import ChainFault, Conversation, Record, RunState, apply_event
from remit.replay.replay_log import RecordEnds, ReplayLog, is_by_person

DivergenceKind: TypeAlias = Literal[
    "decision",  # the policy decides differently
    "model_input",  # the model would have read a different input
    "request",  # the same text of the model makes a different call
    "result",  # a call ends differently
    "approval",  # people were asked or answered differently
    "outcome",  # the run ends differently
    "extra",  # the replay does something that is not recorded
    "missing",  # something recorded does not happen
    "tampered",  # the record was changed after it was written
]

KIND_OF_EVENT: Final[Mapping[str, DivergenceKind]] = {
    "model.requested": "model_input",
    "model.responded": "model_input",
    "context.reduced": "model_input",
    "call.decided": "decision",
    "approval.requested": "approval",
    "approval.granted": "approval",
    "approval.rejected": "approval",
    "approval.revoked": "approval",
    "approval.voided": "approval",
    "attempt.begun": "request",
    "attempt.ended": "result",
    "call.answered": "result",
    "run.finished": "outcome",
}

NOT_REPLAYED: Final = frozenset({"run.resumed", "policy.changed", "shadow.decided", "attempt.progressed"})
# Measured values: they differ between two runs of the same thing.
VOLATILE: Final = frozenset({"spent", "expires_at"})
# Digests that always differ under another policy.
DIGESTS: Final = frozenset({"policy_digest", "decision_digest"})
# Digests that always differ with another version of a tool. The arguments, resources and results behind them are compared.
TOOL_DEPENDENT: Final = frozenset(
    {"decision_digest", "manifest", "request_digest", "profile_digest", "input_digest", "input_bytes"}
)
# What the model of an MCP client reads is not known, and a call of it that waits for people does not stop the others.
MODEL_INPUT: Final = frozenset({"input_digest", "input_bytes"})
# Texts and details that another policy can change while its decision stays the same.
POLICY_DEPENDENT: Final = DIGESTS | frozenset(
    {
        "rules",
        "nearest",
        "facts",
        "message",
        "reason",
        "next_step",
        "for_model",
        "input_digest",
        "input_bytes",
    }
)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One difference between replay and record. `diff` holds the lines of a unified diff, recorded against replayed."""

    kind: DivergenceKind
    step: int | None
    index: int | None
    what: str
    diff: tuple[str, ...] = ()


class Diverged(Exception):
    """The replay differs from the record and cannot continue."""


@dataclass
class ComparingLog(ReplayLog):
    """The log of a replay: it keeps each event that the broker appends and compares it with the recorded one.

    For a what-if, `loose` compares outcomes instead of whole events, and `ignored` names members that are not compared.
    """

    loose: bool = False
    ignored: frozenset[str] = frozenset()
    divergences: list[Divergence] = field(default_factory=list[Divergence])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.complete = any(item.type == "run.finished" for item in self.recorded)
        state = RunState()
        self._state_before: dict[int, RunState] = {}  # by sequence number of the event
        for item in self.recorded:
            self._state_before[item.seq] = state
            state = apply_event(state, item)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        recorded = self.by_key.get(self.key_then(event))
        if recorded is None or recorded.event is None:
            if not self.complete:
                raise RecordEnds
            if self.divergences:
                raise Diverged  # this event is a consequence of the different decision: not a finding of its own
            self._diverge("extra", event, f"{event.type} is not in the record", None)
            raise Diverged
        if not self._same(recorded.event, event):
            kind: DivergenceKind = KIND_OF_EVENT.get(event.type, "extra")
            if isinstance(event, CallDecided) and isinstance(recorded.event, CallDecided):
                calls = (self._comparable(recorded.event.call), self._comparable(event.call))
                kind = "decision" if calls[0] == calls[1] else "request"
            self._diverge(kind, event, _sentence(recorded.event, event), recorded.event)
            # A what-if lists every different decision of one step: they do not depend on each other.
            if not (self.loose and isinstance(event, CallDecided)):
                raise Diverged
        elif self.divergences and not isinstance(event, CallDecided):
            raise Diverged  # a decision of this step differs: what follows from it is not recorded
        return self.follow(run, event, recorded)

    def run_state(self, record: Record, call: Call) -> RunState:
        """The run state when this decision was recorded.

        Parallel calls can end in another order in the replay, so the state of the replay itself may differ.
        """
        following = self.next_of(call.step, call.index)
        return record.state if following is None else self._state_before[following.seq]

    def check_ended(self) -> None:
        """Add a `missing` divergence if the record holds the end of the run but not what the run needed before it."""
        if self.complete:
            what = "the record continues, but the event that the run needs next is not in it"
            last = self.events("")[-1].event
            step, index = (last.step, last.index) if last is not None else (None, None)
            self.divergences.append(Divergence(kind="missing", step=step, index=index, what=what))

    def check_unreached(self) -> None:
        """Add a `missing` divergence for the first recorded event that the replay did not reach.

        Events outside the run's steps do not count: resumptions, policy changes, and answers of people to a call that
        already had its result.
        """
        for item in self.recorded:
            event = item.event
            if item.key in self.reached or item.type in NOT_REPLAYED or event is None:
                continue
            if self._came_too_late(event) or is_by_person(event):
                continue
            what = f"{item.type} is recorded, but did not happen in the replay"
            diff = _diff(event, None, self._dropped)
            self.divergences.append(
                Divergence(kind="missing", step=event.step, index=event.index, what=what, diff=diff)
            )
            return

    def _came_too_late(self, event: AnyEvent) -> bool:
        if not isinstance(event, ApprovalGranted | ApprovalRejected | ApprovalRevoked):
            return False
        return f"call.answered/{event.step}/{event.index}/-" in self.reached

    def _same(self, recorded: AnyEvent, replayed: AnyEvent) -> bool:
        if recorded == replayed:
            return True
        if self.loose and isinstance(recorded, CallAnswered) and isinstance(replayed, CallAnswered):
            return bool(_outcome_of(recorded) == _outcome_of(replayed))
        before, after = self._comparable(recorded), self._comparable(replayed)
        # A record of an earlier version lacks newer members: only members that it set are compared.
        return all(before[name] == after[name] for name in recorded.model_fields_set & set(before))

    def _comparable(self, noun: BaseModel | None) -> Json:
        return None if noun is None else without_members(noun.model_dump(mode="json"), VOLATILE | self.ignored)

    def _diverge(self, kind: DivergenceKind, event: AnyEvent, what: str, recorded: AnyEvent | None) -> None:
        diff = self._diff_of_input(recorded) if isinstance(recorded, ModelRequested) else ()
        diff = diff or _diff(recorded, event, self._dropped)
        self.divergences.append(Divergence(kind=kind, step=event.step, index=event.index, what=what, diff=diff))

    def _diff_of_input(self, asked: ModelRequested) -> tuple[str, ...]:
        """The model's input then and now as a diff, because the event holds only a digest of it.

        Empty if both inputs are equal: then the recorded digest does not belong to the recorded input.
        """
        before = list(takewhile(lambda item: item.event != asked, self.recorded))
        lines = [_read_by_model(item.event for item in events) for events in (before, self.events(""))]
        return unified_diff(lines[0], lines[1])

    @property
    def _dropped(self) -> frozenset[str]:
        return VOLATILE | DIGESTS | (TOOL_DEPENDENT & self.ignored) if self.loose else VOLATILE


def compare_tool_lists(before: Sequence[ToolSpec], after: Sequence[ToolSpec]) -> list[Divergence]:
    """The tools that the model would be offered with a different specification. It reads them from its first turn on."""
    # Compared as JSON, because in Python 1 equals True. The diff is built only for differences: that is ten times slower.
    then, now = ({spec.name: canonical_json(spec.model_dump(mode="json")) for spec in side} for side in (before, after))
    return [
        Divergence(
            kind="model_input",
            step=0,
            index=None,
            what=f"the specification of {name.replace('__', '.', 1)} that the model reads is different now",
            diff=unified_diff(_lines_of(then.get(name)), _lines_of(now.get(name))),
        )
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _lines_of(spec: bytes | None) -> list[str]:
    return [] if spec is None else _json_lines(_parsed_or_text(spec))


def tampering_divergence(fault: ChainFault, original: str | None, copy: str | None) -> Divergence:
    """A fault of the record as a divergence; with a diff if the journal still has the original event."""
    sides = (
        [] if original is None else _json_lines(_parsed_or_text(original)),
        [] if copy is None else _json_lines(_parsed_or_text(copy)),
    )
    diff = unified_diff(*sides, names=("journal", "file")) if original is not None else ()
    return Divergence(kind="tampered", step=None, index=None, what=str(fault), diff=diff)


def without_members(value: Json, dropped: frozenset[str]) -> Json:
    """The value without the members named in `dropped`, at any depth."""
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {key: without_members(item, dropped) for key, item in members.items() if key not in dropped}
    if isinstance(value, list):
        return [without_members(item, dropped) for item in cast("list[object]", value)]
    return value


def _diff(recorded: AnyEvent | None, replayed: AnyEvent | None, dropped: frozenset[str]) -> tuple[str, ...]:
    before, after = (
        [] if event is None else _json_lines(without_members(event.model_dump(mode="json"), dropped))
        for event in (recorded, replayed)
    )
    return unified_diff(before, after)


def unified_diff(
    before: Sequence[str], after: Sequence[str], *, names: tuple[str, str] = ("recorded", "replayed")
) -> tuple[str, ...]:
    """The lines of a unified diff."""
    return tuple(difflib.unified_diff(before, after, *names, lineterm="", n=1))


def _json_lines(value: Json) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _parsed_or_text(text: str | bytes) -> Json:
    """The text parsed as JSON; the text itself if it is not valid JSON."""
    try:
        return load_json(text)
    except ValueError:
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _read_by_model(events: Iterable[AnyEvent | None]) -> list[str]:
    conversation = Conversation()
    for event in events:
        if event is not None:
            conversation.fold(event)
    return [line for message in conversation.messages for line in _json_lines(message.model_dump(mode="json"))]


def _outcome_of(answered: CallAnswered) -> Json:
    if isinstance(answered.result, Succeeded):
        return answered.result.value, sorted(answered.result.labels)
    return answered.result.error.code


def _sentence(recorded: AnyEvent, replayed: AnyEvent) -> str:
    """One sentence for a person."""
    match recorded, replayed:
        case CallDecided(), CallDecided():
            return f"was {_decision_text(recorded)}; now {_decision_text(replayed)}"
        case CallAnswered(), CallAnswered():
            return "the result of the call differs from the recorded one"
        case AttemptEnded(), AttemptEnded():
            sides = [ended.code or "ok" for ended in (recorded, replayed)]
            message = f": {replayed.message}" if replayed.message else ""
            return f"attempt {replayed.attempt}: was {sides[0]}; now {sides[1]}{message}"
        case ModelRequested(), ModelRequested():
            return "the model would read a different input"
        case RunFinished(), RunFinished():
            return f"was {recorded.outcome}; now {replayed.outcome}"
        case _:
            return f"{recorded.type} differs from the recorded event"


def _decision_text(decided: CallDecided) -> str:
    action = decided.call.action if decided.call else decided.proposed.action
    if decided.decision is None:
        code = decided.refusal.error.code if isinstance(decided.refusal, Failed) else "refused"
        return f"{action} {code}"
    rules = decided.decision.rules or decided.decision.nearest
    where = f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "") if rules else ""
    return f"{action} {decided.decision.verdict}{where}: {decided.decision.message}"
