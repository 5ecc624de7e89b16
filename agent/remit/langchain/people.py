"""What people are asked about the calls of one run of an external graph, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.broker import action_of
from remit.core import Json, ProposedCall, Refusal, tool_name
from remit.core.events import (
    AnyEvent,
    ApprovalRejected,
    ApprovalRequested,
    CallDecided,
    QuestionAnswered,
    QuestionAsked,
)
from remit.journal import Record
from remit.langchain.answers import DECISIONS, Answering, Resumed, decision_of
from remit.langchain.graph_call import GraphCall, Paused
from remit.langchain.pauses import as_json
from remit.langchain.state import proposed_call_of
from remit.runtime import AgentGraph
from remit.workspace import WorkspaceSession


@dataclass(frozen=True, kw_only=True)
class People:
    """Asks people and records their answers. `hosted` are the actions of the graph's own tools, by the name of the function."""

    session: WorkspaceSession
    agent_graph: AgentGraph
    hosted: Mapping[str, str]
    _resumed: dict[tuple[int, int, int], Resumed] = field(default_factory=dict[tuple[int, int, int], Resumed])
    _refused: dict[str, str] = field(default_factory=dict[str, str])

    def asked_to_approve(self, requested: ApprovalRequested, call: GraphCall) -> Paused:
        """The call as LangChain's human-in-the-loop middleware asks for it, and what only Remit says under `remit`."""
        record = self.agent_graph.record
        decided = record.get(f"call.decided/{requested.step}/{requested.index}/0")
        arguments = decided.call.arguments if isinstance(decided, CallDecided) and decided.call is not None else {}
        own: dict[str, Json] = {
            "request": f"{record.run}/{requested.step}.{requested.index}",
            "missing": [item.model_dump(mode="json") for item in requested.missing],
            "expires_at": requested.expires_at,
        }
        if refused := self._refused.get(requested.key):
            own["refused"] = refused
        value: dict[str, Json] = {
            "action_requests": [{"name": call.name, "args": dict(arguments), "description": requested.summary}],
            "review_configs": [{"action_name": call.name, "allowed_decisions": list(DECISIONS)}],
            "remit": own,
        }
        return Paused(value=value, requested=requested)

    def answer(self, call: GraphCall, paused: Paused, resumed: Resumed) -> None:
        """Record what the person answered, if it is an answer to this."""
        if paused.asked is not None:
            self._answer_question(paused.asked, resumed)
        elif paused.requested is not None and call.alone:
            requested, ports = paused.requested, self.agent_graph.broker.ports
            answering = Answering(
                journal=self.session.journal, record=self.agent_graph.record, policy=ports.policy(-1, -1)
            )
            self._refused[requested.key] = answering.answer(requested, resumed, self._edited(call, requested, resumed))

    def _answer_question(self, asked: QuestionAsked, resumed: Resumed) -> None:
        if resumed.place.comes_after(asked.via):
            self._resumed[asked.step, asked.index, asked.number] = resumed

    def answer_to(self, step: int, index: int, number: int) -> QuestionAnswered | None:
        """The answer to that question, to be recorded before the tool gets it; None: nobody has answered."""
        resumed = self._resumed.get((step, index, number))
        if resumed is None:
            return None
        return QuestionAnswered(step=step, index=index, number=number, by=resumed.by, answer=as_json(resumed.value))

    def answers_to(self, step: int, index: int) -> list[Any]:
        """The answers to the questions of the tool of a call, in order: as they were given, or else as they are recorded."""
        answers: list[Any] = []
        while isinstance(answered := self._answered(step, index, len(answers) + 1), QuestionAnswered):
            resumed = self._resumed.get((step, index, answered.number))
            answers.append(answered.answer if resumed is None else resumed.value)
        return answers

    def _answered(self, step: int, index: int, number: int) -> AnyEvent | None:
        return self.agent_graph.record.get(f"question.answered/{step}/{index}/{number}")

    def _edited(self, call: GraphCall, requested: ApprovalRequested, resumed: Resumed) -> ProposedCall | None:
        """The call that the person makes in place of this one, as it is recorded."""
        try:
            decision = decision_of(resumed.value)
        except Refusal:
            return None
        if decision is None or decision.type != "edit":
            return None
        action = self.hosted.get(action_of(decision.name))
        name = decision.name if action is None else tool_name(action)
        id_ = f"{call.turn.proposed_calls[call.index].id}/edited/{requested.step}.{requested.index}"
        return self.agent_graph.broker.sanitizer.proposed_call(proposed_call_of(name, decision.arguments or {}, id_))


def made_instead(record: Record, step: int, index: int) -> ApprovalRejected | None:
    """The rejection with which a person made another call in place of this one; None without one."""
    rejections = (event for event in record.every() if isinstance(event, ApprovalRejected))
    return next(
        (item for item in rejections if (item.step, item.index) == (step, index) and item.edited is not None), None
    )
