"""MCP clients over HTTP: who asks, which conversation, what they are offered, and what is refused before anything is decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from mcp_types import ElicitResult

from remit.client import AsyncRemit
from remit.core import Principal
from remit.journal import RunSummary, list_runs
from remit.server.http.answers import STATUS
from remit.workspace import open_session
from support.mcp_clients import CLOSE, ERAS, HELLO, READ, SECRET, McpService, called, mcp_service
from support.principals import principal

LIST: Final[Any] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest_asyncio.fixture
async def service(session: Path) -> AsyncIterator[McpService]:
    async with mcp_service(session) as opened:
        yield opened


def runs(service: McpService) -> list[RunSummary]:
    return list(list_runs(service.caller.service.workspaces["default"].journal))


def acting(service: McpService, by: Principal) -> AsyncRemit:
    client: AsyncRemit = service.caller.service.workspaces["default"].client(by)
    return client


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_calls_tools_as_the_user_of_its_token(service: McpService, era: str) -> None:
    async with service.client(era=era) as client:
        read, denied = await called(client, *READ), await called(client, *SECRET)
    assert (read["ok"], denied["error"]["code"], read["run"]) == (True, "policy_denied", denied["run"])
    ((run),) = runs(service)
    assert (run.user, run.labels, run.state) == ("user:operator", ("untrusted",), "running")


async def test_the_list_has_what_the_rules_may_allow_to_the_principal_and_changes_with_the_rules(
    service: McpService, session: Path
) -> None:
    changed = asyncio.Event()

    async def received(message: object) -> None:
        if type(message).__name__ == "ToolListChangedNotification":
            changed.set()

    async with service.client(era="legacy", message_handler=received) as client:
        before = [tool.name for tool in (await client.list_tools()).tools]
        rules = session / "policies" / "rules.csv"
        lines = [line for line in rules.read_text().splitlines() if "agent:triage, tickets.close" not in line]
        rules.write_text("\n".join(lines) + "\n")
        async with asyncio.timeout(20):
            await changed.wait()
        after = [tool.name for tool in (await client.list_tools()).tools]
    assert set(before) - set(after) == {"tickets_close"}
    with (session / "policies" / "remit.csv").open("a") as rights:
        rights.write("\ng, user:mara, role:runner\n")
    await asyncio.sleep(1.1)
    async with service.client("mara") as client:
        assert (await client.list_tools()).tools == []
        assert (await called(client, *READ))["error"]["code"] == "policy_denied", "and a call is refused all the same"


async def test_the_address_names_the_conversation_and_each_principal_has_their_own(service: McpService) -> None:
    found: dict[tuple[str, str], str] = {}
    for name in ("operator", "dana"):
        for path in ("/mcp/triage", "/mcp/triage/chat-1", "/mcp/triage"):
            async with service.client(name, path) as client:
                run = (await called(client, *READ))["run"]
            assert found.setdefault((name, path), run) == run
    assert len(set(found.values())) == 4


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("answers", ["accept", "decline"])
async def test_a_client_that_can_opens_the_page_of_the_request_and_its_own_user_cannot_approve(
    service: McpService, era: str, answers: str
) -> None:
    asked: list[Any] = []
    refused: list[str] = []

    async def elicited(_: object, params: Any) -> ElicitResult:
        asked.append(params)
        waits = (await acting(service, principal("dana")).approvals())[0]
        try:
            await acting(service, principal("operator")).approve(waits)
        except Exception as error:  # noqa: BLE001 - which one is checked below
            refused.append(str(error))
        if answers == "accept":
            await acting(service, principal("dana")).approve(waits)
        return ElicitResult(action=answers)  # type: ignore[arg-type]  # one of its literals

    async with service.client(era=era, elicitation_callback=elicited) as client:
        result = await called(client, *CLOSE)
    ((question),) = asked
    assert (question.mode, question.url.rpartition("/")[0]) == ("url", f"{service.url}/approvals")
    assert len(refused) == 1
    if answers == "decline":
        assert result["error"]["code"] == "approval_required"
    else:
        assert result["ok"], result
    page = await service.send(b"", method="GET", path="/approvals/" + question.url.rpartition("/")[2])
    assert page.status_code in (303, 403), "the page asks who they are"


async def test_a_stolen_state_of_a_question_and_a_foreign_session_are_refused(service: McpService) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
    }

    async def call(name: str, state: str | None, **arguments: str) -> dict[str, Any]:
        params: dict[str, Any] = {"name": CLOSE[0], "arguments": {**CLOSE[1], **arguments}, "_meta": meta}
        if state is not None:
            params |= {"requestState": state, "inputResponses": {"approval": {"action": "decline"}}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": CLOSE[0]}
        answer = await service.send(body, name=name, **headers)
        return dict(answer.json())

    state = (await call("operator", None))["result"]["requestState"]
    assert (await call("operator", state))["result"]["structuredContent"]["error"]["code"] == "approval_required"
    for name, given, arguments in (
        ("dana", state, {}),
        ("operator", f"{state}x", {}),
        ("operator", state, {"reason": "z"}),
    ):
        assert (await call(name, given, **arguments))["error"]["code"] == -32602
    begun = await service.send(HELLO)
    session = begun.headers["mcp-session-id"]
    assert (await service.send(LIST, mcp_session_id=session)).status_code == 200
    for name, path in (("dana", "/mcp/triage"), ("operator", "/mcp/triage/other"), ("operator", "/mcp/support")):
        assert (await service.send(LIST, name=name, path=path, mcp_session_id=session)).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}', {}, 400, id="a key twice"),
        pytest.param(b"[" * 50 + b"]" * 50, {}, 400, id="deep"),
        pytest.param(b'{"a":"' + b"x" * 300_000 + b'"}', {}, 413, id="large"),
        pytest.param(b'{"id":1e999}', {}, 400, id="a number of no size"),
        pytest.param(b"\xff", {}, 400, id="no UTF-8"),
        pytest.param(b"[]", {}, 400, id="a batch"),
        pytest.param(HELLO, {"origin": "https://evil.example"}, 403, id="another site"),
        pytest.param(HELLO, {"host": "evil.example"}, 421, id="another host"),
        pytest.param(HELLO, {"content_type": "text/plain"}, 415, id="no JSON"),
    ],
)
async def test_what_is_malformed_or_misdirected_gets_one_structured_answer(
    service: McpService, body: Any, headers: dict[str, str], status: int
) -> None:
    answer = await service.send(body, **headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert isinstance(error["code"], str) or "data" in error, error  # Remit's own error, not one of the library
    code = error["data"]["error"]["code"] if isinstance(error["code"], int) else error["code"]
    assert STATUS[code] == status
    assert (await service.send(HELLO)).status_code == 200, "and the next one is served"
    assert runs(service) == []


async def test_without_a_token_the_answer_says_where_to_get_one_and_one_for_another_resource_is_refused(
    session: Path,
) -> None:
    async with mcp_service(session, audience="http://127.0.0.1/mcp") as service, httpx.AsyncClient() as http:
        answer = await http.post(f"{service.url}/mcp/triage", json=HELLO)
        says = answer.headers["www-authenticate"]
        where = says.partition('resource_metadata="')[2].rstrip('"')
        described = (await http.get(where)).json()
        other = await service.send(
            HELLO, authorization=f"Bearer {service.token('operator', aud='https://other.example')}"
        )
    assert (answer.status_code, where) == (401, f"{service.url}/.well-known/oauth-protected-resource/mcp/triage")
    assert described["authorization_servers"] == ["https://login.example.com"]
    assert described["resource"] == f"{service.url}/mcp/triage"
    assert (other.status_code, 'error="invalid_token"' in other.headers["www-authenticate"]) == (401, True)


async def test_who_may_not_run_the_agent_gets_no_session(service: McpService) -> None:
    assert (await service.send(HELLO, path="/mcp/nothing")).status_code in (403, 404)
    assert (await service.send(HELLO, path="/mcp/triage/..%2Fx")).status_code == 404
    assert (await service.send(HELLO, name="mallory")).status_code == 403


async def test_the_end_of_the_service_ends_idle_runs(session: Path) -> None:
    async with mcp_service(session) as service, service.client() as client:
        await called(client, *READ)
    assert [run.outcome for run in list_runs(open_session(session).journal)] == ["completed"]
