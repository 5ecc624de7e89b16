"""What MCP servers ask people in the middle of a call: the open questions of a workspace, and the answer of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from remit.client.requests import who_continues
from remit.core import Json, Principal, UsageError
from remit.core.events import AnswerGiven, QuestionAsked
from remit.core.parsing import Mismatch, validate
from remit.journal import AlreadyRecorded, Record, RunQuery, StoredRecord, list_runs, resolve_run
from remit.policy import Policy
from remit.workspace import WorkspaceSession, authorize_run


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """What the MCP server of a call asks a person before it answers. `message` and `schema` are text of that server."""

    run: str
    action: str
    asked: QuestionAsked

    @property
    def place(self) -> str:
        """The name of the question: RUN/STEP.INDEX."""
        return f"{self.run[:8]}/{self.asked.step}.{self.asked.index}"

    @property
    def message(self) -> str:
        return str(self.asked.question.get("message", ""))

    @property
    def schema(self) -> dict[str, Json]:
        """The JSON Schema of the answer: an object."""
        return cast("dict[str, Json]", self.asked.question.get("schema", {}))


def open_questions(session: WorkspaceSession) -> tuple[OpenQuestion, ...]:
    """What tools ask people in the runs that wait for them."""
    waiting = list_runs(session.journal, RunQuery(state="waiting"))
    return tuple(item for row in waiting for item in _questions_of(StoredRecord(session.journal, row.run)))


def find_question(session: WorkspaceSession, name: str) -> OpenQuestion:
    """The open question that `name` names: RUN, or RUN/STEP.INDEX if the run has several.

    Raises:
        UsageError: no question matches, or several do.
    """
    run, _, place = name.partition("/")
    record = StoredRecord(session.journal, resolve_run(session.journal, run))
    every = _questions_of(record)
    matches = [item for item in every if place in ("", f"{item.asked.step}.{item.asked.index}")]
    if len(matches) != 1:
        places = ", ".join(item.place for item in every) or "none"
        raise UsageError(f"{name!r} matches {len(matches)} questions, not one; open in this run: {places}")
    return matches[0]


def answer(session: WorkspaceSession, policy: Policy, open_question: OpenQuestion, content: Json, by: Principal) -> str:
    """Record what the person `by` answers, `None` if they decline. Returns who makes the run go on, in one sentence.

    Raises:
        UsageError: the answer does not fit the question, `by` is no person, or another person was first.
        Refusal: `policy_denied`: the rules do not allow `remit.approve`.
    """
    run, asked, journal = open_question.run, open_question.asked, session.journal
    authorize_run(policy, journal, run, by, "remit.approve", f"answer the tool of a call of run {run[:8]}")
    if not by.is_person:
        raise UsageError(f"account {by.account!r} has no user: map it in [identity] of remit.toml")
    if content is not None:
        try:
            validate(open_question.schema, content, fill=False)
        except Mismatch as mismatch:
            raise UsageError(f"the answer does not fit the question: {mismatch}") from mismatch
    given = AnswerGiven(
        step=asked.step or 0,
        index=asked.index or 0,
        number=asked.number,
        by=by,
        answer={"action": "decline"} if content is None else {"action": "accept", "content": content},
    )
    try:
        StoredRecord(journal, run).append(given, durable=True)
    except AlreadyRecorded:
        raise UsageError(f"the question {open_question.place} is answered already") from None
    return who_continues(session, run)


def _questions_of(record: Record) -> tuple[OpenQuestion, ...]:
    waiting = (call for call in record.state.open.values() if call.question is not None and not call.replied)
    return tuple(
        OpenQuestion(run=record.run, action=call.action, asked=call.question)
        for call in waiting
        if call.question is not None and not call.question.via and isinstance(call.question.question, dict)
    )
