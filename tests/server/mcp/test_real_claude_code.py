"""The real Claude Code, offline against a scripted model, as an MCP client of a governed agent. `make hooks` installs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from remit.cli.hook.model_apis import NativeCall
from remit.cli.hook.playing import play
from remit.client import AsyncRemit
from remit.journal import list_runs
from remit.workspace import open_session
from support.mcp_clients import CLOSE, READ, SECRET
from support.principals import principal
from support.service_process import service_process

CLAUDE: Final = os.environ.get("REMIT_CLAUDE", "")

pytestmark = pytest.mark.skipif(not CLAUDE, reason="REMIT_CLAUDE names no Claude Code: `make hooks` installs it")


def called(folder: Path, server: Mapping[str, Any], *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the model of Claude Code reads of these calls."""
    made = [NativeCall(tool=f"mcp__remit__{name}", given=given) for name, given in calls]
    played = play(CLAUDE, {}, folder, made, servers={"remit": server})
    assert len(played.results) == len(calls), played.output
    return [result_of(text) for text in played.results]


def result_of(text: str) -> Any:
    """Remit's result: Claude Code puts words of its own before and behind that of a failed call."""
    return json.JSONDecoder().raw_decode(text, text.index('{"ok"'))[0]


def codes(results: Sequence[Any]) -> list[str]:
    return ["ok" if item["ok"] else item["error"]["code"] for item in results]


async def test_its_calls_over_http_are_allowed_denied_approved_by_another_person_and_replayed(
    session: Path, tmp_path: Path
) -> None:
    (session / "agent/triage/incident/stores/tickets/tickets.lock").unlink()
    project, opened = tmp_path / "project", open_session(session)
    project.mkdir()
    with service_process(session, log=tmp_path / "log") as service:
        own = {"Authorization": "Bearer operator"}
        server = {"type": "http", "url": f"{service.url}/mcp/triage/chat-1", "headers": own}
        first = called(project, server, READ, SECRET, CLOSE)
        assert codes(first) == ["ok", "policy_denied", "approval_required"], first
        request = first[2]["approval"]["id"]
        with pytest.raises(Exception, match="did not start the run"):
            await AsyncRemit(opened, principal("operator")).approve(request)
        await AsyncRemit(opened, principal("dana")).approve(request, reason="seen")
        (closed,) = called(project, server, CLOSE)
    assert codes([closed]) == ["ok"], closed
    ((run),) = list_runs(opened.journal)
    assert (run.run, run.user, run.outcome, run.calls) == (closed["run"], "user:operator", "completed", 3)
    assert (await AsyncRemit(opened, principal("operator")).replay(run.run)).reproduced


async def test_its_calls_over_standard_input_and_output_are_one_run_that_is_replayed(
    session: Path, tmp_path: Path
) -> None:
    words = ["-m", "remit", "serve", "mcp", "triage", "--workspace", str(session)]
    passed = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    results = called(tmp_path, {"command": sys.executable, "args": words, "env": passed}, READ, SECRET)
    assert codes(results) == ["ok", "policy_denied"], results
    opened = open_session(session)
    ((run),) = list_runs(opened.journal)
    assert (run.outcome, run.calls) == ("completed", 2)
    assert (await AsyncRemit(opened, principal("operator")).replay(run.run)).reproduced
