"""The ways into Remit, each behind the same two methods: a further one adds a class and its line in `ENTRY_POINTS`."""

from __future__ import annotations

import asyncio
import importlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from remit import Remit
from remit.langchain import RemitMiddleware
from support import cli_server
from support.hooked import Hooks, decision, refusal_of
from support.principals import principal
from support.served import serving
from support.workspaces.langchain import Scripted, says
from support.workspaces.ledger import environment
from support.workspaces.native import RETURNED, tool_of

Arguments = Mapping[str, Any]
TASK: Final = "keep the ledger"
BY: Final = principal("operator", account="tester")


class EntryPoint(Protocol):
    """Drives the agent `clerk` of a ledger workspace."""

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        """Let the agent make these calls in one run, one in a turn. Its script in the workspace says the same."""
        ...

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any] | None:
        """Make one call as the agent; returns its result as the entry point gives it, without the id of the run.

        None: the program that made the call is paused until people have answered.
        """
        ...


class CommandLine:
    """`remit run` and `remit call`, in processes of their own."""

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        cli_server.command(folder, "run", "clerk", TASK, "--json", env=environment(folder))

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any]:
        given = (action, json.dumps(arguments), "--agent", "clerk", "--json")
        return _without_run(cli_server.command(folder, "call", *given, env=environment(folder)).json)


@dataclass(frozen=True, kw_only=True)
class Python:
    """`from remit import Remit`."""

    agent: str = "clerk"

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        with Remit.open(folder, principal=BY) as client:
            client.run(self.agent, TASK)

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any]:
        with Remit.open(folder, principal=BY) as client:
            made = client.call(action, arguments, agent=self.agent).result.model_dump(mode="json")
            return _without_run(made)


class LangChain:
    """An agent of LangChain under `RemitMiddleware`, whose model makes the calls."""

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        self._results(folder, calls)

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any] | None:
        return next(iter(self._results(folder, [(action, arguments)])), None)

    def _results(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> list[dict[str, Any]]:
        remit = RemitMiddleware("clerk", workspace=folder, principal=lambda _: BY)
        try:
            turns = [says((_name_in_graph(action), dict(arguments))) for action, arguments in calls]
            tools = importlib.import_module("ledger_host").ACTIONS
            agent = create_agent(Scripted(turns=turns), tools, middleware=[remit], checkpointer=InMemorySaver())
            thread: Any = {"configurable": {"thread_id": secrets.token_hex(8)}}
            state = agent.invoke({"messages": [HumanMessage(TASK)]}, thread)
            return [json.loads(str(item.content)) for item in state["messages"] if isinstance(item, ToolMessage)]
        finally:
            remit.close()


class Http:
    """`remit serve`: `/v1/runs` and `/v1/calls`."""

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        asyncio.run(self._run(folder))

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any]:
        asked = {"agent": "clerk", "action": action, "arguments": dict(arguments)}
        return _without_run(asyncio.run(self._post(folder, "/v1/calls", asked)))

    async def _run(self, folder: Path) -> None:
        """Start a run and wait until it ends or waits for people, who do not answer here."""
        async with serving(folder) as caller:
            run = (await caller.post("/v1/runs", {"agent": "clerk", "task": TASK})).value["run"]
            while (await caller.get(f"/v1/runs/{run}")).value["state"] in ("running", "ready"):
                await asyncio.sleep(0.05)

    async def _post(self, folder: Path, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with serving(folder) as caller:
            made: dict[str, Any] = (await caller.post(path, body)).body
            return made


class Mcp:
    """`remit serve`: an MCP client at `/mcp/AGENT`. A call alone is made at an address of its own."""

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        asyncio.run(self._call(folder, "/mcp/clerk", calls))

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any]:
        path = f"/mcp/clerk/{secrets.token_hex(8)}"
        return _without_run(asyncio.run(self._call(folder, path, [(action, arguments)]))[0])

    async def _call(self, folder: Path, path: str, calls: Sequence[tuple[str, Arguments]]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        async with serving(folder) as caller:
            for action, arguments in calls:
                name = action.replace(".", "_")
                params = {"name": name, "arguments": dict(arguments), "_meta": _META}
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                headers = {"mcp-protocol-version": _REVISION, "mcp-method": "tools/call", "mcp-name": name}
                accept = {"accept": "application/json, text/event-stream"}
                answer = await caller.send("POST", path, body, headers={**headers, **accept})
                made.append(answer.body["result"]["structuredContent"])
        return made


@dataclass(frozen=True, kw_only=True)
class CodingAgent:
    """The hooks of a coding agent, whose model makes the calls by its tool Bash: `look ann 'a text'`. It carries them out itself.

    With `fails` each of its commands fails.
    """

    client: str = "claude-code"
    fails: bool = False

    def run(self, folder: Path, calls: Sequence[tuple[str, Arguments]]) -> None:
        asyncio.run(self._session(folder, calls, TASK))

    def call(self, folder: Path, action: str, arguments: Arguments) -> dict[str, Any] | None:
        """Make the call as the first one of a session, before any prompt. None: it runs, and its result is not Remit's."""
        return asyncio.run(self._session(folder, [(action, arguments)]))

    async def _session(self, folder: Path, calls: Sequence[tuple[str, Arguments]], prompt: str = "") -> Any:
        """What the model reads of the last call; None if that runs."""
        refused = None
        async with serving(folder) as caller:
            hooks = Hooks(caller, folder, session=secrets.token_hex(8), client=self.client)
            if prompt:
                await hooks.prompt(prompt)
            for action, arguments in calls:
                answer = await hooks.before("Bash", command=command_of(action, arguments))
                refused = None if decision(answer) in RUNS else _without_run(refusal_of(answer))
                if refused is None:
                    await (hooks.failed("Bash", "exit 1") if self.fails else hooks.after("Bash", RETURNED))
            await hooks.stop("done")
        return refused


RUNS: Final = ("allow", "unchanged")  # Codex reads an empty answer as: go on


def command_of(action: str, arguments: Arguments) -> str:
    """The call as a command of a shell."""
    name, *rest = (str(value) for value in arguments.values())
    return " ".join([action.partition(".")[2], name, *(f"'{text}'" for text in rest if text)])


def native_call(client: str, action: str, arguments: Arguments) -> tuple[str, Arguments]:
    """The call as the action that the hooks of the coding agent make of that command."""
    named = {"program": action.partition(".")[2], "verb": str(arguments["name"]), "paths": [], "outside": []}
    return f"{tool_of(client)}.program", {**named, "input": {"command": command_of(action, arguments)}}


_REVISION: Final = "2026-07-28"
_META: Final[dict[str, Any]] = {
    "io.modelcontextprotocol/protocolVersion": _REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def _name_in_graph(action: str) -> str:
    """The graph's own tools have their own names, and those that Remit adds the names of their actions."""
    return action.removeprefix("ledger.").replace(".", "__")


ENTRY_POINTS: Final[Mapping[str, EntryPoint]] = {
    "command line": CommandLine(),
    "Python": Python(),
    "LangChain": LangChain(),
    "HTTP": Http(),
    "MCP": Mcp(),
}


def _without_run(result: dict[str, Any]) -> dict[str, Any]:
    """The result alone: some entry points say beside it which run recorded it."""
    return {name: value for name, value in result.items() if name not in ("run", "trace", "approval")}
