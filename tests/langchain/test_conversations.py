"""A thread of LangGraph is a conversation of many runs: each has its own budget, and what was read, done and allowed stays."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import before_model
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command as Resume

from remit.broker import holds
from remit.broker.approvals import requests as approval
from remit.broker.approvals.bounded import scope_of
from remit.core.errors import UsageError
from remit.core.events import ApprovalRequested, CallAnswered, CallDecided, EffectSettled, RunFinished, RunStarted
from remit.journal import StoredRecord, ended_runs, list_runs
from remit.langchain.middleware import RemitMiddleware
from remit.runtime import prune
from remit.workspace.session import open_session
from support.principals import principal
from support.runs import Command
from support.workspaces.langchain import AGENT, RULES, SETTINGS, SHOP, TOOL, Scripted, langchain_workspace, says
from support.workspaces.ledger import environment

DAY_NS = 86_400 * 10**9
MESSAGES = int(os.environ.get("REMIT_THREAD_MESSAGES", "24"))  # `make threads`: 1,000
USERS = int(os.environ.get("REMIT_THREAD_USERS", "12"))  # `make threads`: 200
LOOK = ("get_order", {"order": "1"})
SMALL = ("refund", {"order": "1", "amount": 20})
SLOW = ("refund", {"order": "slow", "amount": 5})
LARGE = ("refund", {"order": "2", "amount": 500})
MAIL = ("mail", {"to": "ann@shop.example"})
NO_ANSWER = SHOP.replace("time.sleep(2.3)", "raise TimeoutError('no answer in time')")
PRIVATE = RULES.replace(
    "p, agent:desk, desk.mail, mail:*@shop.example, True, allow",
    "p, agent:desk, desk.mail, mail:*, not 'customer_text' in labels, allow",
)


class Answering(Scripted):
    """A model that makes the calls that the last message of the person names, and answers when it has the results."""

    calls: dict[str, tuple[Any, ...]]
    thinks: Any = None

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> Any:
        if self.thinks is not None:
            self.thinks()
        last = messages[-1]
        made = says(*self.calls.get(str(last.text), ())) if isinstance(last, HumanMessage) else AIMessage("done")
        return ChatResult(generations=[ChatGeneration(message=made)])


class Clock:
    """The clock of the journal and of the broker."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        self.now += 1000
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 10**9)


@dataclass
class Desk:
    """The LangChain workspace, and agents whose model answers by the words of the person."""

    root: Path
    shop: Any
    clock: Clock
    made: list[RemitMiddleware] = field(default_factory=list)
    saver: InMemorySaver = field(default_factory=InMemorySaver)

    def remit(self, **options: Any) -> RemitMiddleware:
        made = RemitMiddleware("desk", workspace=self.root, **options)
        made._runs._session.journal.clock = self.clock
        self.made.append(made)
        return made

    def agent(self, *, remit: RemitMiddleware | None = None, thinks: Any = None, after: Any = (), **calls: Any) -> Any:
        model = Answering(turns=[], calls=calls, thinks=thinks)
        return create_agent(
            model,
            self.shop.TOOLS,
            middleware=[*after, remit or self.remit()],
            checkpointer=self.saver,
            context_schema=dict,
        )

    @property
    def journal(self) -> Any:
        return open_session(self.root).journal

    def runs(self) -> list[str]:
        """The runs, the first one first."""
        return [row.run for row in list_runs(self.journal)][::-1]

    def events(self, kind: type) -> list[Any]:
        journal = self.journal
        return [item.event for run in self.runs() for item in journal.events(run) if isinstance(item.event, kind)]

    def grant(self, **changes: Any) -> None:
        """Approve every call that waits, as the lead."""
        session = open_session(self.root)
        for run in self.runs():
            record = StoredRecord(session.journal, run)
            for requested in approval.waiting_approvals(record):
                decided = record.get(f"call.decided/{requested.step}/{requested.index}/0")
                assert isinstance(decided, CallDecided)
                if "more" in changes:
                    assert decided.call is not None
                    until = self.clock.now + 3600 * 10**9
                    changes = {"scope": scope_of(decided.call, changes["more"]), "until": until}
                given = approval.Approval(by=principal("lea"), role="role:lead", **changes)
                approval.grant_approval(record, requested, given, roles_of=session.policy.roles_of, now=self.clock.now)


@pytest.fixture
def new_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Desk]]:
    written: list[Desk] = []

    def write(**replaced: str) -> Desk:
        folder, clock = tmp_path / "desk", Clock()
        monkeypatch.syspath_prepend(str(folder / "hosted"))
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        monkeypatch.setattr("remit.runtime.live.time", SimpleNamespace(time_ns=clock))
        langchain_workspace(folder, **replaced)
        written.append(Desk(root=folder, shop=importlib.import_module("shop"), clock=clock))
        return written[-1]

    yield write
    for desk in written:
        for remit in desk.made:
            remit.close()


def thread(name: str = "t1") -> Any:
    return {"configurable": {"thread_id": name}}


def writes(text: str) -> Any:
    return {"messages": [HumanMessage(text)]}


def codes(state: dict[str, Any]) -> list[str]:
    """The results since the person last wrote."""
    messages: list[Any] = state["messages"]
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    found = [json.loads(str(item.content)) for item in messages[last:] if isinstance(item, ToolMessage)]
    return ["ok" if result["ok"] else result["error"]["code"] for result in found]


@before_model
def keep_ten(state: Any, runtime: Any) -> dict[str, Any] | None:
    """What an application does to keep a long thread short."""
    messages = state["messages"]
    return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *messages[-10:]]} if len(messages) > 10 else None


def test_message_1000_of_a_thread_is_decided_as_message_1_and_knows_what_was_read_and_done(
    new_desk: Callable[..., Desk], command: Command
) -> None:
    """Over 30 simulated days, in two processes."""
    desk = new_desk(SHOP=NO_ANSWER, RULES=PRIVATE)
    every = {"first": (SMALL, LOOK), "slow": (SLOW,), "write": (SMALL, MAIL)}
    agent = desk.agent(after=[keep_ten], **every)
    assert codes(agent.invoke(writes("first"), thread())) == ["ok", "ok"]
    assert codes(agent.invoke(writes("slow"), thread())) == ["outcome_unknown"]
    for number in range(3, MESSAGES - 1):
        desk.clock.advance(30 * 86_400 / MESSAGES)
        if number == MESSAGES // 2:  # another process takes the thread over
            desk.made[-1].close()
            agent = desk.agent(after=[keep_ten], **every)
        assert codes(agent.invoke(writes("write"), thread())) == ["ok", "policy_denied"], number
    assert codes(agent.invoke(writes("slow"), thread())) == ["outcome_unknown"]
    assert desk.shop.RAN.count(("refund", "slow", 5)) == 1
    assert codes(agent.invoke(writes("first"), thread())) == ["ok", "ok"]
    first, *_, last = [event for event in desk.events(CallDecided) if event.step == 0 and event.index == 0]
    assert (first.decision.verdict, first.decision.rules) == (last.decision.verdict, last.decision.rules)
    started = desk.events(RunStarted)
    assert [event.conversation.number for event in started] == list(range(1, MESSAGES + 1))
    assert (started[0].conversation.labels, started[-1].conversation.labels) == ((), ("customer_text",))
    assert {event.outcome for event in desk.events(RunFinished)} == {"completed"}
    for remit in desk.made:
        remit.close()
    for words in ("trace verify", "replay"):
        result = command(desk.root, *words.split(), desk.runs()[-1], env=environment(desk.root))
        assert result.code == 0, result.out + result.err


def test_a_conversation_costs_the_same_for_each_message(new_desk: Callable[..., Desk]) -> None:
    """A run begins from what the run before left, whose size has a bound."""
    desk = new_desk(SHOP=NO_ANSWER)
    agent = desk.agent(after=[keep_ten], write=(SMALL,))
    for _ in range(12):
        agent.invoke(writes("write"), thread())
    sizes = [len(event.model_dump_json()) for event in desk.events(RunStarted)]
    assert sizes[-1] - sizes[1] < 500
    counts = [sum(1 for _ in desk.journal.events(run)) for run in desk.runs()]
    assert len(set(counts)) == 1


def test_what_the_person_named_in_an_earlier_message_is_named(new_desk: Callable[..., Desk]) -> None:
    rules = RULES.replace("args.amount <= 50 and", "named_by_user and")
    agent = new_desk(RULES=rules).agent(yes=(("refund", {"order": "ORD-17", "amount": 5}),))
    assert codes(agent.invoke(writes("yes"), thread("other"))) == ["policy_denied"]
    agent.invoke(writes("What about order ORD-17?"), thread())
    assert codes(agent.invoke(writes("yes"), thread())) == ["ok"]


def test_a_rule_counts_the_calls_of_the_run_or_of_the_conversation(new_desk: Callable[..., Desk]) -> None:
    orders = tuple(("refund", {"order": str(number), "amount": 5}) for number in range(3))
    agent = new_desk().agent(pay=orders)
    for _ in range(2):
        assert codes(agent.invoke(writes("pay"), thread())) == ["ok", "ok", "policy_denied"]
    rules = RULES.replace("calls('desk.refund') < 2", "calls('desk.refund in conversation') < 3")
    desk = new_desk(RULES=rules)
    agent = desk.agent(pay=orders[:2])
    assert codes(agent.invoke(writes("pay"), thread("t2"))) == ["ok", "ok"]
    assert codes(agent.invoke(writes("pay"), thread("t2"))) == ["ok", "policy_denied"]
    assert codes(agent.invoke(writes("pay"), thread("t3"))) == ["ok", "ok"]


def test_going_back_to_an_earlier_message_repeats_no_effect(new_desk: Callable[..., Desk]) -> None:
    """Also in another process, and after many messages. The model's new turn after an old message is a run of its own."""
    desk = new_desk()
    agent = desk.agent(first=(SMALL, MAIL), again=(LOOK,))
    agent.invoke(writes("first"), thread())
    before = next(item for item in agent.get_state_history(thread()) if "tools" in item.next)
    for _ in range(3):
        agent.invoke(writes("again"), thread())
    ran = list(desk.shop.RAN)
    desk.made[-1].close()
    again = desk.agent(first=(SMALL, MAIL))
    assert codes(again.invoke(None, before.config)) == ["ok", "ok"]
    assert (ran, len(desk.runs())) == (desk.shop.RAN, 4)
    asked = next(
        item
        for item in again.get_state_history(thread())
        if item.next == ("model",) and item.values["messages"][-1].text == "again"
    )
    desk.made[-1].close()
    other = desk.agent(again=(("get_order", {"order": "5"}),))
    other.invoke(None, asked.config)
    assert (desk.shop.RAN[len(ran) :], len(desk.runs())) == ([("get_order", "5")], 5)


def test_a_settled_effect_of_an_earlier_run_is_settled_for_the_conversation(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk(SHOP=NO_ANSWER)
    agent = desk.agent(slow=(SLOW,), other=())
    agent.invoke(writes("slow"), thread())
    agent.invoke(writes("other"), thread())
    record = StoredRecord(desk.journal, desk.runs()[0])
    settled = EffectSettled(step=0, index=0, number=1, landed="not_landed", by=principal("lea"), reason="not booked")
    record.append(settled, durable=True)
    assert StoredRecord(desk.journal, desk.runs()[1]).state.in_doubt == ()
    agent.invoke(writes("slow"), thread())
    assert desk.shop.RAN.count(("refund", "slow", 5)) == 2


def test_a_run_that_waited_three_days_resumes_with_the_time_that_it_had(new_desk: Callable[..., Desk]) -> None:
    """Its limit is 100 seconds, and each turn of the model takes 40."""
    rules = RULES.replace(
        "# A lead must agree to a large amount",
        "# A lead must agree to a large amount\n# asks: role:lead, expires after 7d",
    )
    desk = new_desk(RULES=rules, AGENT=AGENT + '\n[budget]\nwall = "100s"\n')
    turns = [says(LARGE), says(LOOK), says(LOOK)]
    remit = desk.remit()

    class Slow(Scripted):
        def _generate(self, *given: Any, **more: Any) -> Any:
            desk.clock.advance(40)
            return super()._generate(*given, **more)

    def agent() -> Any:
        return create_agent(Slow(turns=turns), desk.shop.TOOLS, middleware=[remit], checkpointer=desk.saver)

    assert "__interrupt__" in agent().invoke(writes("go"), thread())
    remit.close()
    desk.clock.advance(2 * 86_400)
    desk.grant()
    desk.clock.advance(86_400)
    remit = desk.remit()
    assert codes(agent().invoke(Resume(resume=True), thread())) == ["ok", "ok", "budget_exhausted"]
    assert [event.conversation.number for event in desk.events(RunStarted)] == [1]


def test_a_new_message_ends_the_run_that_still_waits_for_an_approval(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    agent = desk.agent(large=(LARGE,), look=(LOOK,))
    assert "__interrupt__" in agent.invoke(writes("large"), thread())
    assert codes(agent.invoke(writes("look"), thread())) == ["ok"]
    assert approval.waiting_approvals(StoredRecord(desk.journal, desk.runs()[0])) == []
    assert [event.result.ok or event.result.error.code for event in desk.events(CallAnswered)] == ["cancelled", True]
    assert desk.shop.RAN == [("get_order", "1")]


@pytest.mark.parametrize("when", ["before the message", "while its run is open"])
def test_an_approval_of_further_calls_covers_the_conversation_until_it_is_revoked(
    new_desk: Callable[..., Desk], when: str
) -> None:
    desk = new_desk()
    revoking: list[str] = []

    def revoke() -> None:
        while revoking:
            record = StoredRecord(desk.journal, revoking.pop())
            requested = next(event for event in record.every() if isinstance(event, ApprovalRequested))
            approval.revoke_approval(record, requested, by=principal("lea"), reason="enough")

    agent = desk.agent(large=(LARGE,), thinks=revoke)
    agent.invoke(writes("large"), thread())
    desk.grant(more=3)
    agent.invoke(Resume(resume=True), thread())
    assert codes(agent.invoke(writes("large"), thread())) == ["ok"]
    assert "__interrupt__" in agent.invoke(writes("large"), thread("another"))
    revoking.append(desk.runs()[0])
    if when == "before the message":
        revoke()
    assert "__interrupt__" in agent.invoke(writes("large"), thread())
    assert desk.shop.RAN == [("refund", "2", 500)] * 2


def test_a_hold_on_one_run_of_a_conversation_stops_the_next_one_too(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    agent = desk.agent(small=(SMALL,))
    agent.invoke(writes("small"), thread())
    holds.set_hold(desk.journal, f"run:{desk.runs()[0]}", why="INC-9", by=principal("ops"))
    assert codes(agent.invoke(writes("small"), thread())) == ["held"]
    assert codes(agent.invoke(writes("small"), thread("another"))) == ["ok"]


def test_a_thread_whose_content_is_not_recorded_goes_on_in_its_own_process_only(new_desk: Callable[..., Desk]) -> None:
    """Nobody else knows what it has read."""
    desk = new_desk(RULES=PRIVATE)
    settings = desk.root / "remit.toml"
    settings.write_text(f"{settings.read_text()}\n[traces]\ncontent = false\n")
    agent = desk.agent(look=(LOOK,), mail=(MAIL,))
    agent.invoke(writes("look"), thread())
    assert codes(agent.invoke(writes("mail"), thread())) == ["policy_denied"]
    desk.made[-1].close()
    with pytest.raises(UsageError, match="so what this thread has read is not known: begin a new thread"):
        desk.agent(mail=(MAIL,)).invoke(writes("mail"), thread())


def test_a_thread_with_results_that_no_run_recorded_has_read_untrusted_text(new_desk: Callable[..., Desk]) -> None:
    """An agent that had threads before it came under Remit."""
    desk = new_desk()
    before = create_agent(Answering(turns=[], calls={"look": (LOOK,)}), desk.shop.TOOLS, checkpointer=desk.saver)
    before.invoke(writes("look"), thread())
    agent = desk.agent(small=(SMALL,))
    agent.invoke(writes("small"), thread())
    agent.invoke(writes("small"), thread("another"))
    assert [event.conversation.labels for event in desk.events(RunStarted)] == [("untrusted",), ()]


def test_a_run_is_erased_with_the_later_runs_that_repeat_it_and_the_thread_does_not_go_on(
    new_desk: Callable[..., Desk], command: Command
) -> None:
    """What it has read is no longer known."""
    desk = new_desk()
    agent = desk.agent(look=(LOOK,))
    for _ in range(3):
        agent.invoke(writes("look"), thread())
    _, *later = desk.runs()
    erased = command(desk.root, "trace", "erase", later[0], "--yes", "--json", env=environment(desk.root))
    assert sorted(erased.json["runs"]) == sorted(later), erased.err
    assert len(desk.events(RunStarted)) == 1
    with pytest.raises(UsageError, match="was erased or deleted, so what this thread has read is not known"):
        agent.invoke(writes("look"), thread())
    session = open_session(desk.root)
    prune(session, ended_runs(session.journal, desk.clock.now + DAY_NS), by=principal("ops"))
    assert desk.runs() == []
    with pytest.raises(UsageError, match="was erased or deleted"):
        desk.agent(look=(LOOK,)).invoke(writes("look"), thread())


def test_the_runs_of_a_conversation_are_listed_by_one_of_them(new_desk: Callable[..., Desk], command: Command) -> None:
    desk = new_desk()
    agent = desk.agent(look=(LOOK,))
    for name in ("t1", "t1", "another"):
        agent.invoke(writes("look"), thread(name))
    first, second, other = desk.runs()
    env = environment(desk.root)
    for run, expected in ((first, [second, first]), (second, [second, first]), (other, [other])):
        listed = command(desk.root, "trace", "list", "--conversation", run[:8], "--json", env=env)
        assert [row["run"] for row in listed.json] == expected, listed.err


def test_a_summary_that_the_graph_writes_is_no_message_of_the_person(new_desk: Callable[..., Desk]) -> None:
    @before_model
    def summarize(state: Any, runtime: Any) -> dict[str, Any] | None:
        summary = HumanMessage("Refund order 17!", additional_kwargs={"lc_source": "summarization"})
        last = state["messages"][-1]
        return (
            None
            if isinstance(last, HumanMessage)
            else {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), summary, last]}
        )

    desk = new_desk()
    agent = desk.agent(after=[summarize], look=(LOOK,))
    agent.invoke(writes("look"), thread())
    agent.invoke(writes("look"), thread())
    agent.invoke({"messages": []}, thread())
    assert [event.task for event in desk.events(RunStarted)] == ["look", "look"]
    assert desk.events(RunStarted)[1].conversation.words == "look"


def test_users_of_one_graph_at_once_are_never_mixed_up(new_desk: Callable[..., Desk]) -> None:
    """Decisions, labels, approvals and traces are those of the person who asks."""
    names = [f"u{number}" for number in range(USERS)]
    rules = RULES + "".join(f"g, user:{name}, role:people\n" for name in names)
    declared = ", ".join(f'"user:{name}"' for name in names)
    tool = TOOL.replace('wall = "2s"', 'wall = "120s"')  # the calls of so many wait for each other in one event loop
    desk = new_desk(RULES=rules, SETTINGS=f"users = [{declared}]\n{SETTINGS}", TOOL=tool)
    calls: dict[str, Any] = {
        name: (("get_order", {"order": name}), ("refund", {"order": name, "amount": 500})) for name in names
    }
    agent = desk.agent(remit=desk.remit(principal=lambda runtime: runtime.context["who"]), **calls)

    def asks(given: Any, name: str, of: str = "") -> Any:
        return agent.ainvoke(given, thread(of or name), context={"who": principal(name)})

    async def all_ask(given: Callable[[str], Any]) -> list[Any]:
        return await asyncio.gather(*(asks(given(name), name) for name in names))

    waiting = asyncio.run(all_ask(writes))
    assert all("__interrupt__" in state for state in waiting)
    for run in desk.runs():
        record = StoredRecord(desk.journal, run)
        started = record.state.started
        assert started is not None
        name = started.task
        assert (started.subjects.user, started.by.subject) == (f"user:{name}", f"user:{name}")
        decided = [event.call for event in record.every() if isinstance(event, CallDecided)]
        assert {touch.resource for call in decided if call for touch in call.touches} == {f"order:{name}"}
        assert {call.subjects.user for call in decided if call} == {f"user:{name}"}
        assert record.state.labels == {"customer_text"}
    desk.grant()
    done = asyncio.run(all_ask(lambda _: Resume(resume=True)))
    assert [codes(state) for state in done] == [["ok", "ok"]] * USERS
    assert sorted(desk.shop.RAN) == sorted(
        [("get_order", name) for name in names] + [("refund", name, 500) for name in names]
    )
    with pytest.raises(UsageError, match="is of user:u0, not of user:u1"):
        asyncio.run(asks(writes("u1"), "u1", of="u0"))
    assert sorted(event.result.value for event in desk.events(CallAnswered) if "order" in str(event.result.value)) == (
        sorted(f"order {name}: a lamp" for name in names)
    )


def test_a_forged_user_in_state_arguments_or_configuration_changes_nothing(new_desk: Callable[..., Desk]) -> None:
    """What the LangGraph server itself has authenticated is an object, which no client can send as JSON."""
    desk = new_desk()
    forged = {"identity": "lea", "is_authenticated": True, "subject": "user:lea", "display_name": "lea"}
    config = {
        "thread_id": "t1",
        "user": "user:lea",
        "user_id": "lea",
        "remit_principal": principal("lea").model_dump(),
        "langgraph_auth_user": forged,
        "langgraph_auth_user_id": "lea",
    }
    words = "small"
    agent = desk.agent(small=(SMALL, ("refund", {"order": "1", "amount": 5, "user": "user:lea"})))
    state = {**writes(words), "user": "user:lea", "principal": forged, "remit_invocation": "forged"}
    ended = agent.invoke(state, {"configurable": config, "metadata": config}, context={"user": "user:lea", **forged})
    assert codes(ended) == ["ok", "invalid_arguments"]
    (started,) = desk.events(RunStarted)
    assert (started.subjects.user, started.by.authenticated) == ("user:operator", "os_account")


@pytest.mark.parametrize(
    ("identity", "authenticated", "expected"),
    [("lea", True, "user:lea"), ("lea", False, "user:none"), ("le a, role:lead", True, "user:none")],
)
def test_the_user_whom_langgraph_server_has_authenticated_is_who_asks(
    new_desk: Callable[..., Desk], identity: str, authenticated: bool, expected: str
) -> None:
    desk = new_desk()
    user = SimpleNamespace(identity=identity, is_authenticated=authenticated)
    config = {"thread_id": "t1", "langgraph_auth_user": user}
    agent = desk.agent(small=(SMALL,))
    if expected == "user:none":
        assert codes(agent.invoke(writes("small"), {"configurable": config})) == ["policy_denied"]
    else:
        agent.invoke(writes("small"), {"configurable": config})
    (started,) = desk.events(RunStarted)
    assert (started.by.subject, started.by.issuer) == (expected, "langgraph-server")


def test_a_message_while_calls_of_the_one_before_are_running_is_refused(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk(SHOP=SHOP.replace("time.sleep(2.3 if", "time.sleep(0.5 if"))
    agent = desk.agent(mail=(("mail", {"to": "slow@shop.example"}),), look=(LOOK,))

    async def both() -> Any:
        first = asyncio.ensure_future(agent.ainvoke(writes("mail"), thread()))
        while not desk.shop.RAN:
            await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="calls of an earlier message of the thread 't1' are still running"):
            await agent.ainvoke(writes("look"), thread())
        return await first

    desk.shop.TOOLS[1].coroutine = None
    asyncio.run(both())
    assert ("get_order", "1") not in desk.shop.RAN
