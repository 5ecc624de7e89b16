"""An author's own graph under `graph =`: run, approved, killed, resumed, replayed, evaluated and rolled out like the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker import set_hold
from remit.client import replay_trace, reviewed_graphs
from remit.core import Refusal, UsageError
from remit.core.events import CODE, CallAnswered, CallDecided, ModelRequested, ModelResponded, Recorded, RunStarted
from remit.journal import list_runs
from remit.tracing import read_trace
from remit.workspace.session import open_session
from support.lifecycle import grant, killed, resumed, resumed_after_kill
from support.principals import OPERATOR
from support.rollouts import RULE, candidate_of, opened_at, ran
from support.runs import Command, Played, turn
from support.scenarios import evaluate
from support.workspaces.ledger import effects
from support.workspaces.supervisor import ANSWER, SHOP, TURNS, paying, pin_graph, with_graph

Clerk = Callable[..., Path]
LARGE = 5000  # needs the approval of a lead
PAID = {"action": "pay", "name": "ann", "amount": 5}


@pytest.fixture
def shop(clerk: Clerk) -> Callable[..., Path]:
    def write(turns: list[dict[str, Any]] = TURNS, source: str = SHOP, **options: Any) -> Path:
        return with_graph(clerk(turns), source, **options)

    return write


def replayed(played: Played) -> Any:
    """The run, replayed in its own workspace from its trace file."""
    graphs = reviewed_graphs(played.opened, played.ended.run)
    return asyncio.run(replay_trace(read_trace(played.ended.trace), graphs=graphs))


def events(played: Played, kind: type[Any]) -> list[Any]:
    return [item.event for item in played.records if isinstance(item.event, kind)]


def test_a_supervisor_with_two_sub_agents_is_decided_recorded_and_reproduced_like_the_loop(
    shop: Callable[..., Path],
) -> None:
    played = ran(open_session(shop()))
    assert (played.ended.outcome, played.ended.answer) == ("completed", ANSWER)
    assert played.effects == [PAID]
    assert [decided.call.action for decided in events(played, CallDecided)] == ["ledger.look", "ledger.pay"]
    assert [len(response.own_calls) for response in events(played, ModelResponded)] == [1, 0, 0, 1, 0, 0, 0]
    assert [item.action for item in played.ended.receipt] == ["ledger.look", "ledger.pay"]
    found = replayed(played)
    assert found.reproduced, found.divergences
    assert (found.decisions, found.turns, found.results) == (2, 7, 2)
    assert played.effects == [PAID]


def test_a_run_shows_which_functions_of_the_graph_its_model_called(
    shop: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    folder = shop()
    shown = 'own       ask_accounts  {"question":"is ann a customer?"}'
    assert shown in command(folder, "run", "clerk", "pay ann").out.replace('": "', '":"')
    (row,) = list_runs(open_session(folder).journal)
    assert shown in command(folder, "trace", "show", row.run, "--all").out.replace('": "', '":"')
    assert command(folder, "trace", "show", row.run, "--html", str(tmp_path / "page.html")).code == 0
    assert "own ask_accounts" in (tmp_path / "page.html").read_text()


def test_a_call_that_needs_an_approval_pauses_the_graph_and_goes_on_after_it(shop: Callable[..., Path]) -> None:
    played = ran(open_session(shop(paying(LARGE))))
    assert played.ended.outcome is None
    assert [requested.step for requested in played.ended.waiting] == [4]
    assert played.effects == []
    grant(played, "user:lea")
    again = resumed(played)
    assert (again.ended.outcome, again.ended.answer) == ("completed", ANSWER)
    assert again.effects == [{**PAID, "amount": LARGE}]
    assert replayed(again).reproduced


@pytest.mark.parametrize(
    "at",
    ["model.requested/3/-/-", "model.responded/4/-/-", "attempt.begun", "attempt.ended/4/0/1", "model.responded/6/-/-"],
)
def test_a_graph_whose_process_is_killed_goes_on_and_pays_once(shop: Callable[..., Path], at: str) -> None:
    folder = shop()
    killed(folder, at)
    played = resumed_after_kill(folder)
    assert (played.ended.outcome, played.ended.answer) == ("completed", ANSWER)
    assert played.effects == [PAID]
    assert len(events(played, ModelRequested)) == len(TURNS)  # nothing was asked a second time
    assert replayed(played).reproduced


def test_a_waiting_graph_goes_on_with_the_code_that_it_had(shop: Callable[..., Path]) -> None:
    folder = shop(paying(LARGE))
    played = ran(open_session(folder))
    (folder / "shop.py").write_text("raise RuntimeError('another version')\n")
    pin_graph(folder)
    grant(played, "user:lea")
    ended = resumed(Played(folder=folder, opened=open_session(folder), ended=played.ended))
    assert ended.ended.answer == ANSWER
    assert replayed(ended).reproduced


def test_a_graph_that_nobody_has_reviewed_neither_runs_nor_is_replayed(shop: Callable[..., Path]) -> None:
    folder = shop()
    played = ran(open_session(folder))
    trace = read_trace(played.ended.trace)
    with pytest.raises(UsageError, match=r"executes its graph, shop\.py, and this version of it is not reviewed here"):
        asyncio.run(replay_trace(trace))
    (folder / "shop.py").write_text(SHOP + "\n# one more line\n")
    with pytest.raises(UsageError, match=r"review shop\.py, then run `remit tool pin agent:clerk`"):
        ran(open_session(folder))
    assert played.effects == [PAID]


def test_a_revoked_graph_neither_starts_nor_goes_on_and_makes_no_further_call(
    shop: Callable[..., Path], command: Command
) -> None:
    folder = shop(paying(LARGE))
    played = ran(open_session(folder))
    grant(played, "user:lea")
    found = command(folder, "tool", "revoke", "agent:clerk", "--reason", "it pays twice")
    assert (found.code, "no run starts or goes on with it" in found.out) == (0, True), found
    for go_on in (lambda: ran(open_session(folder)), lambda: resumed(played)):
        with pytest.raises(Refusal, match=r"the code of agent:clerk was revoked by .*: it pays twice"):
            go_on()
    again = command(folder, "tool", "pin", "agent:clerk")
    assert (again.code, "was revoked" in again.err) == (1, True), again
    (folder / "shop.py").write_text(SHOP + "\n# corrected\n")
    assert command(folder, "tool", "pin", "agent:clerk").out == "agent:clerk: changed\n"
    assert ran(open_session(folder)).ended.waiting
    assert played.effects == []


def test_a_graph_that_is_revoked_while_it_runs_makes_no_further_call(shop: Callable[..., Path]) -> None:
    folder = shop()
    opened = open_session(folder)
    graph = opened.workspace.agents["clerk"].graph
    assert graph is not None

    def meanwhile(recorded: Recorded) -> None:
        if isinstance(recorded.event, RunStarted):
            set_hold(open_session(folder).journal, f"{CODE}{graph.code}", why="it pays twice", by=OPERATOR)

    played = ran(opened, on_event=meanwhile)
    results = [event.result for event in events(played, CallAnswered)]
    assert [not result.ok and result.error.details["reason"] for result in results] == ["revoked", "revoked"]
    assert played.effects == []
    assert replayed(played).reproduced


def test_one_call_and_its_decision_need_no_graph_but_the_rules_of_the_agent(
    shop: Callable[..., Path], command: Command
) -> None:
    folder = shop()
    found = command(folder, "call", "ledger.look", '{"name": "ann"}', "--agent", "clerk", "--json")
    assert (found.code, found.json["value"]) == (0, {"name": "ann", "text": ""}), found


def test_an_evaluation_plays_the_graph_and_a_worse_prompt_of_a_sub_agent_is_a_changed_definition(
    shop: Callable[..., Path],
) -> None:
    folder = shop()
    answers = [
        {"action": "ledger.look", "arguments": {"name": "ann"}, "value": {"name": "ann", "text": ""}},
        {"action": "ledger.pay", "arguments": {"name": "ann"}, "value": "paid"},
    ]
    scenario = {"world": {"answers": answers}, "expect": {"effects": [{"action": "ledger.pay"}]}}
    assert evaluate(folder, scenario).grade.outcome == "passed"
    assert effects(folder) == []


def test_a_rollout_gives_its_users_the_graph_of_the_candidate(shop: Callable[..., Path]) -> None:
    folder = shop()
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + RULE)
    candidate = candidate_of(folder)
    (candidate / "shop.py").write_text(SHOP.replace("(asked", "(the candidate asked"))
    pin_graph(candidate)
    session = open_session(folder)
    opened_at(session, candidate, "full")
    played = ran(session)
    assert played.ended.answer == ANSWER.replace("(asked", "(the candidate asked")
    assert replayed(played).reproduced


HEAD = """
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

def one(node):
    graph = StateGraph(MessagesState)
    graph.add_node("one", node)
    graph.add_edge(START, "one")
    graph.add_edge("one", END)
    return graph.compile()
"""


def own(shop: Callable[..., Path], body: str, *turns: dict[str, Any]) -> Played:
    """A run of a graph with this function `build`."""
    return ran(open_session(shop(list(turns), HEAD + body, calls=())))


def test_a_call_that_the_graph_makes_or_changes_is_decided_like_one_of_the_model(shop: Callable[..., Path]) -> None:
    """The model asks for 5, and the graph makes 50 of it; then it calls by itself, on an account that nobody may touch."""
    body = """
def build(parts):
    pay, look = parts.only("ledger.pay", "ledger.look")
    async def node(state):
        turn = await parts.model.bind_tools([pay]).ainvoke(state["messages"])
        (call,) = turn.tool_calls
        paid = await pay.ainvoke({**call, "args": {**call["args"], "amount": 50}})
        seen = look.invoke({"name": "vault"})
        return {"messages": [AIMessage(f"{paid.status}: {seen}")]}
    return one(node)
"""
    played = own(shop, body, turn(ledger__pay={"name": "ann", "amount": 5}))
    assert played.effects == [{**PAID, "amount": 50}]
    decided = [(item.call.arguments, item.decision.verdict) for item in events(played, CallDecided) if item.call]
    assert [arguments.get("amount") for arguments, _ in decided if "amount" in arguments] == [50, 5]
    assert ({"name": "vault", "text": ""}, "deny") in [
        ({"text": "", **arguments}, verdict) for arguments, verdict in decided
    ]
    assert "policy_denied" in played.ended.answer
    assert replayed(played).reproduced


def test_parallel_branches_of_a_graph_are_reproduced_in_whatever_order_they_ask(shop: Callable[..., Path]) -> None:
    body = """
def build(parts):
    look = parts.only("ledger.look")[0]
    async def branch(state):
        turn = await parts.model.bind_tools([look]).ainvoke([HumanMessage(state["name"])])
        return {"messages": [turn, *[await look.ainvoke(call) for call in turn.tool_calls]]}
    graph = StateGraph(MessagesState)
    graph.add_node("branch", branch)
    graph.add_node("end", lambda state: {"messages": [AIMessage("all seen")]})
    graph.add_conditional_edges(START, lambda _: [Send("branch", {"name": n}) for n in ("a", "b", "c")], ["branch"])
    graph.add_edge("branch", "end")
    graph.add_edge("end", END)
    return graph.compile()
"""
    played = own(shop, body, *[turn(ledger__look={"name": name}) for name in "abc"])
    assert played.ended.answer == "all seen"
    assert sorted(item.call.arguments["name"] for item in events(played, CallDecided)) == ["a", "b", "c"]
    for _ in range(3):
        assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def build(parts):\n    return one(lambda state: 1 / 0)\n",
            "the graph failed at shop.py:13: ZeroDivisionError: division by zero",
        ),
        (
            "def build(parts):\n    return one(lambda state: interrupt('may I?'))\n",
            "the graph interrupted itself, and no one can answer it: use a rule that asks for an approval",
        ),
        ("def build(parts):\n    return None\n", "shop:build returned no compiled graph: return graph.compile(…)"),
        ("def built(parts):\n    return None\n", "shop.py has no function 'build', which `graph` in agent.toml names"),
        (
            "def build(parts):\n    return one(lambda state: {'messages': []})\n",
            "the graph ended without an answer: the last of the `messages` in its state has no text",
        ),
        (
            "def ask(name: str) -> str:\n    'Ask.'\n\ndef build(parts):\n    parts.model.bind_tools([ask])\n",
            "the graph offers its own function 'ask' to its model: add \"ask\" to `graph_calls` in agent.toml, or offer it an "
            "action of the agent",
        ),
        (
            "def build(parts):\n    parts.only('files')\n",
            "the agent has no action 'files': add it to `tools` in agent.toml; it has ledger.look, ledger.pay, ledger.wire, "
            "ledger.wired, ledger.book",
        ),
    ],
    ids=[
        "exception",
        "interrupt",
        "no graph",
        "no function",
        "no answer",
        "function that is not named",
        "no such action",
    ],
)
def test_a_graph_that_cannot_give_an_answer_fails_with_what_to_do(
    shop: Callable[..., Path], body: str, message: str
) -> None:
    played = own(shop, body.replace("{'messages': []}", "{'messages': [AIMessage('')]}"))
    finished = played.ended.finished
    assert finished is not None
    assert (finished.outcome, finished.message) == ("failed", message)


def test_a_graph_that_never_ends_is_ended_by_the_time_limit_of_the_run(shop: Callable[..., Path]) -> None:
    body = "import time\ndef build(parts):\n    return one(lambda state: time.sleep(60))\n"
    folder = shop([], HEAD + body, calls=())
    file = folder / "agent/clerk/agent.toml"
    file.write_text(file.read_text().replace("[budget]", '[budget]\nwall = "1s"'))
    finished = ran(open_session(folder)).ended.finished
    assert finished is not None
    assert (finished.outcome, finished.code) == ("exhausted", "budget_exhausted")
