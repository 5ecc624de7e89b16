"""The service over HTTP: decisions, calls and runs, and who may see them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio

from remit.client import AsyncRemit
from remit.core import RemitError, RunEnded
from remit.core.events import AnyEvent, RunStarted
from remit.journal import list_runs
from remit.journal.upkeep.erasure import erase
from remit.server import Service, serve
from remit.workspace import open_session
from support.events import append, ask, started, turn
from support.served import ISSUER, PEOPLE, Caller, answering, serving

READ: Any = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/payments-pool.md", "lines": 1}}
SECRET: Any = {"agent": "triage", "action": "files.read", "arguments": {"path": "secrets/payments.env"}}
CLOSE: Any = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}


# Opens a service as `remit serve` does, and prints what it has loaded of what only tokens, providers and pages need.
LOADED = """
import sys
from pathlib import Path
from remit.server import ROUTES, Service, build_app
from remit.server.authentication import Access
from remit.workspace import open_session

opened = [open_session(Path.cwd())]
build_app(Service(opened, Access(opened, secure=False)), ROUTES)
print([name for name in ("httpx", "jinja2", "joserfc") if name in sys.modules])
"""


@pytest_asyncio.fixture
async def caller(session: Path) -> AsyncIterator[Caller]:
    async with serving(session) as opened:
        yield opened


async def test_a_decision_is_that_of_the_client_and_nothing_is_recorded(caller: Caller) -> None:
    allowed, denied = await caller.post("/v1/decisions", READ), await caller.post("/v1/decisions", SECRET)
    assert (allowed.status, allowed.value["verdict"]) == (200, "allow")
    assert (denied.status, denied.value["verdict"], denied.value["reason"]) == (200, "deny", "denied_by_rule")
    unknown = await caller.post("/v1/decisions", {**READ, "action": "files.readd"})
    assert (unknown.status, unknown.code) == (400, "unknown_action")
    assert not list(list_runs(caller.service.workspaces["default"].journal))


async def test_a_call_runs_and_names_the_principal_that_asked(caller: Caller) -> None:
    made = await caller.post("/v1/calls", READ)
    assert (made.status, made.body["ok"]) == (200, True)
    journal = caller.service.workspaces["default"].journal
    recorded = journal.get(made.body["run"], "run.started/-/-/-")
    assert recorded is not None
    assert isinstance(recorded.event, RunStarted)
    by = recorded.event.by
    assert (by.subject, by.issuer, by.authenticated) == ("user:operator", ISSUER, "oidc")


async def test_a_refused_call_has_the_error_that_a_model_reads_and_the_status_of_its_code(caller: Caller) -> None:
    refused = await caller.post("/v1/calls", SECRET)
    assert (refused.status, refused.code) == (403, "policy_denied")
    assert refused.body["error"]["attempts"] == 0
    assert refused.body["run"]


async def test_a_call_that_needs_approval_is_accepted_with_its_request(caller: Caller) -> None:
    asked = await caller.post("/v1/calls", CLOSE)
    assert (asked.status, asked.code) == (202, "approval_required")
    approval = asked.body["approval"]
    assert approval["missing"] == [{"role": "role:oncall-lead", "count": 1}]
    assert approval["id"] == f"{asked.body['run']}/0.0"


async def test_a_repeated_call_with_one_key_happens_once(caller: Caller) -> None:
    first = await caller.post("/v1/calls", READ, key="order-7")
    again = await caller.post("/v1/calls", READ, key="order-7")
    assert (again.status, again.body["ok"]) == (200, True)
    assert (again.body["run"], again.body["value"]) == (first.body["run"], first.body["value"])
    other = await caller.post("/v1/calls", {**READ, "arguments": {"path": "runbooks/payments-pool.md"}}, key="order-7")
    assert (other.status, other.code) == (409, "conflict")
    dana = await caller.as_("dana").post("/v1/calls", READ, key="order-7")
    assert dana.body["run"] != first.body["run"], "a key belongs to its principal"


@pytest.mark.parametrize(
    ("recorded", "lives", "status", "fix"),
    [
        pytest.param((), False, 409, "with a new key", id="nothing of the call"),
        pytest.param((), True, 202, "send the same request", id="nothing yet, by a process that lives"),
        pytest.param(turn(0, ask()), False, 202, "/resume", id="its arguments"),
    ],
)
async def test_a_repeated_call_that_was_interrupted_says_whether_it_can_still_be_made(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, recorded: Sequence[AnyEvent], lives: bool, status: int, fix: str
) -> None:
    journal = caller.service.workspaces["default"].journal

    async def interrupted(*_: object, run_id: str, **__: object) -> NoReturn:
        for event in (started(model="call:files.read"), *recorded):
            append(journal, run_id, event)
        raise RunEnded("unrecorded", "the process ends", fix="")

    with monkeypatch.context() as patch:
        patch.setattr(AsyncRemit, "call", interrupted)
        await caller.post("/v1/calls", READ, key="order-8")
    ((run,),) = [list_runs(journal)]
    async with journal.lease(run.run) if lives else nullcontext():
        again = await caller.post("/v1/calls", READ, key="order-8")
    assert (again.status, again.body["ok"]) == (status, False)
    assert fix in again.body["error"]["next_step"]
    assert (await caller.post("/v1/calls", READ, key="order-9")).status == 200


async def test_a_repeated_call_whose_result_was_erased_says_so(caller: Caller) -> None:
    run = (await caller.post("/v1/calls", READ, key="order-10")).body["run"]
    journal = caller.service.workspaces["default"].journal
    erase(journal, run, *range(len(journal.events(run))))
    again = await caller.post("/v1/calls", READ, key="order-10")
    assert (again.status, again.code, again.body["run"]) == (409, "conflict", run)
    assert "was erased" in again.body["error"]["message"]


async def test_two_requests_with_one_key_at_the_same_time_start_one_run(caller: Caller) -> None:
    answers = await asyncio.gather(*(caller.post("/v1/calls", CLOSE, key="k") for _ in range(5)))
    assert {answer.status for answer in answers} == {202}
    other = await asyncio.gather(*(caller.post("/v1/calls", call, key="k2") for call in (CLOSE, READ, CLOSE)))
    one_body = ([202, 409, 202], [409, 200, 409])  # the one that comes first
    assert [answer.status for answer in other] in one_body, "another body at the same time is refused"
    assert len({answer.body["run"] for answer in answers}) == 1


async def test_a_run_starts_in_the_background_and_its_state_is_read_by_its_id(caller: Caller) -> None:
    started = await caller.post("/v1/runs", {"agent": "triage", "task": "Checkout is failing: find out why"})
    assert (started.status, started.value["agent"], started.value["user"]) == (202, "triage", "user:operator")
    run = started.value["run"]
    shown = await caller.get(f"/v1/runs/{run}")
    assert (shown.status, shown.value["run"]) == (200, run)
    waited = await caller.get(f"/v1/runs/{run[:9]}")
    assert waited.value["run"] == run


@pytest.mark.parametrize("path", ["/v1/runs/" + "0" * 32, "/v1/runs/..", "/v1/nothing", "/v1/runs/", "/"])
async def test_what_does_not_exist_is_not_found(caller: Caller, path: str) -> None:
    assert (await caller.get(path)).status == 404


async def test_who_is_not_authenticated_or_of_another_tenant_gets_nothing(caller: Caller) -> None:
    unknown = await caller.as_("nobody").post("/v1/decisions", READ)
    assert (unknown.status, unknown.code) == (401, "unauthenticated")
    foreign = await caller.as_("eve").post("/v1/decisions", READ)
    assert (foreign.status, foreign.code) == (403, "forbidden")


async def test_a_principal_whom_the_rules_do_not_let_start_runs_learns_nothing_of_the_rules(caller: Caller) -> None:
    zoe, dana = caller.as_("zoe"), caller.as_("dana")
    for path, body in (("/v1/decisions", READ), ("/v1/calls", READ), ("/v1/runs", {"agent": "triage", "task": "x"})):
        refused = await zoe.post(path, body)
        assert refused.status == 403
        assert refused.body["error"]["message"] == "the rules do not allow it"
    assert (await dana.post("/v1/decisions", READ)).status == 200


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        pytest.param(b'{"agent": "triage", "agent": "support"}', {}, "invalid_request", id="a key twice"),
        pytest.param(b'{"agent": NaN}', {}, "invalid_request", id="NaN"),
        pytest.param(b'{"a":' * 40 + b"1" + b"}" * 40, {}, "invalid_request", id="deep"),
        pytest.param(b"\xff\xfe", {}, "invalid_request", id="not UTF-8"),
        pytest.param(b'"\\ud800"', {}, "invalid_request", id="half a character"),
        pytest.param(b"[]", {}, "invalid_request", id="no object"),
        pytest.param(b"", {}, "invalid_request", id="nothing"),
        pytest.param(b"{}", {}, "invalid_request", id="keys missing"),
        pytest.param(b'{"x":"' + b"a" * 300_000 + b'"}', {}, "too_large", id="too long"),
        pytest.param(json.dumps(READ).encode(), {"content-type": "text/plain"}, "unsupported_media_type", id="a form"),
        pytest.param(json.dumps({**READ, "extra": 1}).encode(), {}, "invalid_request", id="an unknown key"),
        pytest.param(json.dumps(READ).encode(), {"host": "evil.example"}, "misdirected", id="another host"),
    ],
)
async def test_a_body_that_two_readers_could_read_differently_is_refused(
    caller: Caller, content: bytes, headers: dict[str, str], code: str
) -> None:
    refused = await caller.send("POST", "/v1/decisions", content=content, headers=headers)
    assert refused.code == code
    assert (await caller.send("POST", "/v1/decisions", content=json.dumps(READ).encode())).status == 200


def test_the_command_listens_on_loopback_and_ends_without_an_error(session: Path) -> None:
    marker = session / "remit.toml"
    marker.write_text(marker.read_text() + '\n[serve]\naddress = "127.0.0.1:0"\n')
    command = [sys.executable, "-m", "remit", "serve", "--json"]
    with subprocess.Popen(command, cwd=session, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["listening"]
        import httpx

        assert httpx.get(f"{url}/healthz").json() == {"ok": True, "value": {"status": "ready", "definition": "current"}}
        assert httpx.post(f"{url}/v1/decisions", json=READ).status_code == 401
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


async def test_the_body_of_an_answer_does_not_wait_until_the_client_has_acknowledged_its_head(session: Path) -> None:
    """The sockets that accept connections pass the option on to each of them; asyncio sets it on none of these."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with answering(Service([open_session(session)], PEOPLE), bound) as caller:
            assert (await caller.post("/v1/decisions", READ)).status == 200
            assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_service_that_is_cancelled_ends_in_order(session: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As by a signal: its journal is closed, nothing of it goes on, and no log has an error."""
    before, ready = asyncio.all_tasks(), asyncio.Event()
    service = Service([open_session(session)], PEOPLE)
    bound = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(serve(service, sockets=[bound], listening=lambda _: ready.set()))
    await asyncio.wait_for(ready.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert bound.fileno() == -1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    with pytest.raises(RemitError, match="closed"):
        await AsyncRemit(service.workspaces["default"].session).call("files.read", READ["arguments"], agent="triage")


def test_a_service_without_issuers_loads_nothing_for_tokens_for_providers_and_for_pages(session: Path) -> None:
    command = [sys.executable, "-c", LOADED]
    assert subprocess.run(command, cwd=session, capture_output=True, text=True, check=True).stdout == "[]\n"
