"""The files of a workspace change while it is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from support.served import Caller, listening

READ: Any = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/payments-pool.md", "lines": 1}}
CLOSE: Any = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}
NEW_AGENT = """
name = "reader"
summary = "Reads files"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["files.read"]
folder = "work/reader/{run}"
seed = "agent/triage/incident"
"""


@pytest_asyncio.fixture
async def caller(session: Path) -> AsyncIterator[Caller]:
    async with listening(session) as opened:
        yield opened


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is so; a changed file is noticed within about a second, on a busy machine later."""
    for _ in range(300):
        if await look():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it was not so within half a minute")


async def until_definition(caller: Caller, state: str) -> None:
    async def is_so() -> bool:
        answer = await caller.send("GET", "/healthz")
        assert answer.value["status"] == "ready"
        return bool(answer.value["definition"] == state)

    await until(is_so)


async def test_a_new_agent_is_there_without_a_restart(session: Path, caller: Caller) -> None:
    folder = session / "agent" / "reader"
    asked = {**READ, "agent": "reader"}
    assert (await caller.post("/v1/calls", asked)).status == 404
    folder.mkdir()
    for name in ("script.yaml", "prompt.md"):
        (folder / name).write_text((session / "agent" / "triage" / name).read_text())
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text() + "\n# The reader reads\np, agent:reader, files.read, file:runbooks/**, True, allow\n"
    )
    (folder / "agent.toml").write_text(NEW_AGENT)

    async def is_there() -> bool:
        return (await caller.post("/v1/calls", asked)).status == 200

    await until(is_there)


async def test_while_files_are_not_valid_no_run_starts_and_the_answer_names_what_is_wrong(
    session: Path, caller: Caller
) -> None:
    manifest = session / "tools" / "files" / "tool.toml"
    whole = manifest.read_text()
    waiting = await caller.post("/v1/calls", CLOSE)
    assert waiting.status == 202
    manifest.write_text(whole + "\n[broken\n")
    await until_definition(caller, "invalid")
    for path, body in (("/v1/calls", READ), ("/v1/runs", {"agent": "triage", "task": "look"})):
        refused = await caller.post(path, body)
        assert (refused.status, refused.code) == (503, "unavailable")
        assert "tools/files/tool.toml" in refused.body["error"]["message"]
        assert refused.body["error"]["next_step"]
    assert "remit_definition_invalid 1" in (await caller.send("GET", "/metrics")).body
    # What goes on keeps its definition.
    approval = waiting.body["approval"]["id"]
    granted = await caller.as_("dana").post(f"/v1/approvals/{approval}/reject", {"reason": "wrong ticket"})
    assert granted.status == 200

    async def has_ended() -> bool:
        shown = await caller.send("GET", f"/v1/runs/{waiting.body['run']}")
        return bool(shown.value["state"] == "finished")

    await until(has_ended)
    manifest.write_text(whole)
    await until_definition(caller, "current")
    assert (await caller.post("/v1/calls", READ)).status == 200
    assert "remit_definition_invalid 0" in (await caller.send("GET", "/metrics")).body


async def test_code_that_changes_is_refused_until_it_is_pinned_again(session: Path, caller: Caller) -> None:
    assert (await caller.post("/v1/calls", READ)).status == 200
    code = session / "tools" / "files" / "main.py"
    whole = code.read_text()
    code.write_text(whole + "\n# another line\n")

    async def is_refused() -> bool:
        return (await caller.post("/v1/calls", READ)).status != 200

    await until(is_refused)
    code.write_text(whole)

    async def is_allowed() -> bool:
        return (await caller.post("/v1/calls", READ)).status == 200

    await until(is_allowed)


async def test_settings_of_the_open_journal_start_no_run_and_those_of_the_start_are_named(
    session: Path, caller: Caller
) -> None:
    marker = session / "remit.toml"
    whole = marker.read_text()
    marker.write_text(whole + "\n[serve]\nruns = 7\n")
    await until_definition(caller, "restart")
    assert (await caller.post("/v1/calls", READ)).status == 200
    marker.write_text('tenant = "other"\n' + whole)
    await until_definition(caller, "invalid")
    refused = await caller.post("/v1/calls", READ)
    assert (refused.status, refused.body["error"]["next_step"]) == (503, "start the service again")
