"""An agent that observes: every call is decided and recorded, and the graph's own tools answer as they would without Remit."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from remit.analysis.diff.manifests import manifest_changes
from remit.broker import holds
from remit.core.errors import UsageError
from remit.core.events import AttemptEnded, CallAnswered, CallDecided, QuestionAnswered, Recorded, RunStarted
from remit.journal import list_runs
from remit.langchain.middleware import RemitMiddleware
from remit.workspace.loader import load_workspace
from remit.workspace.session import open_session
from remit.workspace.template import starter_folder
from support.observing import Talk, observe_and_enforce
from support.principals import OPERATOR, principal
from support.runs import Command as Cli
from support.runs import CommandResult
from support.workspaces.langchain import AGENT, ASKING, RULES, SHOP, TOOL, Scripted, langchain_workspace, says
from support.workspaces.ledger import environment, pin

ASKED = {"messages": [HumanMessage("Refund order 1")]}
THREAD: Any = {"configurable": {"thread_id": "t1"}}
OBSERVING = AGENT + 'mode = "observe"\nobserve_until = "2099-12-31"\n'
LOOK = ("get_order", {"order": "1"})
SMALL = ("refund", {"order": "1", "amount": 20})
LARGE = ("refund", {"order": "2", "amount": 500})  # a lead would be asked
STAFF = ("refund", {"order": "staff", "amount": 5})  # a rule denies it
OUTSIDE = ("mail", {"to": "eve@evil.example"})  # no rule allows it
MORE = '''
from langgraph.types import Command
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId
from typing import Annotated

@tool(response_format="content_and_artifact")
def picture(order: str):
    """Show an order."""
    return [{"type": "text", "text": f"order {order}"}], {"bytes": order}

@tool
def note(text: str, id: Annotated[str, InjectedToolCallId]) -> Command:
    """Write a note."""
    RAN.append(("note", text))
    return Command(update={"messages": [ToolMessage(f"noted {text}", tool_call_id=id, name="note")]})

OTHERS = [picture, note]  # Remit knows nothing of these
'''
BOXES = """
from langchain_core.tools import StructuredTool, ToolException

KEPT: dict = {}

def _tool(name):
    def put(item: str) -> str:
        if item == "x":
            raise ToolException("which item?")
        KEPT.setdefault(name, []).append(item)
        return f"{name} has {len(KEPT[name])}"

    return StructuredTool.from_function(put, name=name, description="Put an item away.", handle_tool_error=True)

TOOLS = [_tool(f"put_{number}") for number in range(40)]
"""


@dataclass
class Shop:
    """The LangChain workspace with a module of tools that note what they did."""

    root: Path
    module: Any
    command: Cli

    def plain(self, *turns: AIMessage, tools: Any = None, **more: Any) -> Any:
        return create_agent(Scripted(turns=list(turns)), tools or self.module.TOOLS, **more)

    def played(self, *turns: AIMessage, remit: RemitMiddleware | None, tools: Any = None) -> tuple[Any, list[Any]]:
        """The conversation, or the error that ended it, and what the tools did."""
        self.module.RAN.clear()
        agent = self.plain(*turns, tools=tools, middleware=[] if remit is None else [remit])
        try:
            messages = [
                (message.type, message.content, getattr(message, "status", ""), getattr(message, "artifact", None))
                for message in agent.invoke(ASKED, {"recursion_limit": 1000})["messages"]
            ]
        except Exception as failure:  # noqa: BLE001 - a plain agent that fails must fail the same way
            return repr(failure), list(self.module.RAN)
        return messages, list(self.module.RAN)

    def events(self, kind: type) -> list[Any]:
        return [item.event for item in self.recorded() if isinstance(item.event, kind)]

    def recorded(self) -> list[Recorded]:
        journal = open_session(self.root).journal
        return [item for row in reversed(list(list_runs(journal))) for item in journal.events(row.run)]

    def cli(self, *args: str) -> CommandResult:
        return self.command(self.root, *args, env=environment(self.root))


@pytest.fixture
def new_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Cli) -> Callable[..., Shop]:
    """Write a workspace whose agent observes, with other texts for some of its files."""

    def write(**replaced: str) -> Shop:
        folder = tmp_path / "desk"
        monkeypatch.syspath_prepend(str(folder / "hosted"))
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        langchain_workspace(folder, **{"AGENT": OBSERVING, "SHOP": SHOP + MORE, **replaced})
        return Shop(root=folder, module=importlib.import_module("shop"), command=command)

    return write


CONVERSATIONS = {
    "allowed": [says(LOOK, SMALL)],
    "refused, asked and denied": [says(OUTSIDE, LARGE), says(STAFF)],
    "refused again and again": [says(OUTSIDE, text=str(number)) for number in range(14)],
    "an irreversible call twice in a turn, and again": [says(SMALL, SMALL), says(SMALL), says(SMALL)],
    "more turns than the budget": [says(LOOK, text=str(number)) for number in range(33)],
    "arguments that the schema refuses": [says(("refund", {"order": "1"})), says(("get_order", {"id": 1}))],
    "a tool that nobody has": [says(("fly", {"to": "the moon"}))],
    "a turn that was cut": [says(SMALL, response_metadata={"finish_reason": "length"})],
    "a tool that fails": [says(("refund", {"order": "broken", "amount": 1})), says(SMALL)],
    "a tool that raises": [says(("get_order", {"order": "gone"}))],
    "a tool that Remit does not know": [says(("picture", {"order": "1"}), ("note", {"text": "hello"}))],
    "a tool that takes longer than its limit": [says(("mail", {"to": "slow@shop.example"}))],
    "arguments that cannot be read": [
        AIMessage(
            "",
            invalid_tool_calls=[
                {"name": "refund", "args": "{", "id": "a", "error": "no JSON", "type": "invalid_tool_call"}
            ],
        )
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_that_is_observed_is_the_one_without_remit(new_shop: Callable[..., Shop], name: str) -> None:
    shop = new_shop(SHOP=(SHOP + MORE).replace("2.3", "0.3"), TOOL=TOOL.replace('"2s"', '"200ms"'))
    tools = [*shop.module.TOOLS, *shop.module.OTHERS]
    plain, ran = shop.played(*CONVERSATIONS[name], remit=None, tools=tools)
    with RemitMiddleware("desk", workspace=shop.root, mode="observe") as remit:
        messages, observed = shop.played(*CONVERSATIONS[name], remit=remit, tools=tools)
    assert messages == plain
    assert sorted(observed, key=repr) == sorted(ran, key=repr)  # the calls of one turn run in any order
    decided = shop.events(CallDecided)
    proposed = sum(len(turn.tool_calls) + len(turn.invalid_tool_calls) for turn in CONVERSATIONS[name])
    assert [event.enforced for event in decided] == [False] * proposed
    for row in list_runs(open_session(shop.root).journal):
        for words in ("trace verify", "replay"):
            result = shop.cli(*words.split(), row.run)
            assert result.code == 0, result.out + result.err


def answered(agent: Any, ran: list[Any], *answers: str) -> Any:
    """What a graph that interrupts asks, its last messages, and what the tools did."""
    ran.clear()
    states = [agent.invoke(ASKED, THREAD), *(agent.invoke(Command(resume=answer), THREAD) for answer in answers)]
    asked = [[item.value for item in state.get("__interrupt__", ())] for state in states]
    # Which calls beside one that asks LangGraph begins before it stops their node is a matter of time.
    return asked, [message.content for message in states[-1]["messages"]], [one for one in ran if one[0] != "get_order"]


def test_a_tool_that_asks_a_person_asks_as_without_remit_and_its_answers_are_recorded(
    new_shop: Callable[..., Shop],
) -> None:
    shop, asks = new_shop(SHOP=ASKING), says(("refund", {"order": "ask", "amount": 500}))
    plain = answered(shop.plain(asks, checkpointer=InMemorySaver()), shop.module.RAN, "which?", "order 1")
    assert plain[0] == [[{"sure": 500}], ["which order?"], []]
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        agent = shop.plain(asks, middleware=[remit], checkpointer=InMemorySaver())
        assert answered(agent, shop.module.RAN, "which?", "order 1") == plain
    assert [event.answer for event in shop.events(QuestionAnswered)] == ["which?", "order 1"]
    assert [event.value for event in shop.events(AttemptEnded)] == ["refunded"]


def test_a_tool_that_asks_beside_another_call_of_its_node_asks_as_without_remit(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(SHOP=ASKING)

    def graph(**wrapped: Any) -> Any:
        model, made = (
            # The look comes first: a ToolNode may drop calls after one that asks.
            Scripted(turns=[says(LOOK, ("refund", {"order": "ask", "amount": 20}))]),
            StateGraph(MessagesState),
        )
        made.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        made.add_node("tools", ToolNode(shop.module.TOOLS, **wrapped))
        made.add_edge(START, "model")
        made.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
        made.add_edge("tools", "model")
        return made.compile(checkpointer=InMemorySaver())

    plain = answered(graph(), shop.module.RAN, "which?", "order 1")
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        observed = graph(wrap_tool_call=remit.wrap_tool_call, awrap_tool_call=remit.awrap_tool_call)
        assert answered(observed, shop.module.RAN, "which?", "order 1") == plain


def test_a_call_that_a_person_makes_instead_runs_and_not_the_one_of_the_model(
    new_shop: Callable[..., Shop],
) -> None:
    shop = new_shop(AGENT=OBSERVING + 'enforce = ["desk.refund"]\n')
    mail = {"name": "mail", "args": {"to": "eve@evil.example"}}  # no rule allows it, and it is only observed
    edit = Command(resume={"decisions": [{"type": "edit", "edited_action": mail}]})
    with RemitMiddleware("desk", workspace=shop.root, principal=lambda runtime: runtime.context) as remit:
        agent = shop.plain(says(LARGE), middleware=[remit], checkpointer=InMemorySaver())
        agent.invoke(ASKED, THREAD, context=OPERATOR)
        messages = agent.invoke(edit, THREAD, context=principal("lea"))["messages"]
    assert shop.module.RAN == [("mail", "eve@evil.example"), ("mailed", "eve@evil.example")]
    assert "made_instead" in messages[2].content


def test_what_a_call_that_is_let_through_has_read_puts_its_labels_on_the_run(new_shop: Callable[..., Shop]) -> None:
    rules = RULES.replace("p, agent:desk, desk.get_order, order:*, True, allow\n", "")
    shop = new_shop(RULES=rules)
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(LOOK), remit=remit)
    (decided,), (ended,), (answered,) = map(shop.events, (CallDecided, AttemptEnded, CallAnswered))
    assert (decided.decision.verdict, decided.let_through, ended.value) == ("deny", True, "order 1: a lamp")
    assert answered.result.labels == ("customer_text",)
    (row,) = list_runs(open_session(shop.root).journal)
    assert (row.labels, row.denied, row.let_through) == (("customer_text",), 0, 1)


def test_a_graph_in_an_event_loop_is_observed_too(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        state = asyncio.run(shop.plain(says(OUTSIDE, LARGE), middleware=[remit]).ainvoke(ASKED))
    plain = asyncio.run(shop.plain(says(OUTSIDE, LARGE)).ainvoke(ASKED))
    assert [message.content for message in state["messages"]] == [message.content for message in plain["messages"]]
    assert [event.let_through for event in shop.events(CallDecided)] == [True, True]


def test_an_action_that_is_enforced_already_is_refused_and_the_others_are_not(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(AGENT=OBSERVING + 'enforce = ["desk.refund"]\n')
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        messages, ran = shop.played(says(OUTSIDE, STAFF), remit=remit)
    assert ran == [("mail", "eve@evil.example"), ("mailed", "eve@evil.example")]
    assert [kind for kind, *_, status, _ in messages if status] == ["tool", "tool"]
    assert [event.enforced for event in shop.events(CallDecided)] == [False, True]
    assert list_denied(shop) == [1]


def test_an_agent_of_40_tools_is_observed_without_a_change_and_then_enforced_action_by_action(
    new_shop: Callable[..., Shop],
) -> None:
    actions = [
        f'[actions.put_{number}]\nsummary = "Put away"\ntouches = ["use box:{{item}}"]\neffect = "idempotent"\nerrors = ["tool_error"]\n'
        for number in range(40)
    ]
    tool = TOOL[: TOOL.index("[actions.")] + "\n".join(actions)
    shop = new_shop(TOOL=tool, SHOP=BOXES, RULES="p, agent:desk, desk.put_0, box:none, True, deny\n")
    talks = [talk(shop, random.Random(number)) for number in range(6)]
    found = observe_and_enforce(shop.root, "desk", talks, InMemorySaver())
    assert (found.changed, found.still_refused, found.refused) == ([], 0, 0)
    assert found.enforced >= found.calls > 20


def talk(shop: Shop, random: random.Random) -> Talk:
    """Four messages with some calls of 6 of the 40 tools; some fail."""
    messages = [
        (
            f"message {number}",
            [(f"put_{random.randrange(6)}", {"item": random.choice("abcx")}) for _ in range(random.randrange(4))],
        )
        for number in range(4)
    ]
    kept: dict[str, Any] = shop.module.KEPT

    def begin() -> Callable[[], Any]:
        kept.clear()
        return lambda: json.dumps(kept)

    actions = frozenset(f"desk.{name}" for _, calls in messages for name, _ in calls)
    return Talk(name=str(random.random()), tools=shop.module.TOOLS, messages=messages, actions=actions, begin=begin)


def list_denied(shop: Shop) -> list[int]:
    return [row.denied for row in list_runs(open_session(shop.root).journal)]


def test_an_agent_is_enforced_from_the_day_after_the_last_one(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(AGENT=OBSERVING.replace("2099-12-31", "2026-01-31"))
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        _, ran = shop.played(says(OUTSIDE), remit=remit)
    (started,), (decided,) = shop.events(RunStarted), shop.events(CallDecided)
    assert (ran, decided.enforced) == ([], True)
    last = started.observe.until
    assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(last // 10**9)) == "2026-02-01 00:00"
    assert (started.observe.covers("desk.mail", last - 1), started.observe.covers("desk.mail", last)) == (True, False)


def test_a_thread_that_is_observed_is_enforced_once_the_day_has_passed(
    new_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400))
    shop = new_shop(AGENT=OBSERVING.replace("2099-12-31", tomorrow) + '[budget]\nwall = "96h"\n')
    config: Any = {"configurable": {"thread_id": "t1"}}
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        turns = [says(OUTSIDE), says(OUTSIDE, text="again"), AIMessage("done"), says(OUTSIDE, text="and again")]
        agent = shop.plain(*turns, middleware=[remit], checkpointer=InMemorySaver())
        for update in agent.stream(ASKED, config):
            if "tools" in update:
                after = shop.events(RunStarted)[0].observe.until
                monkeypatch.setattr(time, "time_ns", lambda after=after: after + 1)
        agent.invoke({"messages": [HumanMessage("and now?")]}, config)
        monkeypatch.undo()
    assert [event.enforced for event in shop.events(CallDecided)] == [False, True, True]
    assert len(shop.module.RAN) == 2  # of the first mail only


@pytest.mark.parametrize("scope", ["agent:desk", "tool:desk"])
def test_an_operators_stop_ends_an_observed_call_too(new_shop: Callable[..., Shop], scope: str) -> None:
    """The stop of an agent refuses the turn of the model, the stop of a tool each call."""
    shop = new_shop()
    holds.set_hold(open_session(shop.root).journal, scope, why="an incident", by=OPERATOR)
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        _, ran = shop.played(says(SMALL), remit=remit)
    assert ran == []


@pytest.mark.parametrize(("agent", "mode", "says_"), [(AGENT, "observe", "enforce"), (OBSERVING, "enforce", "observe")])
def test_a_program_that_expects_another_mode_does_not_start(
    new_shop: Callable[..., Shop], agent: str, mode: Any, says_: str
) -> None:
    shop = new_shop(AGENT=agent)
    with pytest.raises(
        UsageError, match=f"expects mode '{mode}' of agent 'desk', and agent/desk/agent.toml says '{says_}'"
    ):
        RemitMiddleware("desk", workspace=shop.root, mode=mode)


def test_every_view_says_that_a_run_was_observed(new_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = new_shop()
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(OUTSIDE), remit=remit)
    (row,) = list_runs(open_session(shop.root).journal)
    until = "decisions on host tools are not enforced until 2100-01-01 00:00Z"
    shown = shop.cli("trace", "show", row.run).out
    assert until in shown
    assert "not enforced: the call is carried out whatever is decided" in shown
    assert shop.cli("trace", "show", row.run, "--html", str(tmp_path / "page.html")).code == 0
    page = (tmp_path / "page.html").read_text()
    assert until in page
    assert "not enforced: the call is carried out" in page
    assert "completed, 1 let through" in shop.cli("trace", "list").out
    assert '"enforced":false' in shop.cli("trace", "list", "--decisions").out
    assert f"observed         agent desk: {until}" in shop.cli("tool", "show", "desk").out
    assert "1 agents that observe" in shop.cli("check").out
    exported = shop.cli("trace", "export", row.run, "-o", str(tmp_path / "run.jsonl"))
    assert exported.code == 0
    assert "remit.observe" in (tmp_path / "run.jsonl").read_text()


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('mode = "observe"', "without a day on which that ends"),
        ('mode = "observe"\nobserve_until = "2026-02-30"', "no day of the calendar"),
        ('observe_until = "2026-12-31"', "'observe_until' is for an agent that observes"),
        ('enforce = ["desk.mail"]', "'enforce' is for an agent that observes"),
        ('mode = "observe"\nobserve_until = "2026-12-31"\nenforce = ["desk.fly"]', "no action of a host tool"),
        ('mode = "observe"\nobserve_until = "2026-12-31"', "always enforced"),
    ],
)
def test_a_mode_that_says_less_than_it_must_is_a_problem_of_its_file(
    new_shop: Callable[..., Shop], lines: str, problem: str
) -> None:
    hosted = problem != "always enforced"
    shop = new_shop(AGENT=AGENT)
    text = AGENT if hosted else AGENT.replace('tools = ["desk"]', 'tools = ["remit.read_result"]')
    (shop.root / "agent/desk/agent.toml").write_text(f"{text}{lines}\n")
    result = shop.cli("check")
    assert result.code == 2
    assert problem in result.err
    assert "agent/desk/agent.toml:" in result.err


def test_a_sandboxed_tool_of_an_agent_that_observes_is_enforced(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    shutil.copytree(starter_folder() / "tools" / "files", shop.root / "tools" / "files")
    pin(shop.root)
    text = OBSERVING.replace('tools = ["desk"]', 'tools = ["desk", "files"]')
    (shop.root / "agent/desk/agent.toml").write_text(text)
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        messages, _ = shop.played(says(("files__read", {"path": "a.md"})), remit=remit)
    assert "policy_denied" in str(messages)
    assert [event.enforced for event in shop.events(CallDecided)] == [True]


def test_a_new_observation_is_new_authority_in_a_diff(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(AGENT=AGENT)
    before = load_workspace(shop.root)
    texts = {
        "on": OBSERVING,
        "longer": OBSERVING.replace("2099", "2098"),
        "fewer": OBSERVING + 'enforce = ["desk.mail"]\n',
    }
    read = {}
    for name, text in texts.items():
        (shop.root / "agent/desk/agent.toml").write_text(text)
        read[name] = load_workspace(shop.root)

    def wider(old: Any, new: Any) -> list[str]:
        return [change.text for change in manifest_changes(old, new) if change.direction == "wider"]

    assert "may now make calls that the rules refuse" in "".join(wider(before, read["on"]))
    assert len(wider(read["longer"], read["on"])) == 1
    assert len(wider(read["fewer"], read["on"])) == 1
    assert wider(read["on"], read["fewer"]) == []
    assert wider(read["on"], before) == []


def test_the_report_names_what_would_be_refused_and_the_smallest_rules_that_are_missing(
    new_shop: Callable[..., Shop],
) -> None:
    shop = new_shop()
    work = [says(LOOK, SMALL), says(OUTSIDE, ("mail", {"to": "bo@other.example"})), says(LARGE), says(STAFF)]
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(*work, says(("fly", {})), remit=remit)
    found = json.loads(shop.cli("report", "desk", "--json").out)
    rows = [f"p, agent:desk, desk.mail, mail:{to}, True, allow" for to in ("bo@other.example", "eve@evil.example")]
    assert found["suggested"]["missing"] == dict.fromkeys(rows, 1)
    assert list(found["asked_by"].values()) == [1]
    lacks = "agent/desk/agent.toml: `tools` does not name 'fly': no tool of the workspace has it"
    assert found["outside_rules"] == {lacks: 1}
    assert ["Nothing is refunded for the staff" in rule for rule in found["refused_by"]] == [True]
    assert found["refused_before"] == {"fly: unknown_action": 1}
    refused = shop.cli("report", "desk", "--enforce", "desk.mail")
    assert (refused.code, "2 recorded calls of desk.mail lack a rule" in refused.err) == (2, True)
    written = shop.cli("report", "desk", "--write")
    assert written.code == 0, written.out + written.err
    assert all(row in (shop.root / "policies/rules.csv").read_text() for row in rows)
    assert shop.cli("policy", "test").code == 0
    for action in ("desk.mail", "desk.refund", "desk.get_order"):
        assert shop.cli("report", "desk", "--enforce", action).code == 0
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(*work, remit=remit)
    decided = [event for event in shop.events(CallDecided) if event.enforced]
    verdicts = [(event.call.action, event.decision.verdict) for event in decided]
    mails = [("desk.mail", "allow")] * 2
    assert verdicts == [
        ("desk.get_order", "allow"),
        ("desk.refund", "allow"),
        *mails,
        ("desk.refund", "ask"),
        ("desk.refund", "deny"),
    ]


def test_the_report_names_what_a_manifest_agent_toml_and_a_missing_review_refused(
    new_shop: Callable[..., Shop],
) -> None:
    shop = new_shop()
    shutil.copytree(starter_folder() / "tools" / "files", shop.root / "tools" / "files")
    pin(shop.root)
    text = OBSERVING.replace('tools = ["desk"]', 'tools = ["desk", "files.read"]')
    (shop.root / "agent/desk/agent.toml").write_text(text)
    read, write = ("files__read", {"path": "a.md"}), ("files__write", {"path": "reports/a.md", "text": "x"})
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(read, write), remit=remit)
    changed = shop.root / "tools/desk/tool.toml"
    changed.write_text(changed.read_text().replace('version = "1.', 'version = "2.'))
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(LOOK), remit=remit)
    shown = shop.cli("report", "desk").out
    assert "tools/files/tool.toml: argument 'path' names a file that tool 'files' may not read" in shown
    assert "agent/desk/agent.toml: `tools` does not name 'files.write': add it" in shown
    review = "the files of tool 'desk' are not the reviewed ones: review it, then run `remit tool pin desk`"
    assert f"policies/tools.lock: {review}" in shown


def test_the_report_never_suggests_a_rule_beside_one_whose_condition_refuses(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(
        RULES=RULES.replace(
            "p, agent:desk, desk.refund, order:*, approved('role:lead') and args.amount > 50, allow\n", ""
        )
    )
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(LARGE), remit=remit)
    found = json.loads(shop.cli("report", "desk", "--json").out)
    assert found["suggested"]["missing"] == {}
    assert ["Small amounts are refunded at once" in rule for rule in found["refused_by"]] == [True]


def test_several_users_get_one_role_and_not_a_rule_each(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop(RULES="p, agent:desk, desk.get_order, order:*, True, allow\n")
    with RemitMiddleware("desk", workspace=shop.root, principal=lambda runtime: runtime.context) as remit:
        for name in ("ann", "bo", "cy"):
            shop.plain(says(LOOK), middleware=[remit]).invoke(ASKED, context=principal(name))
    found = json.loads(shop.cli("report", "desk", "--json").out)
    assert found["suggested"]["missing"] == {"p, role:desk-users, desk.get_order, order:1, True, allow": 3}
    assert "g, user:bo, role:desk-users" in found["suggested"]["rules"]


def test_rules_that_contradict_a_case_are_not_written(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    case = (
        "- note: The desk writes to nobody outside\n  agent: agent:desk\n  user: user:operator\n  action: desk.mail\n"
        "  resources: [mail:eve@evil.example]\n  expect: deny\n"
    )
    (shop.root / "policies/cases.yaml").write_text(case)
    before = (shop.root / "policies/rules.csv").read_text()
    with RemitMiddleware("desk", workspace=shop.root) as remit:
        shop.played(says(OUTSIDE), remit=remit)
    result = shop.cli("report", "desk", "--write")
    assert (result.code, "The desk writes to nobody outside" in result.err) == (2, True)
    assert (shop.root / "policies/rules.csv").read_text() == before
    assert (shop.root / "policies/cases.yaml").read_text() == case


def test_a_call_that_remit_itself_makes_for_such_an_agent_is_enforced(new_shop: Callable[..., Shop]) -> None:
    shop = new_shop()
    result = shop.cli("call", "desk.mail", '{"to": "eve@evil.example"}', "--agent", "desk")
    assert (result.code, "policy_denied" in result.out + result.err) == (1, True)
    (decided,) = shop.events(CallDecided)
    assert decided.enforced
