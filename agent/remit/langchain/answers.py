"""Answers of people to requests for approval that come as the value of LangGraph's `Command(resume=…)`.

Two forms are read: `{"decisions": […]}` of LangChain's human-in-the-loop middleware, and `[{"type": …, "args": …}]` of the Agent Inbox.
Any other value says nothing, so that the run only looks again whether a person has approved the call elsewhere.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeGuard

from remit.broker.approvals import (
    Approval,
    Instead,
    grant_approval,
    only_role,
    open_approval,
    refusal_recorded,
    reject_approval,
)
from remit.core import Json, Principal, ProposedCall, Refusal, UsageError, roles_held
from remit.core.events import ApprovalRequested
from remit.core.parsing import Arguments, canonical_json
from remit.journal import Journal, Record
from remit.policy import Policy
from remit.workspace import authorize_run

DecisionType: TypeAlias = Literal["approve", "edit", "reject", "respond"]

DECISIONS: Final[tuple[DecisionType, ...]] = ("approve", "edit", "reject", "respond")
_OF_INBOX: Final[Mapping[Any, DecisionType]] = {
    "accept": "approve",
    "ignore": "reject",
    "response": "respond",
    "edit": "edit",
}
_LONGEST: Final = 10_000  # characters of a person's words


@dataclass(frozen=True, kw_only=True)
class PersonsDecision:
    """What a person decided about one call. `words` are the reason of a rejection or the response; `name` and `arguments` the edited call."""

    type: DecisionType
    words: str = ""
    name: str = ""
    arguments: Mapping[str, Json] | None = None


def decision_of(answer: Any) -> PersonsDecision | None:
    """The decision in the value of a `Command(resume=…)`; None if it has none.

    Raises:
        Refusal: `invalid_arguments`: it is no decision about exactly one call.
    """
    if _is_object(answer) and "decisions" in answer:
        return _decision(_only(answer["decisions"]))
    if _is_list(answer) and answer:
        return _of_inbox(_only(answer))
    return None


def _only(items: Any) -> Mapping[str, Any]:
    if not _is_list(items) or len(items) != 1 or not _is_object(items[0]):
        raise _invalid("it must have one decision, because the request is about one call")
    return items[0]


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _decision(item: Mapping[str, Any]) -> PersonsDecision:
    kind = item.get("type")
    if kind == "edit":
        return _edited(item.get("edited_action"), "name")
    if kind == "respond":
        return PersonsDecision(type="respond", words=_text(item.get("message")))
    if kind == "reject":
        return PersonsDecision(type="reject", words=_text(item.get("message") or ""))
    if kind == "approve":
        return PersonsDecision(type="approve")
    raise _invalid(f"the type of a decision is one of {', '.join(DECISIONS)}")


def _of_inbox(item: Mapping[str, Any]) -> PersonsDecision:
    kind, args = _OF_INBOX.get(item.get("type")), item.get("args")
    if kind is None:
        raise _invalid(f"the type of a response is one of {', '.join(_OF_INBOX)}")
    if kind == "edit":
        return _edited(args, "action")
    return PersonsDecision(type=kind, words=_text(args) if kind == "respond" else "")


def _edited(action: Any, name: str) -> PersonsDecision:
    if not _is_object(action) or not isinstance(action.get(name), str) or not _is_object(action.get("args")):
        raise _invalid(f"an edited call has a {name!r} and 'args'")
    return PersonsDecision(type="edit", name=action[name], arguments=Arguments.of(action["args"]).copy())


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _invalid(f"the words of a person are a text of at most {_LONGEST} characters")
    return value


def _invalid(problem: str) -> Refusal:
    return Refusal("invalid_arguments", f"the answer to the request is not valid: {problem}")


@dataclass(frozen=True, kw_only=True)
class InterruptPlace:
    """An interrupt of a task of LangGraph: `number` counts those that Remit makes in it, from 0.

    A task that is carried out again gets the values of its earlier interrupts again.
    """

    task: str
    number: int

    @property
    def via(self) -> str:
        return f"{hashlib.sha256(self.task.encode()).hexdigest()[:32]}/{self.number}"

    def comes_after(self, via: str) -> bool:
        """True if its value cannot be that of an interrupt before the one of `via`: that one is of another task, or not later."""
        task, _, number = self.via.partition("/")
        other, _, first = via.partition("/")
        return task != other or int(number) >= int(first or 0)


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The value that resumed an interrupt, and who gave it. `via` makes a value that LangGraph repeats count once."""

    value: Any
    by: Principal
    place: InterruptPlace

    @property
    def via(self) -> str:
        return hashlib.sha256(f"{self.place.via}\0{_text_of(self.value)}".encode()).hexdigest()


def _text_of(value: Any) -> str:
    try:
        return canonical_json(value).decode()
    except (Refusal, TypeError, ValueError):
        return repr(value)


@dataclass(frozen=True, kw_only=True)
class Answering:
    """Records answers to the requests for approval of one run, under the rules in force."""

    journal: Journal
    record: Record
    policy: Policy

    def answer(self, requested: ApprovalRequested, resumed: Resumed, edited: ProposedCall | None) -> str:
        """Record the decision of a person. Returns why it does not count; "" if it does, or if there is none.

        `edited` is the call that the person makes in place of the requested one.
        """
        try:
            if (decision := decision_of(resumed.value)) is None or self._seen(requested, resumed.via):
                return ""
            with refusal_recorded(self.record, requested, resumed.by, resumed.via):
                what = f"{decision.type} calls of run {self.record.run[:8]}"
                authorize_run(self.policy, self.journal, self.record.run, resumed.by, "remit.approve", what)
            self._apply(requested, resumed, decision, edited)
        except Refusal as refused:
            return refused.message
        return ""

    def _seen(self, requested: ApprovalRequested, via: str) -> bool:
        return any(
            event.step == requested.step and event.index == requested.index and getattr(event, "via", "") == via
            for event in self.record.every()
        )

    def _apply(
        self, requested: ApprovalRequested, resumed: Resumed, decision: PersonsDecision, edited: ProposedCall | None
    ) -> None:
        by, roles_of, now = resumed.by, self.policy.roles_of, time.time_ns()
        if decision.type == "approve":
            role = self._role(requested, resumed, now)
            approval = Approval(by=by, role=role, via=resumed.via)
            grant_approval(self.record, requested, approval, roles_of=roles_of, now=now)
            return
        instead = Instead(
            response=decision.words if decision.type == "respond" else None,
            edited=edited if decision.type == "edit" else None,
            via=resumed.via,
        )
        reason = decision.words if decision.type == "reject" else ""
        reject_approval(self.record, requested, by=by, roles_of=roles_of, now=now, reason=reason, instead=instead)

    def _role(self, requested: ApprovalRequested, resumed: Resumed, now: int) -> str:
        needed, own = tuple(missing.role for missing in requested.missing), roles_held(resumed.by, self.policy.roles_of)
        with refusal_recorded(self.record, requested, resumed.by, resumed.via):
            try:
                return only_role(open_approval(self.record, requested), needed, own, now)
            except UsageError as several:
                raise Refusal("approval_invalid", str(several)) from several
