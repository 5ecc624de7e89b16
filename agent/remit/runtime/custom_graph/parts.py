"""What the author's function gets: a chat model and tools whose turns and calls are those of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import Field

from remit.core import ToolSpec, UsageError, called_action
from remit.runtime.custom_graph.messages import spec_of


class ActionSide(Protocol):
    """Carries out the calls of a graph's `OfferedAction`, in its threads and in its event loop."""

    def call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage: ...
    async def acall(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage: ...


class GraphSide(ActionSide, Protocol):
    """The side of an execution that the graph's threads and event loop call."""

    def ask(self, messages: Sequence[BaseMessage], offered: Sequence[ToolSpec]) -> AIMessage: ...
    async def aask(self, messages: Sequence[BaseMessage], offered: Sequence[ToolSpec]) -> AIMessage: ...


@dataclass(frozen=True, kw_only=True)
class GraphParts:
    """What the function that `graph` names gets. It returns a compiled graph, whose state has `messages`.

    `model` is the model of the run, `tools` are the actions of the agent, `prompt` is the text of its prompt. Each turn of the
    model and each call of these tools is decided, recorded and repeated as in a run of Remit's own loop. `checkpointer` keeps
    the state of one execution.
    """

    model: BaseChatModel
    tools: Sequence[BaseTool]
    checkpointer: BaseCheckpointSaver[str]
    prompt: str

    def only(self, *actions: str) -> list[BaseTool]:
        """The tools of these actions, `sql.query`, or of all actions of a tool, `sql`. Raises UsageError for another name."""
        chosen: list[BaseTool] = []
        for name in actions:
            found = [
                tool for tool in self.tools if name in (action := called_action(tool.name), action.partition(".")[0])
            ]
            if not found:
                known = ", ".join(called_action(tool.name) for tool in self.tools) or "none"
                raise UsageError(f"the agent has no action {name!r}: add it to `tools` in agent.toml; it has {known}")
            chosen.extend(found)
        return chosen


class GraphModel(BaseChatModel):
    """The model of the run, as a chat model of LangChain. `own` are the functions of the graph that it may be offered."""

    side: Any = Field(exclude=True, repr=False)
    specs: tuple[ToolSpec, ...] = ()
    own: tuple[str, ...] = ()
    offered: tuple[ToolSpec, ...] = ()

    @property
    def _llm_type(self) -> str:
        return "remit"

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **options: Any) -> Any:
        """The model with these tools. It decides itself whether it calls one: `tool_choice` has no effect.

        Raises UsageError for a function of the graph that agent.toml does not name, or that has the name of an action.
        """
        known = {spec.name: spec for spec in self.specs}
        offered = [
            known[tool.name] if isinstance(tool, OfferedAction) else self._own_spec(tool, known) for tool in tools
        ]
        return self.model_copy(update={"offered": tuple(offered)})

    def _own_spec(self, tool: Any, known: Mapping[str, ToolSpec]) -> ToolSpec:
        """A function of the graph itself, if agent.toml names it."""
        spec = spec_of(tool)
        if spec.name in known:
            raise UsageError(f"the graph has a function {spec.name!r}, which is the name of an action: rename it")
        if spec.name not in self.own:
            fix = f'add "{spec.name}" to `graph_calls` in agent.toml, or offer it an action of the agent'
            raise UsageError(f"the graph offers its own function {spec.name!r} to its model: {fix}")
        return spec

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        return _result(self.side.ask(messages, self.offered))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        return _result(await self.side.aask(messages, self.offered))


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


class OfferedAction(BaseTool):
    """One action of an agent, as a tool of LangChain. `side` carries out its calls."""

    side: Any = Field(exclude=True, repr=False)  # excluded, so that a tracer does not serialize it

    @classmethod
    def of(cls, spec: ToolSpec, side: ActionSide) -> Self:
        return cls(name=spec.name, description=spec.description, args_schema=spec.input, side=side)

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Pass the input on unchanged: LangChain would parse, coerce or drop arguments before the decision."""
        return (), {"arguments": tool_input, "call_id": tool_call_id}

    def _run(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = self.side.call(self.name, arguments, call_id, config)
        return message if call_id else message.content

    async def _arun(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = await self.side.acall(self.name, arguments, call_id, config)
        return message if call_id else message.content
