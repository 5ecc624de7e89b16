"""Whatever an MCP client sends: one structured answer, no crash, and the next message is served."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx

from support.http_servers import mutate
from support.mcp_clients import McpService, mcp_service
from support.request_log import note, skip_if_sent

MESSAGES: Final = int(os.environ.get("REMIT_MCP_MESSAGES", "300"))  # `make requests` has 10,000
AT_ONCE: Final = 4
REVISION: Final = "2026-07-28"
META: Final[Any] = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
}
LIST: Final[Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
CALL: Final[Any] = {
    "jsonrpc": "2.0",
    "id": "a",
    "method": "tools/call",
    "params": {"name": "files_read", "arguments": {"path": "secrets/payments.env"}, "_meta": META},
}
ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    1e300,
    "",
    "x" * 500,
    "\u202e",
    [],
    [[]],
    {},
    {"": {}},
    {"$ref": "#"},
    "tools/list",
    "notifications/cancelled",
    "initialize",
    "subscriptions/listen2",
    "../../etc/passwd",
)
HEADERS: Final = ("mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "accept", "origin")


def changed(dice: random.Random) -> tuple[bytes, dict[str, str]]:
    """A body and headers with something wrong about them."""
    message = json.loads(json.dumps(dice.choice([LIST, CALL])))
    headers = {"mcp-protocol-version": REVISION, "mcp-method": message["method"]}
    if message["method"] == "tools/call":
        headers["mcp-name"] = "files_read"
    way = dice.randrange(4)
    if way == 0:
        return mutate(json.dumps(message).encode(), dice), headers
    if way == 1:
        place: Any = message
        while True:
            key = dice.choice(list(place))
            if isinstance(place[key], dict) and place[key] and dice.random() < 0.6:
                place = place[key]
                continue
            place[key] = dice.choice(ODD)
            return json.dumps(message).encode(), headers
    if way == 2:
        headers[dice.choice(HEADERS)] = dice.choice(["", "x", "2025-11-25", "2026-07-28", "*/*", "null", "a" * 3000])
        return json.dumps(message).encode(), headers
    text = json.dumps(message)
    return text.replace('"method"', '"id": 2, "method"', 1).encode(), headers


async def test_whatever_bytes_a_client_sends_the_service_answers_and_goes_on(session: Path) -> None:
    skip_if_sent("messages of MCP clients", MESSAGES)
    dice, seen = random.Random(20261130), Counter[int]()
    async with mcp_service(session) as service, httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        token = service.token("operator")

        async def send(body: bytes, headers: dict[str, str]) -> None:
            own = {
                "authorization": f"Bearer {token}",
                "content-type": "application/json",
                "accept": "application/json, text/event-stream",
            }
            answer = await client.post("/mcp/triage/fuzz", content=body, headers={**own, **headers})
            assert answer.status_code < 500, (body, headers, answer.text)
            if answer.content and answer.headers["content-type"] == "application/json":
                assert {"error", "result"} & set(answer.json()), (body, headers, answer.text)
            seen[answer.status_code] += 1

        for _ in range(0, MESSAGES, AT_ONCE):
            await asyncio.gather(*(send(*changed(dice)) for _ in range(AT_ONCE)))
        assert await lists(service), "the service goes on"
    assert sum(seen.values()) >= MESSAGES
    assert {200, 400} <= set(seen)
    note("messages of MCP clients", MESSAGES, seen)


async def lists(service: McpService) -> bool:
    async with service.client() as client:
        return bool((await client.list_tools()).tools)
