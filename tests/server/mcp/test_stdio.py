"""`remit serve mcp`: the tools of an agent for one client over standard input and output, by the official client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from remit.client import AsyncRemit
from remit.core.events import RunStarted
from remit.journal import RunSummary, list_runs
from remit.workspace import open_session
from support.mcp_clients import CLOSE, ERAS, HELLO, READ, called
from support.principals import principal


@asynccontextmanager
async def connected(folder: Path, era: str = "auto") -> AsyncIterator[Client]:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "remit", "serve", "mcp", "triage", "--workspace", str(folder)],
        env=dict(os.environ),
    )
    async with Client(stdio_client(command), mode=era) as client:
        yield client


def runs(folder: Path) -> list[RunSummary]:
    return list(list_runs(open_session(folder).journal))


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_lists_and_calls_the_tools_and_the_run_ends_with_the_connection(session: Path, era: str) -> None:
    async with connected(session, era) as client:
        tools = (await client.list_tools()).tools
        assert [tool.title for tool in tools][:2] == ["files.list", "files.read"]
        assert len({json.dumps(tool.output_schema) for tool in tools}) == 1
        read = await called(client, *READ)
        denied = await called(client, "files_read", {"path": "secrets/payments.env"})
        unknown = await called(client, "files_destroy", {})
    assert (read["ok"], read["labels"], denied["run"]) == (True, ["untrusted"], read["run"])
    assert [denied["error"]["code"], unknown["error"]["code"]] == ["policy_denied", "unknown_action"]
    ((run),) = runs(session)
    assert (run.run, run.state, run.outcome, run.calls) == (read["run"], "finished", "completed", 3)


async def test_a_call_that_waits_is_made_once_a_person_has_approved_it_and_the_run_is_replayed(session: Path) -> None:
    (session / "agent/triage/incident/stores/tickets/tickets.lock").unlink()
    opened = open_session(session)
    lead, owner = (AsyncRemit(opened, principal(name)) for name in ("dana", "operator"))
    async with connected(session) as client:
        waits = await called(client, *CLOSE)
        assert (waits["error"]["code"], waits["approval"]["missing"][0]["role"]) == (
            "approval_required",
            "role:oncall-lead",
        )
        assert (await called(client, *READ))["ok"], "other calls go on meanwhile"
        assert (await called(client, *CLOSE))["approval"]["id"] == waits["approval"]["id"], "it is the same request"
        await lead.approve(waits["approval"]["id"], reason="seen")
        assert (await called(client, *READ))["ok"], "the run has read the approval"
        closed = await called(client, *CLOSE)
        again = await called(client, *CLOSE, meta={"io.remit/request": waits["approval"]["id"]})
    assert closed["ok"], closed
    assert again == closed, "by its request, an answer that was lost is read again"
    assert (await owner.replay(closed["run"])).reproduced


async def test_a_malformed_line_gets_one_structured_answer_and_the_next_message_is_served(session: Path) -> None:
    ping = '{"jsonrpc":"2.0","id":7,"method":"ping"}'
    lines = (
        '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        "[" * 40 + "]" * 40,
        "\udcff",
        '{"jsonrpc":"2.0","id":{},"method":"ping"}',
        f'{{"jsonrpc":"2.0","id":1,"method":"{"x" * 1024 * 1024}"}}',
        ping,
    )
    command = [sys.executable, "-m", "remit", "serve", "mcp", "triage", "--workspace", str(session)]
    given = "\n".join(lines).encode(errors="surrogateescape") + b"\n"
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    refused = [answer for answer in answers if "error" in answer]
    assert [answer["error"]["data"]["error"]["code"] for answer in refused] == ["invalid_request"] * 5
    assert [answer["id"] for answer in answers if "result" in answer] == [7]
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_client_that_ends_the_server_by_a_signal_ends_its_run(session: Path, number: int) -> None:
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": READ[0], "arguments": READ[1]}}
    command = [sys.executable, "-m", "remit", "serve", "mcp", "triage", "--workspace", str(session)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call):
            process.stdin.write(f"{json.dumps(message)}\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(number)
        assert process.wait(30) == 0, "its end of the input is still open"
    assert answers[1]["result"]["structuredContent"]["ok"], answers
    assert [run.outcome for run in runs(session)] == ["completed"]


async def test_the_account_of_the_process_is_who_asks_and_nothing_counts_as_the_words_of_a_user(session: Path) -> None:
    async with connected(session) as client:
        run = (await called(client, *READ))["run"]
    first = open_session(session).journal.get(run, "run.started/-/-/-")
    assert first is not None
    started = first.event
    assert isinstance(started, RunStarted)
    assert (started.by.authenticated, started.task, started.driver) == ("os_account", "", "mcp")
