"""Drives a run: by the graph of its agent's author if it has one, else by Remit's own loop.

The graph runs in a thread and an event loop of its own, so that what it computes never stops the leases and time limits of the
broker. It gets its turns and results from Remit's event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from remit.broker import wall_end
from remit.core import ToolSpec, UsageError, in_own_thread
from remit.core.events import NANO, RunFinished
from remit.runtime.custom_graph.parts import GraphModel, GraphParts, OfferedAction
from remit.runtime.custom_graph.turns import Stopped, Turns
from remit.runtime.graph import AgentGraph, CustomGraph, Paused, WaitForChange, drive_turns
from remit.runtime.loop import drive_loop

MAX_STEPS: Final = 1000  # nodes that a graph may run one after the other: LangGraph ends a graph that runs more
_NUMBERS: Final = itertools.count()

_T = TypeVar("_T")


async def drive(agent_graph: AgentGraph, wait_for_change: WaitForChange) -> bool:
    """Continue the run to its end. False if it waits and `wait_for_change` gave up."""
    custom, started = agent_graph.custom, agent_graph.record.state.started
    if started is not None and started.driver == "mcp":
        return await drive_turns(agent_graph, wait_for_change)
    if custom is None:
        return await drive_loop(agent_graph, wait_for_change)
    while True:
        await _Execution(agent_graph, custom).run()
        await agent_graph.record.commit()
        if agent_graph.record.state.finished:
            return True
        if not await wait_for_change():
            return False


class _Execution:
    """One execution of the graph, from its beginning to its end or to where it waits. Implements `GraphSide`."""

    def __init__(self, agent_graph: AgentGraph, custom: CustomGraph) -> None:
        self._graph = agent_graph
        self._custom = custom
        self._turns = Turns(agent_graph, custom)
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._over = False
        self._failure: BaseException | None = None  # of Remit, which the graph may have caught

    async def run(self) -> None:
        """Execute the graph. Raises what keeps the run from going on, also if the graph caught it."""
        await self._turns.look_up()
        record, broker = self._graph.record, self._graph.broker
        left = (wall_end(record.state, broker.agent.budget) - broker.ports.clock(record.state.step + 1, -1)) / NANO
        try:
            answer, failure = await asyncio.wait_for(in_own_thread(self._execute), max(left, 0.0))
        except TimeoutError:
            self._over = True
            await self._turns.settle()
            if not record.state.finished:
                message = f"the run has used all of its {broker.agent.budget.wall:g} s"
                record.append(RunFinished(outcome="exhausted", code="budget_exhausted", message=message))
            return
        finally:
            self._over = True
        if self._failure is not None:
            raise self._failure
        if record.state.finished or self._paused or self._turns.waits:
            return
        if failure:
            self._turns.fail(failure)
        else:
            await self._turns.end(answer)

    # ── in the graph's thread ────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, messages: Sequence[BaseMessage], offered: Sequence[ToolSpec]) -> AIMessage:
        return self._sync(self._turns.ask(messages, offered))

    async def aask(self, messages: Sequence[BaseMessage], offered: Sequence[ToolSpec]) -> AIMessage:
        return await self._async(self._turns.ask(messages, offered))

    def call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        return self._sync(self._turns.call(name, arguments, call_id))

    async def acall(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        return await self._async(self._turns.call(name, arguments, call_id))

    def _sync(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._interrupting(work):
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _async(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._interrupting(work):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    @contextmanager
    def _interrupting(self, work: Coroutine[Any, Any, Any]) -> Generator[None]:
        """Interrupt the graph where the run waits, and keep every failure of Remit."""
        if self._over or self._failure is not None:
            work.close()
            raise Stopped
        try:
            yield
        except Paused as paused:
            self._paused = True
            interrupt(paused.why)
            raise
        except (Stopped, UsageError, asyncio.CancelledError):  # the end is in the record; or an error of the graph
            raise
        except BaseException as failure:
            self._failure = failure
            raise

    def _execute(self) -> tuple[str, str]:
        """The answer of the graph, or "" and why it failed."""
        try:
            return asyncio.run(self._play()), ""
        except UsageError as failure:
            return "", str(failure)
        except Exception as failure:  # noqa: BLE001 - the code of an author may raise anything
            return "", _explain(failure, self._custom)

    async def _play(self) -> str:
        with _loaded(self._custom) as build:
            graph: Any = build(self._parts())
            if inspect.isawaitable(graph):
                graph = await graph
            if not hasattr(graph, "ainvoke"):
                raise UsageError(f"{self._custom.factory.entry} returned no compiled graph: return graph.compile(…)")
            started = self._graph.record.state.started
            assert started is not None  # the run has begun
            settings: Any = {"configurable": {"thread_id": self._graph.record.run}, "recursion_limit": MAX_STEPS}
            state: Any = await graph.ainvoke({"messages": [HumanMessage(started.task)]}, settings)
        if isinstance(state, dict) and "__interrupt__" in state and not self._paused:
            raise UsageError(
                "the graph interrupted itself, and no one can answer it: use a rule that asks for an approval"
            )
        return _answer_of(state)

    def _parts(self) -> GraphParts:
        specs = tuple(self._graph.tools)
        return GraphParts(
            model=GraphModel(side=self, specs=specs, own=self._custom.factory.calls),
            tools=[OfferedAction.of(spec, self) for spec in specs],
            checkpointer=InMemorySaver(),
            prompt=self._graph.broker.agent.prompt,
        )


@contextmanager
def _loaded(custom: CustomGraph) -> Generator[Callable[[GraphParts], Any]]:
    """The function that builds the graph, from a fresh module of the recorded text: runs share nothing of it."""
    factory = custom.factory
    module = ModuleType(f"remit_graph_{next(_NUMBERS)}")
    module.__file__ = factory.file
    sys.modules[module.__name__] = module  # for annotations, which Python resolves by the module of a class
    try:
        exec(compile(custom.source, factory.file, "exec"), module.__dict__)  # noqa: S102 - the reviewed text, see `graph_of`
        build = getattr(module, factory.function, None)
        if not callable(build):
            raise UsageError(f"{factory.file} has no function {factory.function!r}, which `graph` in agent.toml names")
        yield cast("Callable[[GraphParts], Any]", build)
    finally:
        sys.modules.pop(module.__name__, None)


def _answer_of(state: Any) -> str:
    """The text of the last message of the final state; "" without one."""
    fields: Any = state  # a mapping, or an object
    messages: Any = fields.get("messages") if isinstance(state, dict) else getattr(fields, "messages", None)
    last = messages[-1] if messages else None
    return str(last.text) if isinstance(last, BaseMessage) else ""


def _explain(failure: Exception, custom: CustomGraph) -> str:
    """The failure of a graph, with the line of its file."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == custom.factory.file
    ]
    where = f"{custom.factory.file}:{lines[-1]}" if lines else custom.factory.file
    return f"the graph failed at {where}: {type(failure).__name__}: {failure}"
