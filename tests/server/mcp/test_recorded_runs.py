"""Runs that MCP clients and coding agents drive are runs like any other: replay, what-if, backtest, shrink, observe mode and report."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from remit.client import AsyncRemit
from remit.core import ProposedCall
from remit.core.events import CallAnswered
from remit.journal import StoredRecord, list_runs
from remit.langchain import RemitMiddleware
from remit.runtime import new_run_id
from remit.server.driven import DrivenRuns
from remit.server.mcp.conversation import ClientCall, Conversation
from remit.workspace import open_session
from support.hooked import Hooks, with_pack
from support.mcp_clients import READ, SECRET
from support.principals import principal
from support.runs import Command
from support.served import serving
from support.workspaces.langchain import Scripted, says
from support.workspaces.ledger import environment, pin
from support.workspaces.mcp import made

LIST: Final = ("files_list", {"folder": "runbooks"})


async def by_mcp(folder: Path) -> str:
    """The run of an MCP client: it lists, reads, and is refused."""
    client = AsyncRemit(open_session(folder), principal("operator"))
    conversation = Conversation("triage", new_run_id(), DrivenRuns(1))
    for name, arguments in (LIST, READ, SECRET):
        proposed = ProposedCall(name=name.replace("_", "__"), arguments=json.dumps(arguments))
        await conversation.call(ClientCall(client=client, program="test", proposed=proposed))
    await conversation.end()
    await client.close()
    return the_run(folder)


async def by_hooks(folder: Path) -> str:
    """The run of a coding agent: it searches, reads, and is refused."""
    async with serving(folder) as caller:
        hooks = Hooks(caller, folder)
        await hooks.prompt("Look into it")
        for tool, given in (
            ("Glob", {"pattern": "*.md", "path": "runbooks"}),
            ("Read", {"file_path": "remit.toml"}),
            ("Read", {"file_path": "secrets/payments.env"}),
        ):
            await hooks.use(tool, **given)
        await hooks.stop()
    return the_run(folder)


def the_run(folder: Path) -> str:
    ((found),) = list_runs(open_session(folder).journal)
    return found.run


Made = Callable[[Path], Awaitable[str]]
WAYS: Final = {"mcp": (by_mcp, "rules.csv", "files.read"), "hooks": (by_hooks, "claude-code.csv", "claude_code.read")}


@pytest.mark.parametrize("way", WAYS)
def test_such_a_run_is_replayed_tried_under_other_rules_backtested_and_shrunk(
    session: Path, tmp_path: Path, command: Command, way: str
) -> None:
    make, rules, action = WAYS[way]
    if way == "hooks":
        with_pack(session)
    run = asyncio.run(make(session))
    same = command(session, "replay", run)
    assert (same.code, same.out.splitlines()[-1].startswith("reproduced")) == (0, True), same.out + same.err

    candidate = tmp_path / "candidate"
    shutil.copytree(session / "policies", candidate)
    with (candidate / rules).open("a") as more:
        more.write(f"# Nothing is read\np, user:operator, {action}, **, True, deny\n")
    other = command(session, "replay", run, "--policy", str(candidate), "--json")
    assert other.code == 1, other.out + other.err
    assert "deny" in other.out

    tested = command(session, "policy", "backtest", "--policy", str(candidate), "--json").json
    assert (tested["runs"], tested["uncovered"]) == (1, {})
    assert {(flip["action"], flip["before"], flip["after"]) for flip in tested["flips"]} == {(action, "allow", "deny")}

    smaller = tmp_path / "small.jsonl"
    words = ("--keep", f"code=policy_denied:{action}", "-o", str(smaller), "--json")
    shrunk = command(session, "trace", "shrink", run, *words)
    assert shrunk.code == 0, shrunk.out + shrunk.err
    assert [(part["action"], part["ended"]) for part in shrunk.json["parts"]] == [(action, "policy_denied")]
    assert command(session, "replay", str(smaller)).code == 0


async def searches(folder: Path, path: str, session: str = "s1") -> str:
    """What the hook of a search in that folder answers."""
    async with serving(folder) as caller:
        hooks = Hooks(caller, folder, session=session)
        await hooks.prompt("Look into it")
        answered = await hooks.use("Glob", pattern="*.md", path=path)
        await hooks.stop()
    return answered


def test_a_report_of_a_coding_agent_that_is_observed_proposes_the_rules_that_it_lacks(
    session: Path, command: Command
) -> None:
    folder = with_pack(session)
    agent = folder / "agent" / "claude-code" / "agent.toml"
    observed = 'mode = "observe"\nobserve_until = "2099-12-31"\n\n[budget]'
    agent.write_text(agent.read_text().replace("[budget]", observed))
    rules = folder / "policies" / "claude-code.csv"
    rules.write_text(
        "".join(line for line in rules.read_text().splitlines(keepends=True) if "claude_code.search," not in line)
    )
    assert asyncio.run(searches(folder, "runbooks")) == "unchanged"
    lacking = command(folder, "report", "claude-code", "--json")
    assert (lacking.code, lacking.json["calls"]) == (1, 1), lacking.out + lacking.err
    assert "claude_code.search, file:runbooks" in lacking.json["suggested"]["rules"]
    written = command(folder, "report", "claude-code", "--write", "--enforce", "claude_code.search", "--json")
    assert written.code == 0, written.out + written.err
    assert asyncio.run(searches(folder, "runbooks", "s2")) == "allow"
    assert asyncio.run(searches(folder, "tools", "s2")) == "policy_denied", "enforced from now on"


def test_an_agent_of_langchain_calls_the_tools_of_an_mcp_server_and_its_run_is_replayed(
    tmp_path: Path, command: Command
) -> None:
    folder = made(tmp_path)
    agent = folder / "agent/helper/agent.toml"
    graph = agent.read_text().replace("script:script.yaml", "langchain:graph") + "accept_parsed_arguments = true\n"
    agent.write_text(graph)
    pin(folder)
    remit = RemitMiddleware("helper", workspace=folder)
    turns = [says(("kit__read_file", {"path": "data/a.md"})), says(("kit__read_file", {"path": "secret"})), says()]
    graph_agent = create_agent(Scripted(turns=turns), [], middleware=[remit])
    state = graph_agent.invoke({"messages": [HumanMessage("Read it")]})
    remit.close()
    texts = [message.text for message in state["messages"] if message.type == "tool"]
    assert "decided" in texts[0], texts
    assert "SECRET" not in texts[1], texts
    run = the_run(folder)
    answered = StoredRecord(open_session(folder).journal, run).get("call.answered/0/0/-")
    assert isinstance(answered, CallAnswered)
    assert answered.result.labels == ("untrusted",)
    again = command(folder, "replay", run, env=environment(folder))
    assert again.code == 0, again.out + again.err
