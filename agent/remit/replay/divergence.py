"""Where a replay leaves the record: the first difference, of which class, and in which lines."""

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
from remit.replay.recorded import Guide, RecordEnds, is_a_persons

Kind: TypeAlias = Literal[
    "decision",  # policy says something else
    "model_input",  # the model would have read something else
    "request",  # the same words of the model make another call
    "result",  # a call ends otherwise
    "approval",  # people were asked or answered otherwise
    "outcome",  # the run ends otherwise
    "extra",  # the replay does something that is not recorded
    "missing",  # something recorded does not happen
    "tampered",  # the record is not the one that was written
]

KINDS: Final[Mapping[str, Kind]] = {
    "model.requested": "model_input",
    "model.responded": "model_input",
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

NOT_REPLAYED: Final = frozenset({"run.resumed", "policy.changed"})
# Measured, not decided: two runs of the same thing differ here.
VOLATILE: Final = frozenset({"spent", "expires_at"})
DIGESTS: Final = frozenset({"policy_digest", "decision_digest"})  # of course other ones under other rules
# Of course other ones with other tools; what they mean is in the arguments, resources and results, which are compared.
TOOL_WORDS: Final = frozenset({"decision_digest", "manifest", "request_digest", "profile_digest", "input_digest"})
# What another policy may say in other words while it decides the same.
POLICY_WORDS: Final = DIGESTS | frozenset(
    {
        "rules",
        "nearest",
        "facts",
        "message",
        "reason",
        "next_step",
        "for_model",
        "input_digest",
    }
)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where the replay left the record. `diff` holds lines of a unified diff, recorded against replayed."""

    kind: Kind
    step: int | None
    index: int | None
    what: str
    diff: tuple[str, ...] = ()


class Diverged(Exception):
    """The replay has left the record and cannot go on."""


@dataclass
class Comparison(Guide):
    """The log of a replay: it keeps what the broker appends and compares it with what was recorded.

    `loose` and `ignored`, names of members, are for a what-if: what was decided is compared, not in which words.
    """

    loose: bool = False
    ignored: frozenset[str] = frozenset()
    divergences: list[Divergence] = field(default_factory=list[Divergence])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.complete = any(item.type == "run.finished" for item in self.recorded)
        facts = RunState()
        self._facts_before: dict[int, RunState] = {}
        for item in self.recorded:
            self._facts_before[item.seq] = facts
            facts = apply_event(facts, item)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        recorded = self.by_key.get(self.key_then(event))
        if recorded is None or recorded.event is None:
            if not self.complete:
                raise RecordEnds
            if self.divergences:
                raise Diverged  # it follows from the decision that differs
            self._diverge("extra", event, f"{event.type} is not in the record", None)
            raise Diverged
        if not self._same(recorded.event, event):
            kind: Kind = KINDS.get(event.type, "extra")
            if isinstance(event, CallDecided) and isinstance(recorded.event, CallDecided):
                calls = (self._comparable(recorded.event.call), self._comparable(event.call))
                kind = "decision" if calls[0] == calls[1] else "request"
            self._diverge(kind, event, _what(recorded.event, event), recorded.event)
            if not (self.loose and isinstance(event, CallDecided)):
                raise Diverged
        elif self.divergences and not isinstance(event, CallDecided):
            raise Diverged  # the step's decisions differ; what follows from them would be a guess
        return self.follow(run, event, recorded)

    def facts(self, record: Record, call: Call) -> RunState:
        """The facts as they stood when this decision was recorded, whatever order parallel calls ended in."""
        following = self.next_of(call.step, call.index)
        return record.state if following is None else self._facts_before[following.seq]

    def check_ended(self) -> None:
        """A record that holds the run's end cannot lack what led there."""
        if self.complete:
            what = "the record goes on, and what the run needed next is not in it"
            last = self.events("")[-1].event
            step, index = (last.step, last.index) if last is not None else (None, None)
            self.divergences.append(Divergence(kind="missing", step=step, index=index, what=what))

    def check_unreached(self) -> None:
        """The first recorded event that the replay never came to is missing.

        A resumption is the process's, an edit of the rules a person's; and what people said of a call that was already
        answered changed nothing.
        """
        for item in self.recorded:
            event = item.event
            if item.key in self.reached or item.type in NOT_REPLAYED or event is None:
                continue
            if self._came_too_late(event) or is_a_persons(event):
                continue
            what = f"{item.type} is recorded and did not happen"
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
            return bool(_outcome(recorded) == _outcome(replayed))
        before, after = self._comparable(recorded), self._comparable(replayed)
        # What a record of an earlier version does not know is not compared.
        return all(before[name] == after[name] for name in recorded.model_fields_set & set(before))

    def _comparable(self, noun: BaseModel | None) -> Json:
        return None if noun is None else without(noun.model_dump(mode="json"), VOLATILE | self.ignored)

    def _diverge(self, kind: Kind, event: AnyEvent, what: str, recorded: AnyEvent | None) -> None:
        diff = self._diff_of_input(recorded) if isinstance(recorded, ModelRequested) else ()
        diff = diff or _diff(recorded, event, self._dropped)
        self.divergences.append(Divergence(kind=kind, step=event.step, index=event.index, what=what, diff=diff))

    def _diff_of_input(self, asked: ModelRequested) -> tuple[str, ...]:
        """What the model read then, and what it would read now: a digest alone would say nothing to a person.

        Empty where the recorded digest is not even of what the record says.
        """
        before = list(takewhile(lambda item: item.event != asked, self.recorded))
        lines = [_read_by_model(item.event for item in events) for events in (before, self.events(""))]
        return unified(lines[0], lines[1])

    @property
    def _dropped(self) -> frozenset[str]:
        return VOLATILE | DIGESTS | (TOOL_WORDS & self.ignored) if self.loose else VOLATILE


def offered(before: Sequence[ToolSpec], after: Sequence[ToolSpec]) -> list[Divergence]:
    """The tools that a model would be offered otherwise; it would have read something else from the first turn on."""
    # As JSON, where 1 is not true; laid out in lines only where they differ, for that takes ten times as long.
    then, now = ({spec.name: canonical_json(spec.model_dump(mode="json")) for spec in side} for side in (before, after))
    return [
        Divergence(
            kind="model_input",
            step=0,
            index=None,
            what=f"the model is offered {name.replace('__', '.', 1)} otherwise",
            diff=unified(_lines_of(then.get(name)), _lines_of(now.get(name))),
        )
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _lines_of(spec: bytes | None) -> list[str]:
    return [] if spec is None else _json_lines(_loaded(spec))


def tampered(fault: ChainFault, original: str | None, copy: str | None) -> Divergence:
    """A fault of the record as a divergence, with its diff where the journal still has the original."""
    sides = (
        [] if original is None else _json_lines(_loaded(original)),
        [] if copy is None else _json_lines(_loaded(copy)),
    )
    diff = unified(*sides, names=("journal", "file")) if original is not None else ()
    return Divergence(kind="tampered", step=None, index=None, what=str(fault), diff=diff)


def without(value: Json, dropped: frozenset[str]) -> Json:
    """The value without the members named in `dropped`, at any depth."""
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {key: without(item, dropped) for key, item in members.items() if key not in dropped}
    if isinstance(value, list):
        return [without(item, dropped) for item in cast("list[object]", value)]
    return value


def _diff(recorded: AnyEvent | None, replayed: AnyEvent | None, dropped: frozenset[str]) -> tuple[str, ...]:
    before, after = (
        [] if event is None else _json_lines(without(event.model_dump(mode="json"), dropped))
        for event in (recorded, replayed)
    )
    return unified(before, after)


def unified(
    before: Sequence[str], after: Sequence[str], *, names: tuple[str, str] = ("recorded", "replayed")
) -> tuple[str, ...]:
    """The lines of a unified diff."""
    return tuple(difflib.unified_diff(before, after, *names, lineterm="", n=1))


def _json_lines(value: Json) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _loaded(text: str | bytes) -> Json:
    """What the text says as JSON; the text itself where it was damaged."""
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


def _outcome(answered: CallAnswered) -> Json:
    if isinstance(answered.result, Succeeded):
        return answered.result.value, sorted(answered.result.labels)
    return answered.result.error.code


def _what(recorded: AnyEvent, replayed: AnyEvent) -> str:
    """One sentence for a person."""
    match recorded, replayed:
        case CallDecided(), CallDecided():
            return f"recorded {_said(recorded)}; now {_said(replayed)}"
        case CallAnswered(), CallAnswered():
            return "the call's result is not the recorded one"
        case AttemptEnded(), AttemptEnded():
            sides = [ended.code or "ok" for ended in (recorded, replayed)]
            said = f": {replayed.message}" if replayed.message else ""
            return f"attempt {replayed.attempt}: recorded {sides[0]}; now {sides[1]}{said}"
        case ModelRequested(), ModelRequested():
            return "the model would read something else"
        case RunFinished(), RunFinished():
            return f"recorded {recorded.outcome}; now {replayed.outcome}"
        case _:
            return f"{recorded.type} is not as recorded"


def _said(decided: CallDecided) -> str:
    action = decided.call.action if decided.call else decided.proposed.action
    if decided.decision is None:
        code = decided.refusal.error.code if isinstance(decided.refusal, Failed) else "refused"
        return f"{action} {code}"
    rules = decided.decision.rules or decided.decision.nearest
    where = f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "") if rules else ""
    return f"{action} {decided.decision.verdict}{where}: {decided.decision.message}"
