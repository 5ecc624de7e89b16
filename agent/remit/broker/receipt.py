"""What the broker saw of the calls of a run: their receipt, and what their results have of documents. From its record alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from pydantic import ValidationError

from remit.core import (
    Approver,
    CallOutcome,
    Citation,
    Failed,
    Json,
    Landed,
    Passage,
    ReceiptItem,
    Refusal,
    Result,
    Retrieved,
    Source,
    Succeeded,
    is_refused,
)
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRevoked,
    ApprovalVoided,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    EffectSettled,
    ModelResponded,
)
from remit.core.parsing import canonical_json
from remit.workspace import Workspace
from remit.workspace.manifest import values_at

NOTHING_FOUND: Final = (
    "nothing_found"  # the declared error of a search that looked everywhere it may, and found nothing
)


def receipt_of(events: Iterable[AnyEvent]) -> tuple[ReceiptItem, ...]:
    """What the broker saw of each call of the model, in the order of the calls; look-ups that Remit makes itself are left out."""
    calls: dict[tuple[int | None, int | None], _CallRecord] = {}
    internal: set[int] = set()
    for event in events:
        if isinstance(event, ModelResponded):
            internal.update({event.step} if event.internal else ())
        elif isinstance(event, CallDecided):
            if event.step not in internal:
                calls.setdefault((event.step, event.index), _CallRecord(decided=event)).decided = event
        elif (call := calls.get((event.step, event.index))) is not None:
            call.add(event)
    return tuple(calls[place].item() for place in sorted(calls, key=_order))


def retrieved_by(events: Iterable[AnyEvent], workspace: Workspace, at: int) -> Retrieved:
    """The passages in the results of a run, at the time of its answer (Unix nanoseconds).

    The manifest of an action says in `passages` where they are. Look-ups that Remit makes itself are left out: the model does
    not read them.
    """
    internal: set[int] = set()
    actions: dict[tuple[int, int], str] = {}
    passages: list[Passage] = []
    invalid: set[tuple[str, int]] = set()
    searched = False
    for event in events:
        if isinstance(event, ModelResponded):
            internal.update({event.step} if event.internal else ())
        elif isinstance(event, CallDecided):
            actions[event.step, event.index] = "" if event.call is None or event.step in internal else event.call.action
        elif isinstance(event, CallAnswered) and (path := _path(workspace, actions.get((event.step, event.index), ""))):
            result, call = event.result, f"{event.step}.{event.index}"
            searched = searched or _answers(result)
            for item, value in enumerate(() if isinstance(result, Failed) else values_at(result.value, path), start=1):
                if (passage := _passage(call, item, value)) is None:
                    invalid.add((call, item))
                else:
                    passages.append(passage)
    return Retrieved(passages=tuple(passages), searched=searched, invalid=frozenset(invalid), at=at)


def landed_of(attempts: Sequence[AttemptEnded | None], settled: EffectSettled | None, *, reads: bool) -> Landed:
    """Whether the effect of a call landed.

    `attempts` are the ends of its attempts, None for one without a recorded end, which may have landed. `settled` is the latest
    statement of its outcome. `reads` is True for a call that changes nothing.
    """
    # A person or a probe decides only what the attempts leave open: a successful attempt has landed.
    done = any(ended is not None and ended.code is None for ended in attempts)
    if settled is not None and settled.landed != "unknown" and not done:
        return settled.landed
    if None in attempts:
        return "none" if reads else "unknown"
    # The worst case of all attempts counts: one that landed, then one that may have landed.
    states = {ended.landed for ended in attempts if ended is not None}
    worst: tuple[Landed, ...] = ("landed", "unknown", "not_landed")
    for state in worst:
        if state in states:
            return state
    return "none"


@dataclass
class _CallRecord:
    """The events of one call that its receipt reads."""

    decided: CallDecided
    answers: dict[str, ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided] = field(
        default_factory=dict[str, ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided]
    )
    attempts: dict[int | None, AttemptEnded | None] = field(default_factory=dict[int | None, AttemptEnded | None])
    settled: EffectSettled | None = None
    result: Result | None = None

    def add(self, event: AnyEvent) -> None:
        match event:
            case ApprovalGranted() | ApprovalRejected() | ApprovalRevoked() | ApprovalVoided():
                self.answers[event.approver] = event
            case AttemptBegun():
                self.attempts[event.attempt] = None
            case AttemptEnded():
                self.attempts[event.attempt] = event
            case EffectSettled():
                self.settled = event
            case CallAnswered():
                self.result = event.result
            case _:
                pass

    def item(self) -> ReceiptItem:
        call = self.decided.call
        reads = call is None or call.effect == "read"
        landed = landed_of(tuple(self.attempts.values()), self.settled, reads=reads)
        return ReceiptItem(
            call=f"{self.decided.step}.{self.decided.index}",
            action=self.decided.proposed.action if call is None else call.action,
            resources=() if call is None else tuple(dict.fromkeys(touch.resource for touch in call.touches)),
            outcome=self._outcome(landed),
            landed=landed,
            code=self.result.error.code if isinstance(self.result, Failed) else None,
            approved_by=tuple(
                Approver(subject=answer.approver, role=answer.role)
                for answer in self.answers.values()
                if isinstance(answer, ApprovalGranted)
            ),
            settled_by="" if self.settled is None or self.settled.landed == "unknown" else self.settled.source,
        )

    def _outcome(self, landed: Landed) -> CallOutcome:
        if landed == "landed":
            return "done"
        if landed == "unknown":
            return "unknown"
        if self.result is None:
            return "waiting"
        if not isinstance(self.result, Failed):
            return "done"
        if is_refused(self.result, enforced=self.decided.enforced):
            return "refused"
        return "unknown" if self.result.refused else "failed"  # the graph carried out what was refused


def _order(place: tuple[int | None, int | None]) -> tuple[int, int]:
    step, index = place
    return step or 0, index or 0


def _path(workspace: Workspace, name: str) -> Sequence[str]:
    """Where the results of that action have passages; empty for an action without them."""
    tool, _, action = name.partition(".")
    found = workspace.every_tool[tool].manifest.actions.get(action) if tool in workspace.every_tool else None
    return () if found is None or not found.passages else found.passages.split("/")


def _answers(result: Result) -> bool:
    """True for a search that returned a result or found nothing; one that could not search says nothing of the documents."""
    return isinstance(result, Succeeded) or result.error.details.get("error") == NOTHING_FOUND


def _passage(call: str, item: int, value: Json) -> Passage | None:
    """The passage that one item of a result is; None if it has not the form of one."""
    members: dict[str, Json] = cast("dict[str, Json]", value) if isinstance(value, dict) else {}
    text, title, in_force = members.get("text"), members.get("title", ""), members.get("in_force")
    dates: dict[str, Json] = cast("dict[str, Json]", in_force) if isinstance(in_force, dict) else {}
    since, until = dates.get("from"), dates.get("until")
    if not isinstance(text, str) or not isinstance(title, str) or not isinstance(in_force, dict):
        return None
    if not isinstance(since, str | None) or not isinstance(until, str | None):
        return None
    try:
        citation = Citation.model_validate_json(canonical_json(members.get("citation")))
    except (ValidationError, Refusal):
        return None
    source = Source(call=call, item=item, citation=citation)
    return Passage(source=source, text=text, title=title, since=since, until=until)
