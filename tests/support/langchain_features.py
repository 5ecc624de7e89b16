"""A table of what LangChain and LangGraph offer, each to be played plain and under Remit: the same meaning, or one named difference.

.venv/bin/python tests/support/langchain_features.py --write     writes the list into docs/langchain-features.md
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (LangChain leaves some of its own types open.)

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NotRequired

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
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
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, RetryPolicy, Send
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.langchain.middleware import RemitMiddleware
from support.workspaces.langchain import Scripted, says

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "langchain-features.md"
HEAD: Final = """# What LangChain and LangGraph offer, under Remit

For developers who put an agent that they already have under Remit, to see whether a feature that they use keeps its meaning. Each feature below
is played twice by `tests/langchain/test_features.py`, plain and under Remit, and the outcomes are compared: messages, state, streams and
events. Written from the table of that test by `tests/support/langchain_features.py --write`.

"""
ASK: Any = {"messages": [HumanMessage("Use the tools")]}
UNKNOWN = "nosuch"  # a tool that no agent has


@dataclass
class Kit:
    """The tools, and agents and nodes with them: plain, or under Remit."""

    shop: Any
    remit: RemitMiddleware | None
    feature: str = ""

    @property
    def thread(self) -> Any:
        """The configuration of a thread of its own."""
        return {"configurable": {"thread_id": self.feature}}

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
    "a number that is not whole": (("fraction", {}),),
    "a truth value": (("truth", {}),),
    "a model of pydantic": (("instance", {}),),
    "records in a record": (("deep", {}),),
    "a tool that is a class": (("classic", {"text": "x"}),),
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
    "an error of the arguments in words of the tool": (("checked", {"amount": "many"}),),
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


def beside_text(kit: Kit, name: str) -> Any:
    content: Any = kit.agent([says((name, {}))], name).invoke(ASK)["messages"][2].content
    found = json.loads(content) if isinstance(content, str) else content
    blocks = found["value"] if isinstance(found, dict) else found
    return [block for block in blocks if block["type"] != "text"]


for _name, _tool in {
    "a picture": "picture",
    "a picture by its link": "link",
    "a picture in a data URL": "data_url",
    "a file and a sound": "document",
}.items():
    feature(_name)(lambda kit, name=_tool: beside_text(kit, name))


class Painted(AgentState):
    """A state that tools change."""

    color: NotRequired[str]


@feature("a command that changes the state")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("paints", {"color": "red"}))], "paints", state_schema=Painted)
    state = agent.invoke(ASK)
    return meanings(state), state["color"]


@feature("a message and a command")
def _(kit: Kit) -> Any:
    state = kit.agent([says(("several", {}))], "several", state_schema=Painted).invoke(ASK)
    return meanings(state), state["color"]


@feature("a command to the graph around")
def _(kit: Kit) -> Any:
    outer: Any = StateGraph(MessagesState)
    outer.add_node("agent", kit.agent([says(("hands_over", {}))], "hands_over"))
    outer.add_node("other", lambda _: {"messages": [AIMessage("the other answers")]})
    outer.add_edge(START, "agent")
    return meanings(outer.compile().invoke(ASK))[-2:]


@feature("a tool that asks a person")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("asks", {}))], "asks", checkpointer=InMemorySaver())
    (asked,) = agent.invoke(ASK, kit.thread)["__interrupt__"]
    return asked.value, meanings(agent.invoke(Command(resume="red"), kit.thread))


@feature("the configuration")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("of_config", {"text": "shop"}))], "of_config")
    return meanings(agent.invoke(ASK, {"metadata": {"shop": 7}}))


@feature("a store that a tool writes and another reads")
def _(kit: Kit) -> Any:
    turns = [says(("keeps", {"key": "k", "text": "kept"})), says(("of_store", {"key": "k"}))]
    return meanings(kit.agent(turns, "keeps", "of_store", store=InMemoryStore()).invoke(ASK))


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


@feature("a list of things to do")
def _(kit: Kit) -> Any:
    todo: Any = TodoListMiddleware()
    turn = says(("write_todos", {"todos": [{"content": "look", "status": "pending"}]}))
    state = kit.agent([turn], middleware=[todo]).invoke(ASK)
    return meanings(state), state["todos"]


@tool
def ping() -> str:
    """Ping."""
    return "pong"


class Unknown(AgentMiddleware):
    """A middleware with a tool of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = [ping]


@feature(
    "a tool that no manifest names",
    "it is refused, and the model reads that; `for_tools` reports it when the agent is built",
)
def _(kit: Kit) -> Any:
    return meanings(kit.agent([says(("ping", {}))], middleware=[Unknown()]).invoke(ASK))


@feature("a person who approves by the middleware of LangChain")
def _(kit: Kit) -> Any:
    ask: Any = HumanInTheLoopMiddleware(interrupt_on={"words": True})
    agent = kit.agent([says(("words", {"text": "a"}))], "words", middleware=[ask], checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread)
    return meanings(agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), kit.thread))


@feature("a person who rejects by the middleware of LangChain")
def _(kit: Kit) -> Any:
    ask: Any = HumanInTheLoopMiddleware(interrupt_on={"words": True})
    agent = kit.agent([says(("words", {"text": "a"}))], "words", middleware=[ask], checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread)
    return meanings(agent.invoke(Command(resume={"decisions": [{"type": "reject"}]}), kit.thread))


@feature("a model in place of another that fails")
def _(kit: Kit) -> Any:
    class Broken(Scripted):
        def _generate(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no answer")

    other: Any = ModelFallbackMiddleware(Scripted(turns=[says(("number", {}))]))
    every = [other, *([kit.remit] if kit.remit else [])]
    return meanings(create_agent(Broken(turns=[]), kit.tools("number"), middleware=every).invoke(ASK))


@feature("old results that are taken out of what the model reads")
def _(kit: Kit) -> Any:
    clear: Any = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=10, keep=1)])
    turns = [says(("long", {"size": 400})), says(("number", {}))]
    return meanings(kit.agent(turns, "long", "number", middleware=[clear]).invoke(ASK))


@feature("a model that plays a tool")
def _(kit: Kit) -> Any:
    plays: Any = LLMToolEmulator(tools=["words"], model=Scripted(turns=[AIMessage("as if")]))
    return meanings(kit.agent([says(("words", {"text": "a"}))], "words", middleware=[plays]).invoke(ASK))


class Around(AgentMiddleware):
    """A middleware around the tools that notes each call, and changes the text of each result."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.seen.append(request.tool_call["name"])
        message = handler(request)
        return message.model_copy(update={"content": "changed"})


@feature("a middleware around the tools")
def _(kit: Kit) -> Any:
    outside = Around()
    return meanings(kit.agent([says(("number", {}))], "number", middleware=[outside]).invoke(ASK)), outside.seen


@feature("structured output of one of two types")
def _(kit: Kit) -> Any:
    class Refusal(BaseModel):
        """No answer."""

        why: str

    turns = [says(("Refusal", {"why": "closed"}))]
    state = kit.agent(turns, response_format=ToolStrategy(Answer | Refusal)).invoke(ASK)
    return state["structured_response"].model_dump()


@feature("callbacks of the tools")
def _(kit: Kit) -> Any:
    seen: list[Any] = []

    class Watch(BaseCallbackHandler):
        def on_tool_start(self, serialized: Any, input_str: str, **_: Any) -> None:
            seen.append(("begins", serialized["name"]))

        def on_tool_end(self, output: Any, **_: Any) -> None:
            seen.append(("ends", output.content))

    kit.agent([says(("words", {"text": "a"}))], "words").invoke(ASK, {"callbacks": [Watch()]})
    return seen


@feature("an agent as a tool of another")
def _(kit: Kit) -> Any:
    inner = kit.agent([says(("number", {}))], "number")

    @tool
    def words(text: str) -> str:
        """Say the text again."""
        return inner.invoke({"messages": [HumanMessage(text)]})["messages"][-2].text

    every = [kit.remit] if kit.remit else []
    turn = says(("words", {"text": "a"}), ("words", {"text": "b"}))
    outer = create_agent(Scripted(turns=[turn]), [words], middleware=every, checkpointer=InMemorySaver())
    return [
        42 if item[0] == "tool" and "42" in str(item[1]) else item for item in meanings(outer.invoke(ASK, kit.thread))
    ]


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
    agent.invoke(ASK, kit.thread)
    return meanings(agent.invoke({"messages": [HumanMessage("again")]}, kit.thread))


@feature("a checkpointer that refuses what is not JSON")
def _(kit: Kit) -> Any:
    saver = InMemorySaver(serde=JsonPlusSerializer(pickle_fallback=False))
    made = says(("words", {"text": "a"}), ("artifact", {"text": "x"}))
    return meanings(kit.agent([made], "words", "artifact", checkpointer=saver).invoke(ASK, kit.thread))


@feature("the history of a thread, and a return to an earlier state")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"})), AIMessage("done")], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread)
    before = next(state for state in agent.get_state_history(kit.thread) if state.next == ("tools",))
    return meanings(agent.invoke(None, before.config)), agent.get_state(kit.thread).next


@feature("a state that the program changes")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"})), AIMessage("done")], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread)
    agent.update_state(kit.thread, {"messages": [HumanMessage("by the program")]})
    return meanings(agent.get_state(kit.thread).values)


@feature("a fork of an earlier state")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"})), AIMessage("done")], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread)
    before = next(state for state in agent.get_state_history(kit.thread) if state.next == ("tools",))
    called = before.values["messages"][-1]
    other = called.model_copy(update={"tool_calls": [{**called.tool_calls[0], "args": {"text": "other"}}]})
    return meanings(agent.invoke(None, agent.update_state(before.config, {"messages": [other]})))


@feature("messages that are removed from a thread")
def _(kit: Kit) -> Any:
    turns = [says(("words", {"text": "a"})), AIMessage("first"), says(("number", {})), AIMessage("second")]
    agent = kit.agent(turns, "words", "number", checkpointer=InMemorySaver())
    last = agent.invoke(ASK, kit.thread)["messages"][-1]
    agent.update_state(kit.thread, {"messages": [RemoveMessage(last.id), AIMessage("changed")]})
    return meanings(agent.invoke({"messages": [HumanMessage("again")]}, kit.thread))


@feature("a thread in a loop")
def _(kit: Kit) -> Any:
    async def play() -> Any:
        turns = [says(("later", {"text": "a"})), AIMessage("first"), says(("number", {})), AIMessage("second")]
        agent = kit.agent(turns, "later", "number", checkpointer=InMemorySaver())
        await agent.ainvoke(ASK, kit.thread)
        return await agent.ainvoke({"messages": [HumanMessage("again")]}, kit.thread)

    return meanings(asyncio.run(play()))


@feature("checkpoints at the end only")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words", checkpointer=InMemorySaver())
    agent.invoke(ASK, kit.thread, durability="exit")
    return meanings(agent.get_state(kit.thread).values)


@feature("a stop after the tools, and going on")
def _(kit: Kit) -> Any:
    agent = kit.agent(
        [says(("words", {"text": "a"}))], "words", checkpointer=InMemorySaver(), interrupt_after=["tools"]
    )
    first = meanings(agent.invoke(ASK, kit.thread))
    return first, meanings(agent.invoke(None, kit.thread))


@feature("a stop before the tools, and going on")
def _(kit: Kit) -> Any:
    agent = kit.agent(
        [says(("words", {"text": "a"}))], "words", checkpointer=InMemorySaver(), interrupt_before=["tools"]
    )
    first = meanings(agent.invoke(ASK, kit.thread))
    return first, meanings(agent.invoke(None, kit.thread))


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


@feature("several streams at once, of inner graphs too")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("writes", {"text": "a"}))], "writes")
    parts = agent.stream(ASK, stream_mode=["custom", "values"], subgraphs=True)
    found = [(mode, part if mode == "custom" else len(part["messages"])) for _, mode, part in parts]
    return [item for at, item in enumerate(found) if at == 0 or item != found[at - 1]]


@feature("the stream of tasks")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    names = [part["name"] for part in agent.stream(ASK, stream_mode="tasks") if "input" in part]
    return [name for name in names if not name.startswith("RemitMiddleware")]


@feature("an event that a tool reports")
def _(kit: Kit) -> Any:
    async def play() -> Any:
        agent = kit.agent([says(("reports", {"text": "half"}))], "reports")
        found = [event async for event in agent.astream_events(ASK, version="v2")]
        return [event["data"] for event in found if event["event"] == "on_custom_event"]

    return asyncio.run(play())


@feature("an asynchronous batch")
def _(kit: Kit) -> Any:
    agent = kit.agent([says(("words", {"text": "a"}))], "words")
    return [meanings(state) for state in asyncio.run(agent.abatch([ASK, ASK, ASK]))]


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


@feature("a node that answers errors with a text")
def _(kit: Kit) -> Any:
    graph = looped(kit, [says(("breaks", {}))], "breaks", handle_tool_errors="try later").compile()
    return meanings(graph.invoke(ASK))


@feature(
    "a node that LangGraph tries again",
    "an exception of a tool is a result, so LangGraph has nothing to repeat; `retry` in tool.toml repeats what may be repeated",
)
def _(kit: Kit) -> Any:
    kit.shop.RAN.clear()
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", kit.node("fails_once"), retry_policy=RetryPolicy(max_attempts=2, initial_interval=0.0))
    graph.add_edge(START, "tools")
    return meanings(graph.compile().invoke({"messages": [says(("fails_once", {}))]}))


@feature("a node that gets a list of messages")
def _(kit: Kit) -> Any:
    graph: Any = StateGraph(Annotated[list[Any], add_messages])
    graph.add_node("tools", kit.node("words"))
    graph.add_edge(START, "tools")
    return [meaning(message) for message in graph.compile().invoke([says(("words", {"text": "a"}))])]


@feature("calls that are sent to the node one by one")
def _(kit: Kit) -> Any:
    def send(state: Any) -> Any:
        return [Send("tools", [call]) for call in state["messages"][-1].tool_calls]

    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", kit.node("words", "number"))
    graph.add_conditional_edges(START, send, ["tools"])
    state = graph.compile().invoke({"messages": [says(("words", {"text": "a"}), ("number", {}))]})
    return sorted(str(item) for item in meanings(state))


@feature("a state that is a model of pydantic")
def _(kit: Kit) -> Any:
    class Own(BaseModel):
        messages: Annotated[list[Any], add_messages]

    graph: Any = StateGraph(Own)
    graph.add_node("tools", kit.node("words"))
    graph.add_edge(START, "tools")
    return meanings(graph.compile().invoke({"messages": [says(("words", {"text": "a"}))]}))


@feature("two nodes of tools side by side")
def _(kit: Kit) -> Any:
    graph: Any = StateGraph(MessagesState)
    graph.add_node("first", kit.node("words", "number"))
    graph.add_node("second", lambda _: {"messages": []})
    graph.add_edge(START, "first")
    graph.add_edge(START, "second")
    return meanings(graph.compile().invoke({"messages": [says(("words", {"text": "a"}), ("number", {}))]}))


@feature("a node that is asked to go on elsewhere")
def _(kit: Kit) -> Any:
    graph: Any = StateGraph(MessagesState)
    graph.add_node("begin", lambda _: Command(goto="tools", update={"messages": [says(("words", {"text": "a"}))]}))
    graph.add_node("tools", kit.node("words"))
    graph.add_edge(START, "begin")
    return meanings(graph.compile().invoke(ASK))


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


# -- the page ----------------------------------------------------------------------------------------------------------


def page() -> str:
    """The list of the features as a page: first those that differ, with the reason."""
    differ = [item for item in FEATURES if item.differs]
    same = [item for item in FEATURES if not item.differs]
    lines = [
        f"Of {len(FEATURES)} features, {len(same)} mean the same. A result is compared by its value: under Remit it stands in",
        "[one JSON object](results.md).",
        "",
        "## Differences",
        "",
        "| feature | what differs, and why |",
        "|---|---|",
        *(f"| {item.name} | {item.differs} |" for item in differ),
        "",
        "## The same",
        "",
        *(f"- {item.name}" for item in same),
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8") if "--write" in sys.argv else print(page(), end="")
