"""Where a replay leaves the record: the first difference, of which class, and in which lines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from remit.call import Call, Failed, Json, Succeeded
from remit.event import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    CallAnswered,
    CallDecided,
    Recorded,
)
from remit.facts import Facts, fold
from remit.record import Record
from remit.recorded import Guide, RecordEnds

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
    "model.asked": "model_input",
    "model.answered": "model_input",
    "call.decided": "decision",
    "approval.requested": "approval",
    "approval.granted": "approval",
    "approval.rejected": "approval",
    "attempt.intended": "request",
    "attempt.ended": "result",
    "call.answered": "result",
    "run.finished": "outcome",
}

NOT_REPLAYED: Final = frozenset({"run.resumed", "rules.changed"})
# Measured, not decided: two runs of the same thing differ here.
VOLATILE: Final = frozenset({"spent", "expires_at"})
DIGESTS: Final = frozenset({"policy_digest", "decision_digest"})  # of course other ones under other rules
# What another policy may say in other words while it decides the same.
POLICY_WORDS: Final = DIGESTS | frozenset(
    {
        "rules",
        "nearest",
        "facts",
        "message",
        "reason",
        "remedy",
        "told",
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

    `loose` compares what was decided, not in which words: the rules are other ones.
    """

    loose: bool = False
    divergences: list[Divergence] = field(default_factory=list[Divergence])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.complete = any(item.type == "run.finished" for item in self.recorded)
        facts = Facts()
        self._facts_before: dict[int, Facts] = {}
        for item in self.recorded:
            self._facts_before[item.seq] = facts
            facts = fold(facts, item)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False) -> Recorded:
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
                kind = "decision" if event.call == recorded.event.call else "request"
            self._diverge(kind, event, _what(recorded.event, event), recorded.event)
            if not (self.loose and kind == "decision"):
                raise Diverged
        elif self.divergences and not isinstance(event, CallDecided):
            raise Diverged  # the step's decisions differ; what follows from them would be a guess
        return self.follow(run, event, recorded)

    def facts(self, record: Record, call: Call) -> Facts:
        """The facts as they stood when this decision was recorded, whatever order parallel calls ended in."""
        following = self.next_of(call.step, call.index)
        return record.facts if following is None else self._facts_before[following.seq]

    def check_unreached(self) -> None:
        """The first recorded event that the replay never came to is missing.

        A resumption is the process's, an edit of the rules a person's; and what people said of a call that was already
        answered changed nothing.
        """
        for item in self.recorded:
            event = item.event
            if item.key in self.reached or item.type in NOT_REPLAYED or event is None or self._came_too_late(event):
                continue
            what = f"{item.type} is recorded and did not happen"
            diff = _diff(event, None, self._dropped)
            self.divergences.append(
                Divergence(kind="missing", step=event.step, index=event.index, what=what, diff=diff)
            )
            return

    def _came_too_late(self, event: AnyEvent) -> bool:
        if not isinstance(event, ApprovalGranted | ApprovalRejected):
            return False
        return f"call.answered/{event.step}/{event.index}/-" in self.reached

    def _same(self, recorded: AnyEvent, replayed: AnyEvent) -> bool:
        if recorded == replayed:
            return True
        dropped = VOLATILE | POLICY_WORDS if self.loose else VOLATILE
        if self.loose and isinstance(recorded, CallAnswered) and isinstance(replayed, CallAnswered):
            return bool(_outcome(recorded) == _outcome(replayed))
        before, after = (without(event.model_dump(mode="json"), dropped) for event in (recorded, replayed))
        return bool(before == after)

    @property
    def _dropped(self) -> frozenset[str]:
        return VOLATILE | DIGESTS if self.loose else VOLATILE

    def _diverge(self, kind: Kind, event: AnyEvent, what: str, recorded: AnyEvent | None) -> None:
        diff = _diff(recorded, event, self._dropped)
        self.divergences.append(Divergence(kind=kind, step=event.step, index=event.index, what=what, diff=diff))


def without(value: Json, dropped: frozenset[str]) -> Json:
    """The value without the members named in `dropped`, at any depth."""
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {key: without(item, dropped) for key, item in members.items() if key not in dropped}
    if isinstance(value, list):
        return [without(item, dropped) for item in cast("list[object]", value)]
    return value


def _diff(recorded: AnyEvent | None, replayed: AnyEvent | None, dropped: frozenset[str]) -> tuple[str, ...]:
    before, after = (_lines(event, dropped) for event in (recorded, replayed))
    return tuple(difflib.unified_diff(before, after, "recorded", "replayed", lineterm="", n=1))


def _lines(event: AnyEvent | None, dropped: frozenset[str]) -> list[str]:
    if event is None:
        return []
    value = without(event.model_dump(mode="json"), dropped)
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _outcome(answered: CallAnswered) -> Json:
    return answered.result.value if isinstance(answered.result, Succeeded) else answered.result.error.code


def _what(recorded: AnyEvent, replayed: AnyEvent) -> str:
    """One sentence for a person."""
    match recorded, replayed:
        case CallDecided(), CallDecided():
            return f"recorded {_said(recorded)}; now {_said(replayed)}"
        case CallAnswered(), CallAnswered():
            return "the call's result is not the recorded one"
        case _:
            return f"{recorded.type} is not as recorded"


def _said(decided: CallDecided) -> str:
    action = decided.call.action if decided.call else decided.ask.action
    if decided.decision is None:
        code = decided.refused.error.code if isinstance(decided.refused, Failed) else "refused"
        return f"{action} {code}"
    rules = decided.decision.rules or decided.decision.nearest
    where = f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "") if rules else ""
    return f"{action} {decided.decision.verdict}{where}: {decided.decision.message}"
