"""People in a LangGraph graph under Remit: who answers an interrupt, with what, and what becomes of the call."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable
from inspect import signature
from typing import Annotated, Any

import pytest
from langchain.agents import AgentState
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from remit.core.errors import UsageError
from remit.core.events import (
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    AttemptBegun,
    AttemptEnded,
    ModelResponded,
    QuestionAnswered,
    QuestionAsked,
    RunStarted,
)
from remit.langchain.commands import kept, restored
from support.langchain_agents import (
    ASKED,
    LARGE,
    LOOK,
    MAIL,
    SMALL,
    THREAD,
    LangChainWorkspace,
    asked_by,
    codes,
    interrupts,
    results,
)
from support.principals import OPERATOR, principal
from support.workspaces.langchain import ASKING, SHOP, says

NewWorkspace = Callable[..., LangChainWorkspace]
LEA = principal("lea")
APPROVE = {"decisions": [{"type": "approve"}]}


def decided(**decision: Any) -> Command[Any]:
    """The value with which LangChain's human-in-the-loop UI resumes a graph."""
    return Command(resume={"decisions": [decision]})


# -- approvals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [APPROVE, [{"type": "accept", "args": None}]],
    ids=["decisions of LangChain", "response of the Agent Inbox"],
)
def test_the_payload_of_the_human_in_the_loop_ui_lets_the_run_go_on_and_the_requesters_own_does_not(
    new_workspace: NewWorkspace, answer: Any
) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    (asked,) = interrupts(agent.invoke(ASKED, THREAD))
    assert asked.value["action_requests"][0]["name"] == "refund"
    assert asked.value["action_requests"][0]["args"] == LARGE[1]
    decisions = ["approve", "edit", "reject", "respond"]
    assert asked.value["review_configs"] == [{"action_name": "refund", "allowed_decisions": decisions}]
    assert asked.value["remit"]["request"] == f"{workspace.runs()[0]}/0.0"
    (again,) = interrupts(agent.invoke(Command(resume=answer), THREAD))  # by the requester
    assert "user:operator cannot answer this request" in again.value["remit"]["refused"]
    assert workspace.shop.RAN == []
    assert codes(agent.invoke(Command(resume=answer), asked_by(LEA))) == ["ok"]
    assert workspace.shop.RAN == [("refund", "2", 500)]
    assert [event.approver for event in workspace.events(ApprovalRefused)] == ["user:operator"]
    assert [event.approver for event in workspace.events(ApprovalGranted)] == ["user:lea"]
    assert [event.by.subject for event in workspace.events(RunStarted)] == ["user:operator"]
    workspace.reproduced()


def test_an_answer_that_langgraph_repeats_counts_once_and_for_the_person_who_gave_it(
    new_workspace: NewWorkspace,
) -> None:
    """LangGraph gives a task that it carries out again all earlier values: the requester's must not become the approver's."""
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    agent.invoke(Command(resume=APPROVE), THREAD)
    assert "__interrupt__" in agent.invoke(Command(resume="let me look"), asked_by(LEA))
    assert workspace.shop.RAN == []
    assert workspace.events(ApprovalGranted) == []


def test_a_rejection_stops_the_call_and_the_model_reads_the_words(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    (result,) = results(agent.invoke(decided(type="reject", message="too much for one day"), asked_by(LEA)))
    assert result["error"]["code"] == "approval_rejected"
    assert result["error"]["details"]["reason"] == "too much for one day"
    assert workspace.shop.RAN == []
    workspace.reproduced()


def test_a_response_is_the_result_and_the_tool_does_not_run(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    state = agent.invoke(decided(type="respond", message="already refunded by phone"), asked_by(LEA))
    assert results(state)[0]["value"] == "already refunded by phone"
    assert workspace.shop.RAN == []
    assert state["remit_receipt"][0]["outcome"] == "refused"  # nothing ran
    assert workspace.events(ApprovalRejected)[0].response == "already refunded by phone"
    workspace.reproduced()


def test_an_edited_call_is_decided_again_and_recorded_as_the_persons(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    edited = {"name": "refund", "args": {"order": "2", "amount": 30}}
    (result,) = results(agent.invoke(decided(type="edit", edited_action=edited), asked_by(LEA)))
    made = {"action": "desk.refund", "arguments": {"order": "2", "amount": 30}, "by": "user:lea"}
    assert (result["value"], result["made_instead"]) == ("refunded", made)
    assert workspace.shop.RAN == [("refund", "2", 30)]
    assert [event.by and event.by.subject for event in workspace.events(ModelResponded)][:2] == [None, "user:lea"]
    workspace.reproduced()


def test_an_edited_call_needs_the_approval_of_another_person_than_who_made_it(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    edited = {"name": "refund", "args": {"order": "7", "amount": 9000}}
    (asked,) = interrupts(agent.invoke(decided(type="edit", edited_action=edited), asked_by(LEA)))
    assert asked.value["action_requests"][0]["args"] == edited["args"]
    (again,) = interrupts(agent.invoke(Command(resume=APPROVE), asked_by(LEA)))
    assert "did not make the call" in again.value["remit"]["refused"]
    assert workspace.shop.RAN == []


def test_an_edit_waits_for_the_other_calls_of_its_turn(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE, ("refund", {"order": "3", "amount": 600})), checkpointer=InMemorySaver())
    asked = interrupts(agent.invoke(ASKED, THREAD))
    first, second = sorted(asked, key=lambda item: item.value["action_requests"][0]["args"]["order"])
    edited = {"name": "get_order", "args": {"order": "2"}}
    edit = {"decisions": [{"type": "edit", "edited_action": edited}]}
    assert "__interrupt__" in agent.invoke(Command(resume={first.id: edit}), asked_by(LEA))
    assert workspace.shop.RAN == []
    state = agent.invoke(Command(resume={second.id: APPROVE}), asked_by(LEA))
    assert codes(state) == ["ok", "ok"]
    assert workspace.shop.RAN == [("refund", "3", 600), ("get_order", "2")]
    workspace.reproduced()


@pytest.mark.parametrize(
    "answer",
    [
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": [{"type": "yes"}]},
        {"decisions": [{"type": "edit", "edited_action": {"name": "refund"}}]},
        [{"type": "edit", "args": "all of it"}],
        {"approve": True},
        True,
    ],
    ids=str,
)
def test_an_answer_that_is_no_decision_changes_nothing(new_workspace: NewWorkspace, answer: Any) -> None:
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    assert "__interrupt__" in agent.invoke(Command(resume=answer), asked_by(LEA))
    assert (workspace.shop.RAN, workspace.events(ApprovalGranted), workspace.events(ApprovalRejected)) == ([], [], [])


def test_another_process_takes_the_answer_of_the_approver(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace()
    saver, first = InMemorySaver(), workspace.remit()
    workspace.agent(says(LARGE), remit=first, checkpointer=saver).invoke(ASKED, THREAD)
    first.close()
    agent = workspace.agent(says(LARGE), checkpointer=saver)
    assert codes(agent.invoke(Command(resume=APPROVE), asked_by(LEA))) == ["ok"]
    assert len(workspace.runs()) == 1


def test_who_answers_a_request_does_not_take_over_the_run(new_workspace: NewWorkspace) -> None:
    """The run goes on as that of its user, and with words of the approver it does not."""
    workspace = new_workspace()
    agent = workspace.agent(says(LARGE), says(LOOK), says(MAIL), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    assert codes(agent.invoke(Command(resume=APPROVE), asked_by(LEA))) == ["ok", "ok", "ok"]
    with pytest.raises(UsageError, match="is of user:operator, not of user:lea"):
        workspace.agent(
            says(LARGE),
            says(LOOK),
            says(MAIL),
            says(text="done"),
            says(SMALL),
            checkpointer=agent.checkpointer,
            remit=workspace.made[0],
        ).invoke({"messages": [HumanMessage("and now for me")]}, asked_by(LEA))


def test_who_answers_a_request_takes_over_no_run_of_a_plain_graph(new_workspace: NewWorkspace) -> None:
    """There the calls of a thread are one run, and only a call of theirs says that another person has written."""
    workspace = new_workspace()
    turns = [says(LARGE), says(LOOK), says(text="done"), says(MAIL)]
    agent = workspace.graph(*turns, remit=workspace.remit(), checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    assert codes(agent.invoke(Command(resume=APPROVE), asked_by(LEA))) == ["ok", "ok"]
    with pytest.raises(UsageError, match="is of user:operator, not of user:lea"):
        agent.invoke({"messages": [HumanMessage("and now for me")]}, asked_by(LEA))
    assert workspace.shop.RAN == [("refund", "2", 500), ("get_order", "1")]


# -- tools that ask ----------------------------------------------------------------------------------------------------

ASK = ("refund", {"order": "ask", "amount": 5})


def test_a_tool_that_interrupts_asks_and_its_wait_is_outside_of_its_limits(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace(SHOP=ASKING)
    agent = workspace.agent(says(ASK), checkpointer=InMemorySaver())
    (asked,) = interrupts(agent.invoke(ASKED, THREAD))
    assert asked.value == {"sure": 5}
    time.sleep(2.1)  # the limit of the tool is 2 s
    (asked,) = interrupts(agent.invoke(Command(resume="which?"), THREAD))
    assert asked.value == "which order?"
    assert codes(agent.invoke(Command(resume="the lamp"), THREAD)) == ["ok"]
    assert [*[("asks", "ask")] * 3, ("answer", "the lamp"), ("refund", "ask", 5)] == workspace.shop.RAN
    assert [event.question for event in workspace.events(QuestionAsked)] == [{"sure": 5}, "which order?"]
    answers = [(event.answer, event.by.subject) for event in workspace.events(QuestionAnswered)]
    assert answers == [("which?", "user:operator"), ("the lamp", "user:operator")]
    assert (len(workspace.events(AttemptBegun)), len(workspace.events(AttemptEnded))) == (1, 1)
    assert "reproduced" in workspace.reproduced()[1]


@pytest.mark.parametrize(("who", "code"), [(OPERATOR, "ok"), (LEA, "policy_denied")], ids=["the user", "another"])
def test_the_answer_of_the_user_counts_like_words_of_the_task_and_that_of_another_person_does_not(
    new_workspace: NewWorkspace, who: Any, code: str
) -> None:
    rules = "\n# What the user names is refunded\np, agent:desk, desk.refund, order:*, named_by_user, allow\n"
    base = "p, role:people, desk.*, **, True, allow\ng, user:operator, role:people\ng, user:lea, role:people\n"
    first = "p, agent:desk, desk.refund, order:ask, True, allow\n"
    workspace = new_workspace(SHOP=ASKING, RULES=rules + base + first)
    agent = workspace.agent(
        says(ASK), says(("refund", {"order": "47120093", "amount": 5})), checkpointer=InMemorySaver()
    )
    agent.invoke(ASKED, THREAD)
    assert codes(agent.invoke(Command(resume="order 47120093"), asked_by(who))) == ["ok", code]
    workspace.reproduced()


@pytest.mark.parametrize("sync", [True, False], ids=["in threads", "in a loop"])
def test_a_process_that_dies_while_a_tool_waits_loses_nothing(new_workspace: NewWorkspace, sync: bool) -> None:
    """And after the answer, an irreversible call whose process dies is in doubt and is not repeated."""
    workspace = new_workspace(SHOP=ASKING)
    saver, first = InMemorySaver(), workspace.remit()
    agent = workspace.agent(says(ASK), remit=first, checkpointer=saver)
    asked: Any = agent.invoke(ASKED, THREAD) if sync else asyncio.run(agent.ainvoke(ASKED, THREAD))
    assert "__interrupt__" in asked
    first.close()
    agent = workspace.agent(says(ASK), checkpointer=saver)
    resume: Any = Command(resume="yes")
    state = agent.invoke(resume, THREAD) if sync else asyncio.run(agent.ainvoke(resume, THREAD))
    assert codes(state) == ["ok"]
    assert workspace.shop.RAN[-2:] == [("answer", "yes"), ("refund", "ask", 5)]
    workspace.reproduced()


def test_a_question_waits_like_an_approval_in_the_list_of_runs(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace(SHOP=ASKING)
    workspace.agent(says(ASK), checkpointer=InMemorySaver()).invoke(ASKED, THREAD)
    assert "waiting" in workspace.cli("trace", "list").out
    (run,) = workspace.runs()
    shown = workspace.cli("trace", "show", run)
    assert 'the tool asks: {"sure": 5}' in shown.out, shown.err
    assert "waits: 0.0 desk.refund asks a person" in shown.out
    assert run[:8] not in workspace.cli("approve", "list").out


def test_a_tool_that_asks_where_nobody_can_answer_says_so(new_workspace: NewWorkspace) -> None:
    workspace = new_workspace(SHOP=ASKING)
    (result,) = results(workspace.agent(says(ASK)).invoke(ASKED))  # without a checkpointer
    assert (result["error"]["code"], result["error"]["message"]) == (
        "cancelled",
        "the tool asks a person, and nobody can answer here",
    )
    assert ("refund", "ask", 5) not in workspace.shop.RAN


# -- control flow of LangGraph -----------------------------------------------------------------------------------------

COMMANDS = (
    SHOP.replace(
        """    RAN.append(("get_order", order))
""",
        """    RAN.append(("get_order", order))
    if order == "parent":
        raise ParentCommand(Command(graph=Command.PARENT, goto="reviewer", update={"notes": ["handed over"]}))
    if order == "handoff":
        done = ToolMessage("to the reviewer", tool_call_id=call_id)
        return Command(graph=Command.PARENT, goto="reviewer", update={"notes": ["handed over"], "messages": [done]})
    if order in ("note", "silent"):
        messages = [ToolMessage("noted " + order, tool_call_id=call_id)] if order == "note" else []
        return Command(update={"notes": ["seen"], "messages": messages})
""",
    )
    .replace(
        "def get_order(order: str) -> str:",
        "def get_order(order: str, call_id: Annotated[str, InjectedToolCallId]) -> str:",
    )
    .replace(
        "import asyncio, time",
        "import asyncio, time\nfrom typing import Annotated\nfrom langchain_core.messages import ToolMessage\n"
        "from langchain_core.tools import InjectedToolCallId\nfrom langgraph.errors import ParentCommand\n"
        "from langgraph.types import Command",
    )
)


class Notes(AgentState[Any]):
    notes: Annotated[list[str], operator.add]


@pytest.mark.parametrize("sync", [True, False], ids=["in threads", "in a loop"])
def test_a_command_of_a_tool_updates_the_state_and_its_message_is_the_result(
    new_workspace: NewWorkspace, sync: bool
) -> None:
    workspace = new_workspace(SHOP=COMMANDS)
    turn = says(("get_order", {"order": "note"}), ("get_order", {"order": "silent"}), SMALL)
    agent = workspace.agent(turn, state_schema=Notes)
    state: Any = agent.invoke(ASKED) if sync else asyncio.run(agent.ainvoke(ASKED))
    assert sorted(state["notes"]) == ["seen", "seen"]
    assert [result["value"] for result in results(state)] == ["noted note", "", "refunded"]
    workspace.reproduced()


def test_the_next_process_gets_a_command_from_the_record(new_workspace: NewWorkspace) -> None:
    workspace, saver = new_workspace(SHOP=COMMANDS), InMemorySaver()
    turn = says(("get_order", {"order": "note"}))
    workspace.agent(turn, state_schema=Notes, checkpointer=saver).invoke(ASKED, THREAD)
    workspace.made[0].close()
    again = workspace.agent(turn, state_schema=Notes, checkpointer=saver)
    before = next(state for state in again.get_state_history(THREAD) if state.next == ("tools",))
    state = again.invoke(None, before.config)
    assert (state["notes"], results(state)[0]["value"]) == (["seen"], "noted note")
    assert workspace.shop.RAN == [("get_order", "note")]


def test_the_record_of_a_command_constructs_nothing_but_messages_commands_and_plain_values() -> None:
    (item,) = kept(Command(update={"notes": [Own()]}))
    made = restored([item])
    assert made.update["notes"] != [Own()]
    assert not isinstance(made.update["notes"][0], Own)
    assert (kept("text"), kept(Command(update={"notes": ["x" * 300_000]})), restored(())) == ((), (), None)


class Own(BaseModel):
    """A class of the program."""


@pytest.mark.parametrize("order", ["handoff", "parent"], ids=["returned", "raised"])
def test_a_handoff_to_the_graph_around_is_no_error(new_workspace: NewWorkspace, order: str) -> None:
    workspace = new_workspace(SHOP=COMMANDS)
    agent = workspace.agent(says(("get_order", {"order": order})), state_schema=Notes)
    graph = StateGraph(Notes)
    graph.add_node("agent", agent)
    graph.add_node("reviewer", lambda state: {"notes": ["reviewed"]})
    graph.add_edge(START, "agent")
    state = graph.compile().invoke(ASKED)
    assert state["notes"] == ["handed over", "reviewed"]
    (ended,) = workspace.events(AttemptEnded)
    assert ended.code is None


# The oldest LangChain asks for all calls of a turn at once, and knows no other way.
MODES = ("batched", "per_call") if "interrupt_mode" in signature(HumanInTheLoopMiddleware).parameters else ("batched",)


def gate_of(mode: str, **decisions: Any) -> HumanInTheLoopMiddleware[Any]:
    """LangChain's own middleware for people, which asks in that way."""
    more: dict[str, Any] = {"interrupt_mode": mode} if len(MODES) > 1 else {}
    return HumanInTheLoopMiddleware(interrupt_on=decisions, **more)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("decision", "ran"),
    [
        ({"type": "approve"}, [("refund", "1", 20)]),
        (
            {"type": "edit", "edited_action": {"name": "refund", "args": {"order": "1", "amount": 10}}},
            [("refund", "1", 10)],
        ),
        ({"type": "reject", "message": "no"}, []),
        ({"type": "respond", "message": "done by phone"}, []),
    ],
    ids=["approve", "edit", "reject", "respond"],
)
def test_langchains_own_human_in_the_loop_works_beside_remit(
    new_workspace: NewWorkspace, mode: Any, decision: dict[str, Any], ran: list[Any]
) -> None:
    workspace = new_workspace()
    every: Any = {"allowed_decisions": ["approve", "edit", "reject", "respond"]}
    gate = gate_of(mode, refund=every)
    agent = workspace.agent(says(SMALL), before=[gate], checkpointer=InMemorySaver())
    (asked,) = interrupts(agent.invoke(ASKED, THREAD))
    assert workspace.shop.RAN == []
    answer: Any = {"decisions": [decision]} if mode == "batched" else decision
    state = agent.invoke(Command(resume={asked.id: answer}), THREAD)
    assert "__interrupt__" not in state
    assert ran == workspace.shop.RAN
    for remit in workspace.made:
        remit.close()


@pytest.mark.skipif(len(MODES) == 1, reason="this LangChain asks before the task of the call")
def test_remit_asks_after_langchains_own_gate_and_each_answer_reaches_its_own(new_workspace: NewWorkspace) -> None:
    """In one task: the answer to LangChain's question is none to Remit's."""
    workspace = new_workspace()
    gate = gate_of("per_call", refund=True)
    agent = workspace.agent(says(LARGE), before=[gate], checkpointer=InMemorySaver())
    agent.invoke(ASKED, THREAD)
    (asked,) = interrupts(agent.invoke(Command(resume={"type": "approve"}), THREAD))
    assert asked.value["remit"]["missing"] == [{"role": "role:lead", "count": 1}]
    assert workspace.shop.RAN == []
    assert codes(agent.invoke(Command(resume=APPROVE), asked_by(LEA))) == ["ok"]
    workspace.reproduced()
