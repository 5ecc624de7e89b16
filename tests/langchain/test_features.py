"""A table of what LangChain and LangGraph offer, each played plain and under Remit: the same meaning, or one named difference."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelCallLimitMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
    dynamic_prompt,
    wrap_model_call,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import Send
from pydantic import BaseModel

from remit.langchain.middleware import RemitMiddleware
from support.workspaces.features import features_workspace
from support.workspaces.langchain import Scripted, says

ASK: Any = {"messages": [HumanMessage("Use the tools")]}
UNKNOWN = "nosuch"  # a tool that no agent has
THREAD: Any = {"configurable": {"thread_id": "t"}}


@dataclass
class Kit:
    """The tools, and agents and nodes with them: plain, or under Remit."""

    shop: Any
    remit: RemitMiddleware | None

    def tools(self, *names: str) -> list[Any]:
        return [self.shop.BY_NAME[name] for name in names]

    def agent(self, turns: Sequence[AIMessage], *names: str, middleware: Sequence[Any] = (), **more: Any) -> Any:
        every = [*middleware, *([self.remit] if self.remit else [])]
        return create_agent(Scripted(turns=list(turns)), self.tools(*names), middleware=every, **more)

    def node(self, *names: str, **more: Any) -> ToolNode:
        if self.remit is not None:
            more |= {"wrap_tool_call": self.remit.wrap_tool_call, "awrap_tool_call": self.remit.awrap_tool_call}
        return ToolNode(self.tools(*names), **more)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature. `differs` names how Remit differs and why; "" if it means the same."""

    name: str
    play: Callable[[Kit], Any]
    differs: str = ""


FEATURES: list[Feature] = []


def feature(name: str, differs: str = "") -> Callable[[Callable[[Kit], Any]], Callable[[Kit], Any]]:
    def add(play: Callable[[Kit], Any]) -> Callable[[Kit], Any]:
        FEATURES.append(Feature(name=name, play=play, differs=differs))
        return play

    return add


def meaning(message: Any) -> Any:
    """What a message means: its kind, its text, its calls; of a result its value, or only that it failed."""
    if not isinstance(message, ToolMessage):
        return message.type, message.text, [call["name"] for call in getattr(message, "tool_calls", ())]
    content: Any = message.content
    if isinstance(content, str) and content[:1] in ("{", "["):
        content = json.loads(content)
    if isinstance(content, dict) and "ok" in content:
        content = content["value"] if content["ok"] else "failed"
    return "tool", "failed" if message.status == "error" else content


def meanings(state: Any) -> list[Any]:
    return [meaning(message) for message in state["messages"]]


def calls(*made: tuple[str, dict[str, Any]]) -> Callable[[Kit], Any]:
    """The feature of one turn with these calls."""
    names = [name for name in dict.fromkeys(name for name, _ in made) if name != UNKNOWN]
    return lambda kit: meanings(kit.agent([says(*made)], *names).invoke(ASK))


# -- results of tools --------------------------------------------------------------------------------------------------

ONE_CALL: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "a text": (("words", {"text": "hello"}),),
    "a text that is not ASCII": (("words", {"text": "grüße 你好 🙂"}),),
    "a record": (("record", {"text": "x"}),),
    "a list of records": (("rows", {}),),
    "a number": (("number", {}),),
    "nothing": (("nothing", {}),),
    "a long text": (("long", {"size": 20000}),),
    "text blocks": (("blocks", {}),),
    "two calls of one turn": (("words", {"text": "a"}), ("number", {})),
    "two calls of one tool": (("words", {"text": "a"}), ("words", {"text": "b"})),
    # arguments
    "defaults": (("defaults", {}),),
    "some defaults": (("defaults", {"often": 3}),),
    "an argument that is left out and may be null": (("maybe", {}),),
    "a null argument": (("maybe", {"text": None}),),
    "one of two values": (("choice", {"kind": "b"}),),
    "an argument that is a model": (("nested", {"item": {"name": "lamp"}}),),
    "an argument that is a list of models": (("many", {"items": [{"name": "lamp"}, {"name": "bulb", "amount": 2}]}),),
    "an argument that is a mapping": (("mapping", {"values": {"a": 1, "b": 2}}),),
    "an argument that is a date": (("moment", {"when": "2026-11-30T10:00:00"}),),
    "a bounded argument": (("bounded", {"amount": 10}),),
    "arguments of a schema": (("count", {"text": "four"}),),
    "a tool with another name": (("say-again", {"text": "hello"}),),
    # failures
    "an argument out of its bounds": (("bounded", {"amount": 11}),),
    "an argument of another type": (("bounded", {"amount": "many"}),),
    "an argument that is missing": (("words", {}),),
    "a value that is none of two": (("choice", {"kind": "c"}),),
    "a tool that does not exist": (("words", {"text": "a"}), (UNKNOWN, {})),
    "an error of the tool, as words": (("refuses", {}),),
    # injected
    "the state": (("of_state", {}),),
    "a field of the state": (("of_field", {"text": "x"}),),
    "the id of the call": (("of_call", {}),),
    "the runtime": (("of_runtime", {}),),
}
for _name, _calls in ONE_CALL.items():
    feature(_name)(calls(*_calls))


@feature("an exception", "plain LangChain raises it in the program; under Remit the call fails, and the model goes on")
def _(kit: Kit) -> Any:
    try:
        return meanings(kit.agent([says(("breaks", {}))], "breaks").invoke(ASK))
    except ValueError:
        return "raised"


@feature("an error that a function explains")
def _(kit: Kit) -> Any:
    return meanings(kit.agent([says(("explains", {}))], "explains").invoke(ASK))


@feature("an artifact")
def _(kit: Kit) -> Any:
    state = kit.agent([says(("artifact", {"text": "x"}))], "artifact").invoke(ASK)
    return meanings(state), state["messages"][2].artifact


@feature("a picture")
def _(kit: Kit) -> Any:
    content: Any = kit.agent([says(("picture", {}))], "picture").invoke(ASK)["messages"][2].content
    return [block for block in content if isinstance(block, dict) and block["type"] != "text"]


@feature("an asynchronous tool in a loop")
def _(kit: Kit) -> Any:
    return meanings(asyncio.run(kit.agent([says(("later", {"text": "x"}))], "later").ainvoke(ASK)))


@feature("a synchronous tool in a loop")
def _(kit: Kit) -> Any:
    return meanings(asyncio.run(kit.agent([says(("words", {"text": "x"}))], "words").ainvoke(ASK)))


@feature(
    "an asynchronous tool without a loop",
    "plain LangChain raises NotImplementedError in the program; under Remit the tool runs, in an event loop of its own",
)
def _(kit: Kit) -> Any:
    try:
        return meanings(kit.agent([says(("later", {"text": "x"}))], "later").invoke(ASK))
    except NotImplementedError:
        return "raised"


@feature("a store")
def _(kit: Kit) -> Any:
    store = InMemoryStore()
    store.put(("shop",), "k", {"text": "kept"})
    return meanings(kit.agent([says(("of_store", {"key": "k"}))], "of_store", store=store).invoke(ASK))


@feature("a result that is the answer")
def _(kit: Kit) -> Any:
    return meanings(kit.agent([says(("final", {"text": "x"}))], "final").invoke(ASK))


# -- create_agent ------------------------------------------------------------------------------------------------------


@feature("an answer without calls")
def _(kit: Kit) -> Any:
    return meanings(kit.agent([AIMessage("hello")]).invoke(ASK))


@feature("three turns")
def _(kit: Kit) -> Any:
    turns = [says(("words", {"text": "a"})), says(("number", {})), says(("words", {"text": "b"}))]
    return meanings(kit.agent(turns, "words", "number").invoke(ASK))


@feature("the context of the program")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("of_context", {}))], "of_context", context_schema=str)
    return meanings(agent.invoke(ASK, context="shop 7"))


class Answer(BaseModel):
    """The answer."""

    text: str
    sure: bool


@feature("structured output")
def _(kit: Kit) -> Any:
    turns = [says(("words", {"text": "a"})), says(("Answer", {"text": "x", "sure": True}))]
    state = kit.agent(turns, "words", response_format=ToolStrategy(Answer)).invoke(ASK)
    return state["structured_response"], len(state["messages"])


@feature("structured output after a wrong try")
def _(kit: Kit) -> Any:
    turns = [says(("Answer", {"text": "x"})), says(("Answer", {"text": "x", "sure": True}))]
    return kit.agent(turns, response_format=ToolStrategy(Answer)).invoke(ASK)["structured_response"]


@feature("a state of its own")
def _(kit: Kit) -> Any:
    class Own(AgentState):
        color: str

    return kit.agent([says(("number", {}))], "number", state_schema=Own).invoke({**ASK, "color": "red"})["color"]


@feature("a system prompt that is computed")
def _(kit: Kit) -> Any:
    seen: list[int] = []

    @dynamic_prompt
    def prompt(request: Any) -> str:
        seen.append(len(request.messages))
        return "be short"

    return meanings(kit.agent([says(("number", {}))], "number", middleware=[prompt]).invoke(ASK)), seen


@feature("a middleware around the model")
def _(kit: Kit) -> Any:
    seen: list[str] = []

    @wrap_model_call
    def look(request: Any, handler: Any) -> Any:
        seen.append("asked")
        return handler(request)

    return meanings(kit.agent([says(("number", {}))], "number", middleware=[look]).invoke(ASK)), seen


class Hooks(AgentMiddleware):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def before_agent(self, state: Any, runtime: Any) -> None:
        self.seen.append("before agent")

    def before_model(self, state: Any, runtime: Any) -> None:
        self.seen.append("before model")

    def after_model(self, state: Any, runtime: Any) -> None:
        self.seen.append("after model")

    def after_agent(self, state: Any, runtime: Any) -> None:
        self.seen.append("after agent")


@feature("the four hooks of a middleware")
def _(kit: Kit) -> Any:
    hooks = Hooks()
    return meanings(kit.agent([says(("number", {}))], "number", middleware=[hooks]).invoke(ASK)), hooks.seen


@feature("a limit of calls of a tool")
def _(kit: Kit) -> Any:
    turns = [says(("number", {})), says(("number", {})), says(("number", {}))]
    limit: Any = ToolCallLimitMiddleware(tool_name="number", run_limit=1)
    return [item[0] for item in meanings(kit.agent(turns, "number", middleware=[limit]).invoke(ASK))]


@feature("a limit of turns of the model")
def _(kit: Kit) -> Any:
    turns = [says(("number", {})) for _ in range(5)]
    limit: Any = ModelCallLimitMiddleware(run_limit=2, exit_behavior="end")
    return meanings(kit.agent(turns, "number", middleware=[limit]).invoke(ASK))


@feature("a model that is asked again after it failed")
def _(kit: Kit) -> Any:
    again: Any = ModelRetryMiddleware(max_retries=2)
    return meanings(kit.agent([says(("number", {}))], "number", middleware=[again]).invoke(ASK))


@feature("a tool that fails although a middleware tries it again")
def _(kit: Kit) -> Any:
    again: Any = ToolRetryMiddleware(max_retries=1, initial_delay=0.0, on_failure="continue")
    return meanings(kit.agent([says(("breaks", {}))], "breaks", middleware=[again]).invoke(ASK))


@feature("a summary of a long conversation")
def _(kit: Kit) -> Any:
    summary: Any = Scripted(turns=[AIMessage("a summary")])
    short: Any = SummarizationMiddleware(model=summary, trigger=("messages", 6), keep=("messages", 2))
    asked: Any = {"messages": [HumanMessage(f"message {number}") for number in range(7)]}
    return meanings(kit.agent([says(("number", {}))], "number", middleware=[short]).invoke(asked))


@feature("personal data that is removed before the model")
def _(kit: Kit) -> Any:
    guard: Any = PIIMiddleware("email", strategy="redact")
    asked: Any = {"messages": [HumanMessage("write to ann@shop.example")]}
    return meanings(kit.agent([says(("number", {}))], "number", middleware=[guard]).invoke(asked))


@feature("a list of things to do", "`write_todos` is a tool that no manifest names: it is refused until one does")
def _(kit: Kit) -> Any:
    todo: Any = TodoListMiddleware()
    turn = says(("write_todos", {"todos": [{"content": "look", "status": "pending"}]}))
    return meanings(kit.agent([turn], middleware=[todo]).invoke(ASK))


@feature("a call whose arguments are no JSON", "plain LangChain drops it; Remit refuses it, and asks the model again")
def _(kit: Kit) -> Any:
    broken = AIMessage(
        "", invalid_tool_calls=[{"name": "words", "args": "{", "id": "a", "error": "x", "type": "invalid_tool_call"}]
    )
    return meanings(kit.agent([broken, AIMessage("done")], "words").invoke(ASK))


# -- threads and checkpointers -----------------------------------------------------------------------------------------


@feature("two messages in one thread")
def _(kit: Kit) -> Any:
    turns = [says(("words", {"text": "a"})), AIMessage("first"), says(("number", {})), AIMessage("second")]
    agent = kit.agent(turns, "words", "number", checkpointer=InMemorySaver())
    agent.invoke(ASK, THREAD)
    return meanings(agent.invoke({"messages": [HumanMessage("again")]}, THREAD))


@feature("a checkpointer that refuses what is not JSON")
def _(kit: Kit) -> Any:
    saver = InMemorySaver(serde=JsonPlusSerializer(pickle_fallback=False))
    made = says(("words", {"text": "a"}), ("artifact", {"text": "x"}))
    return meanings(kit.agent([made], "words", "artifact", checkpointer=saver).invoke(ASK, THREAD))


@feature("the history of a thread, and a return to an earlier state")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"})), AIMessage("done")], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, THREAD)
    before = next(state for state in agent.get_state_history(THREAD) if state.next == ("tools",))
    return meanings(agent.invoke(None, before.config)), agent.get_state(THREAD).next


@feature("a state that the program changes")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"})), AIMessage("done")], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, THREAD)
    agent.update_state(THREAD, {"messages": [HumanMessage("by the program")]})
    return meanings(agent.get_state(THREAD).values)


@feature("a stop before the tools, and going on")
def _(kit: Kit) -> Any:
    agent = kit.agent(
        [says(("words", {"text": "a"}))], "words", checkpointer=InMemorySaver(), interrupt_before=["tools"]
    )
    first = meanings(agent.invoke(ASK, THREAD))
    return first, meanings(agent.invoke(None, THREAD))


# -- streams and batches -----------------------------------------------------------------------------------------------


@feature("the stream of values")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    *_, last = agent.stream(ASK, stream_mode="values")
    return meanings(last)


@feature("the stream of updates")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    names = [name for update in agent.stream(ASK, stream_mode="updates") for name in update]
    return [name for name in names if not name.startswith("RemitMiddleware")]


@feature("the stream of messages")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    return [meaning(message) for message, _ in agent.stream(ASK, stream_mode="messages")]


@feature("the custom stream of a tool")
def _(kit: Kit) -> Any:
    return list(kit.agent([says(("writes", {"text": "a"}))], "writes").stream(ASK, stream_mode="custom"))


@feature("the asynchronous stream of values")
def _(kit: Kit) -> Any:
    async def play() -> Any:
        agent = kit.agent([says(("words", {"text": "a"}))], "words")
        return [value async for value in agent.astream(ASK, stream_mode="values")][-1]

    return meanings(asyncio.run(play()))


@feature("events", "the tool's own event is there, and Remit's hooks have events too")
def _(kit: Kit) -> Any:
    async def play() -> Any:
        agent = kit.agent([says(("words", {"text": "a"}))], "words")
        found = [event async for event in agent.astream_events(ASK, version="v2")]
        return sorted(
            (event["event"], event["name"])
            for event in found
            if event["event"].startswith(("on_tool", "on_chain_start"))
        )

    return asyncio.run(play())


@feature("a batch")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    return [meanings(state) for state in agent.batch([ASK, ASK])]


# -- graphs ------------------------------------------------------------------------------------------------------------


def looped(kit: Kit, turns: Sequence[AIMessage], *names: str, **more: Any) -> Any:
    """A graph of its author: a model, and a node of tools."""
    model = Scripted(turns=list(turns))
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", kit.node(*names, **more))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph


@feature("a graph with a node of tools")
def _(kit: Kit) -> Any:
    return meanings(
        looped(kit, [says(("words", {"text": "a"}), ("number", {}))], "words", "number").compile().invoke(ASK)
    )


@feature("a graph in a loop")
def _(kit: Kit) -> Any:
    graph = looped(kit, [says(("words", {"text": "a"}), ("later", {"text": "b"}))], "words", "later").compile()
    return meanings(asyncio.run(graph.ainvoke(ASK)))


@feature("a node that answers errors itself")
def _(kit: Kit) -> Any:
    graph = looped(kit, [says(("breaks", {}))], "breaks", handle_tool_errors=True).compile()
    return meanings(graph.invoke(ASK))


@feature("a node whose messages have another name")
def _(kit: Kit) -> Any:
    class Own(dict[str, Any]):
        pass

    node = kit.node("words", messages_key="talk")
    graph: Any = StateGraph(dict)
    graph.add_node("tools", node)
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    state = graph.compile().invoke({"talk": [says(("words", {"text": "a"}))]})
    return [meaning(message) for message in state["talk"] if isinstance(message, ToolMessage)]


@feature("a graph with a graph in it")
def _(kit: Kit) -> Any:
    outer: Any = StateGraph(MessagesState)
    outer.add_node("inner", looped(kit, [says(("words", {"text": "a"}))], "words").compile())
    outer.add_edge(START, "inner")
    outer.add_edge("inner", END)
    return meanings(outer.compile().invoke(ASK))


@feature("an agent as a node")
def _(kit: Kit) -> Any:
    outer: Any = StateGraph(MessagesState)
    outer.add_node("agent", kit.agent([says(("words", {"text": "a"}))], "words"))
    outer.add_edge(START, "agent")
    outer.add_edge("agent", END)
    return meanings(outer.compile().invoke(ASK))


@feature("branches that are sent their own state")
def _(kit: Kit) -> Any:
    class Own(MessagesState):
        lengths: Annotated[list[int], lambda left, right: sorted([*left, *right])]

    graph: Any = StateGraph(Own)
    graph.add_node("branch", lambda state: {"lengths": [len(state["text"])]})
    graph.add_node("agent", kit.agent([says(("words", {"text": "a"}))], "words"))
    graph.add_conditional_edges(START, lambda _: [Send("branch", {"text": text}) for text in ("a", "bb")], ["branch"])
    graph.add_edge("branch", "agent")
    graph.add_edge("agent", END)
    state = graph.compile().invoke(ASK)
    return meanings(state), state["lengths"]


@feature("a part of a chain")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    return (RunnableLambda(lambda text: {"messages": [HumanMessage(text)]}) | agent | RunnableLambda(meanings)).invoke(
        "go"
    )


@feature("a limit of steps of the graph")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("number", {})) for _ in range(50)], "number")
    try:
        agent.invoke(ASK, {"recursion_limit": 12})
    except Exception as failure:  # noqa: BLE001 - only its name is compared
        return type(failure).__name__
    return "no limit"


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return features_workspace(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def shop(workspace: Path) -> Iterator[Any]:
    sys.path.insert(0, str(workspace))
    yield importlib.import_module("features_shop")
    sys.path.remove(str(workspace))
    sys.modules.pop("features_shop", None)


def test_the_table_has_at_least_sixty_features_with_names_of_their_own() -> None:
    assert len({item.name for item in FEATURES}) == len(FEATURES) >= 60


@pytest.mark.parametrize("item", FEATURES, ids=lambda item: item.name)
def test_a_feature_means_the_same_under_remit_or_differs_as_named(item: Feature, shop: Any, workspace: Path) -> None:
    plain = item.play(Kit(shop=shop, remit=None))
    with RemitMiddleware("desk", task="Use the tools", workspace=workspace) as remit:
        under = item.play(Kit(shop=shop, remit=remit))
    assert (under == plain) is (item.differs == ""), (plain, under)
