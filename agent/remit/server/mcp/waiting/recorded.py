"""A call that waited for people, as the record has it: a client that names its request reads what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from remit.broker import objects_of
from remit.core import CONFIRMATION, ContentObject, Failed, ProposedCall, Refusal, Result
from remit.core.events import ApprovalRequested, CallAnswered, CallDecided, RunStarted
from remit.journal import Journal
from remit.server.handlers.calls import CallAnswer, approval_view
from remit.server.http.answers import ServiceError

_REQUEST: Final = re.compile(r"([0-9a-f]{32})/([0-9]{1,6})\.([0-9]{1,6})", re.ASCII)


class ClientAnswer(CallAnswer):
    """The result of one call, with the images and files that it names."""

    objects: tuple[ContentObject, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """One call: its place, what was proposed, and its `answer`, None without one yet. Times are Unix nanoseconds."""

    run: str
    step: int
    index: int
    proposed: ProposedCall
    decided_at: int
    changed_at: int
    answer: ClientAnswer | None

    @property
    def place(self) -> tuple[int, int]:
        return self.step, self.index


def recorded_call(journal: Journal, conversation: str, request: str) -> RecordedCall:
    """The call with that request for approval, RUN/STEP.INDEX. Raises Refusal `approval_invalid` if the conversation has none."""
    found = _REQUEST.fullmatch(request)
    if found is None or _conversation_of(journal, found[1]) != conversation:
        raise no_such_request()
    run, step, index = found[1], int(found[2]), int(found[3])
    decided = journal.get(run, f"call.decided/{step}/{index}/0")
    if decided is None or not isinstance(decided.event, CallDecided):
        raise no_such_request()

    def event_of(key: str) -> object:
        found = journal.get(run, key)
        return None if found is None else found.event

    answered = journal.get(run, f"call.answered/{step}/{index}/-")
    event = None if answered is None else answered.event
    objects = objects_of(event_of, step, index)
    return RecordedCall(
        run=run,
        step=step,
        index=index,
        proposed=decided.event.proposed,
        decided_at=decided.at,
        changed_at=decided.at if answered is None else answered.at,
        answer=answer_of(run, event.result, objects) if isinstance(event, CallAnswered) else None,
    )


def _conversation_of(journal: Journal, run: str) -> str | None:
    started = journal.get(run, "run.started/-/-/-")
    event = None if started is None else started.event
    place = event.conversation if isinstance(event, RunStarted) else None
    return None if place is None else place.id


def answer_of(run: str, result: Result | ApprovalRequested, objects: tuple[ContentObject, ...] = ()) -> ClientAnswer:
    """The result of a call, as every entry point gives it."""
    if isinstance(result, ApprovalRequested):
        view, roles = approval_view(run, result), [item.role for item in result.missing]
        who = "they must confirm it" if roles == [CONFIRMATION] else "a person must approve it"
        error = ServiceError(
            code="approval_required",
            message=f"waits for {', '.join(roles)}",
            next_step=f"tell the user that {who}; then make the same call again",
        )
        return ClientAnswer(ok=False, run=run, error=error, approval=view)
    if isinstance(result, Failed):
        return ClientAnswer(ok=False, run=run, error=ServiceError.model_validate(result.error.model_dump()))
    return ClientAnswer(ok=True, run=run, value=result.value, labels=result.labels, objects=objects)


def no_such_request() -> Refusal:
    message, fix = "there is no such request for approval of this call", "make the call without the id of a request"
    return Refusal("approval_invalid", message, next_step=fix)
