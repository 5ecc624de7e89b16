"""Tools of LangChain of every kind, in a workspace that allows all of them: what they do plain, they do under Remit."""

from __future__ import annotations

from pathlib import Path

from support.workspaces.files import write_workspace
from support.workspaces.ledger import pin

SHOP = '''
import datetime
from typing import Annotated, Any, Literal, Optional

from langchain.agents.middleware import TodoListMiddleware
from langchain.tools import InjectedState, InjectedStore, InjectedToolCallId, ToolRuntime
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool
from langgraph.config import get_stream_writer
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field

RAN: list[str] = []

class Item(BaseModel):
    """One item."""
    name: str
    amount: int = 1

@tool
def words(text: str) -> str:
    """Say the text again."""
    RAN.append(text)
    return f"said {text}"

@tool
def record(text: str) -> dict:
    """A record."""
    return {"number": 7, "text": text}

@tool
def rows() -> list:
    """A list of records."""
    return [{"number": 1}, {"number": 2}]

@tool
def number() -> int:
    """A number."""
    return 42

@tool
def nothing() -> None:
    """Nothing."""

@tool
def long(size: int) -> str:
    """A long text."""
    return "x" * size

@tool
def defaults(text: str = "no text", often: int = 2) -> str:
    """Arguments with defaults."""
    return text * often

@tool
def maybe(text: Optional[str] = None) -> str:
    """An argument that may be null."""
    return "nothing" if text is None else text

@tool
def choice(kind: Literal["a", "b"]) -> str:
    """One of two."""
    return kind

@tool
def nested(item: Item) -> str:
    """A model."""
    return f"{item.amount} {item.name}"

@tool
def many(items: list[Item]) -> str:
    """A list of models."""
    return ", ".join(f"{item.amount} {item.name}" for item in items)

@tool
def mapping(values: dict[str, int]) -> str:
    """A mapping."""
    return str(sum(values.values()))

@tool
def moment(when: datetime.datetime) -> str:
    """A date."""
    return when.strftime("%d %B %Y")

@tool
def bounded(amount: Annotated[int, Field(ge=1, le=10)]) -> str:
    """A bounded number."""
    return str(amount)

@tool
def breaks() -> str:
    """Raise."""
    raise ValueError("the bank is closed")

@tool
def fails_once() -> str:
    """Raise at first."""
    RAN.append("tried")
    if len(RAN) == 1:
        raise ConnectionError("busy")
    return "done"

@tool
def refuses() -> str:
    """Raise the error of a tool."""
    raise ToolException("the bank is closed")

refuses.handle_tool_error = True

@tool
def explains() -> str:
    """Raise an error that a function explains."""
    raise ToolException("the bank is closed")

explains.handle_tool_error = lambda failure: f"explained: {failure}"

@tool(response_format="content_and_artifact")
def artifact(text: str):
    """Content for the model, and an artifact for the program."""
    return f"about {text}", {"rows": [1, 2, 3]}

@tool
def blocks() -> list:
    """Text blocks."""
    return [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

@tool
def picture() -> list:
    """A picture."""
    return [{"type": "text", "text": "look"}, {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png"}]

@tool
def link() -> list:
    """A picture by its link."""
    return [{"type": "image", "url": "https://shop.example/lamp.png"}]

@tool
def data_url() -> list:
    """A picture as models of OpenAI get it."""
    return [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}]

@tool
def document() -> list:
    """A file, and a sound."""
    return [
        {"type": "file", "base64": "JVBERg==", "mime_type": "application/pdf", "id": "f1"},
        {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"},
    ]

@tool
def fraction() -> float:
    """A number that is not whole."""
    return 0.1 + 0.2

@tool
def truth() -> bool:
    """A truth value."""
    return True

@tool
def instance() -> Item:
    """A model of pydantic."""
    return Item(name="lamp")

@tool
def deep() -> dict:
    """A record in a record."""
    return {"a": {"b": [{"c": None}, 1.5, "grüße"]}}

@tool
def paints(color: str, call: Annotated[str, InjectedToolCallId]) -> Command:
    """Change the state."""
    return Command(update={"color": color, "messages": [ToolMessage(f"painted {color}", tool_call_id=call)]})

@tool
def several(call: Annotated[str, InjectedToolCallId]) -> list:
    """A message and a change of the state."""
    return [ToolMessage("done", tool_call_id=call), Command(update={"color": "blue"})]

@tool
def hands_over(call: Annotated[str, InjectedToolCallId]) -> Command:
    """Go on in the graph around."""
    said = ToolMessage("over to you", tool_call_id=call)
    return Command(graph=Command.PARENT, goto="other", update={"messages": [said]})

@tool
def asks() -> str:
    """Ask a person."""
    return f"read {interrupt('which color?')}"

@tool
def of_config(text: str, config: RunnableConfig) -> str:
    """Read the configuration."""
    return f"{text} {config['metadata'].get('shop')}"

@tool
def keeps(key: str, text: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Write into the store."""
    store.put(("shop",), key, {"text": text})
    return "kept"

@tool
def reports(text: str) -> str:
    """Report an event."""
    dispatch_custom_event("progress", {"at": text})
    return "reported"

@tool
def checked(amount: int) -> str:
    """An argument with words of its own for errors."""
    return str(amount)

checked.handle_validation_error = "write a whole number"

class Classic(BaseTool):
    """A tool that is a class."""
    name: str = "classic"
    description: str = "A class"

    def _run(self, text: str) -> str:
        return f"classic {text}"

async def _later(text: str) -> str:
    """Only asynchronous."""
    return f"later {text}"

later = StructuredTool.from_function(coroutine=_later, name="later")

@tool
def of_state(state: Annotated[dict, InjectedState]) -> str:
    """Read the state of the graph."""
    return f"{len(state['messages'])} messages"

@tool
def of_field(messages: Annotated[list, InjectedState("messages")], text: str) -> str:
    """Read one field of the state."""
    return f"{text} {len(messages)}"

@tool
def of_call(call: Annotated[str, InjectedToolCallId]) -> str:
    """Read the id of the call."""
    return call

@tool
def of_runtime(runtime: ToolRuntime) -> str:
    """Read the runtime."""
    return f"{runtime.tool_call_id} {type(runtime.state).__name__}"

@tool
def of_context(runtime: ToolRuntime[str, Any]) -> str:
    """Read the context of the program."""
    return str(runtime.context)

@tool
def of_store(key: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Read the store."""
    return store.get(("shop",), key).value["text"]

@tool
def writes(text: str) -> str:
    """Write to the custom stream."""
    get_stream_writer()(f"at {text}")
    return "written"

@tool(return_direct=True)
def final(text: str) -> str:
    """The answer itself."""
    return f"final {text}"

@tool("say-again", description="Another name")
def renamed(text: str) -> str:
    """A tool with another name."""
    return text

class Counts(BaseModel):
    """Arguments."""
    text: str = Field(description="what is counted")

def _count(text: str) -> str:
    return str(len(text))

count = StructuredTool.from_function(_count, name="count", description="Count", args_schema=Counts)

TOOLS = [
    fails_once, link, data_url, document, fraction, truth, instance, deep, paints, several, hands_over, asks, of_config, keeps, reports, checked,
    Classic(), TodoListMiddleware().tools[0],
    words, record, rows, number, nothing, long, defaults, maybe, choice, nested, many, mapping, moment, bounded, breaks, refuses,
    explains, artifact, blocks, picture, later, of_state, of_field, of_call, of_runtime, of_context, of_store, writes, final,
    renamed, count,
]
BY_NAME = {item.name: item for item in TOOLS}
'''
NAMES = [
    "fails_once",
    "link",
    "data_url",
    "document",
    "fraction",
    "truth",
    "instance",
    "deep",
    "paints",
    "several",
    "hands_over",
    "asks",
    "of_config",
    "keeps",
    "reports",
    "checked",
    "classic",
    "write_todos",
    "words",
    "record",
    "rows",
    "number",
    "nothing",
    "long",
    "defaults",
    "maybe",
    "choice",
    "nested",
    "many",
    "mapping",
    "moment",
    "bounded",
    "breaks",
    "refuses",
    "explains",
    "artifact",
    "blocks",
    "picture",
    "later",
    "of_state",
    "of_field",
    "of_call",
    "of_runtime",
    "of_context",
    "of_store",
    "writes",
    "final",
    "say_again",
    "count",
]
HEAD = """
name = "desk"
version = "1.0.0"
owner = "tests@example.com"
summary = "Tools of every kind"
source = "host"
host = "features_shop:TOOLS"
"""
ACTION = """
[actions.{name}]
summary = "One kind of tool"
touches = ["use own:desk"]
effect = "read"
"""
AGENT = """
name = "desk"
summary = "Uses tools of every kind"
model = "langchain:graph"
prompt = "prompt.md"
tools = ["desk"]
accept_parsed_arguments = true

[budget]
steps = 1000
calls = 1000
"""
RULES = """
# Everything of this agent is allowed
p, role:people, desk.*, **, True, allow
g, agent:desk, role:people
g, user:operator, role:people
"""


def features_workspace(folder: Path) -> Path:
    """Write the workspace. Its module lies beside remit.toml, from where Remit imports it."""
    errors = {"refuses": 'errors = ["tool_error"]\n', "explains": 'errors = ["tool_error"]\n'}
    files = {
        "remit.toml": 'host_tools = ["desk"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/desk/tool.toml": HEAD + "".join(ACTION.format(name=name) + errors.get(name, "") for name in NAMES),
        "policies/rules.csv": RULES,
        "agent/desk/agent.toml": AGENT,
        "agent/desk/prompt.md": "Use the tools.\n",
        "features_shop.py": SHOP,
    }
    write_workspace(folder, files)
    pin(folder)
    return folder
