"""Whatever is sent: the service answers as its OpenAPI document says, without a server error, and goes on."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from remit.server import ROUTES
from remit.server.http.openapi import openapi
from support import CORPORA
from support.http_servers import mutate
from support.request_log import note, skip_if_sent
from support.service_process import ServiceProcess, service_process
from support.workspaces.ledger import environment, ledger_workspace, use

REQUESTS: Final = int(os.environ.get("REMIT_REQUESTS", "600"))  # `make requests` has 50,000
MESSAGES: Final = int(os.environ.get("REMIT_MESSAGES", "300"))  # of bytes; `make requests` has 20,000
SLICE: Final = 2000  # messages of one test
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# What AuthZEN asks, in the same place: only an enforcement point may.
POINT: Final = """
[enforcement_points.bot]
account = "service:bot"
actions = ["read"]
resource_types = ["record"]
resource_properties = ["owner"]
"""
ASKED: Final[dict[str, list[Any]]] = {
    "subject": [{"type": "user", "id": "operator"}],
    "action": [{"name": "read"}, {"name": "read", "properties": {"x": 1}}],
    "resource": [{"type": "record", "id": "one"}, {"type": "record", "id": "two", "properties": {"owner": "operator"}}],
}
OWN: Final = {"authorization": "Bearer operator"}
LONGEST_WAIT: Final = 3600  # seconds; more is an error of the request
# In place of some generated values: names that exist, so that requests get further than the first check.
KNOWN: Final[dict[str, list[Any]]] = {
    "agent": ["clerk"],
    "action": ["ledger.look", "ledger.pay"],
    "arguments": [{"name": "ann"}, {"name": "ben", "amount": 500}, '{"name": "ann"}'],
    "subject": ["agent:clerk", "user:operator"],
    "resource": ["account:ann", "account:**"],
    "wait": [0, 0.2],
    "user": [None, "user:operator"],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("any") / "clerk"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("LEDGER", "")
        use(folder)
        ledger_workspace(folder, [{"say": "done"}])
        settings = folder / "remit.toml"
        settings.write_text(settings.read_text() + POINT)
        with service_process(folder, env=environment(folder), log=folder.with_name("log")) as running:
            yield running


def is_of_authzen(path: str) -> bool:
    return path.startswith("/access/")


def known(case: schemathesis.Case, dice: random.Random, exist: Mapping[str, str]) -> schemathesis.Case:
    """The case with some values that exist; `exist` are those of paths."""
    for name, value in exist.items():
        if name in (case.path_parameters or {}) and dice.random() < 0.5:
            case.path_parameters[name] = value
    body = case.body
    if isinstance(body, dict) and dice.random() < 0.8:
        for name, values in (ASKED if is_of_authzen(case.path) else KNOWN).items():
            if name in body and dice.random() < 0.9:
                body[name] = dice.choice(values)
    if isinstance(body, dict) and isinstance(wait := body.get("wait"), int | float) and 1 < wait <= LONGEST_WAIT:
        body["wait"] = 0.2  # nobody approves: the answer would take as long as the service lets it
    return case


def ways() -> list[tuple[str, schemathesis.GenerationMode]]:
    """Each operation with right requests, and with wrong ones if something can be wrong about them."""
    right, wrong = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    found = []
    for item in OPERATIONS.values():
        found.append((item.label, right))
        # Nothing is wrong about a request for metadata, whatever its path is.
        if item.body or (item.path_parameters and "/.well-known/" not in item.path):
            found.append((item.label, wrong))
    return found


OPERATIONS: Final[dict[str, Any]] = {
    found.ok().label: found.ok() for found in schemathesis.openapi.from_dict(openapi(ROUTES)).get_all_operations()
}
WAYS: Final = ways()
COUNT: Final = -(-REQUESTS // len(WAYS))  # requests of one way


@pytest.mark.parametrize(
    ("operation", "mode"), [pytest.param(label, mode, id=f"{label} {mode.value}") for label, mode in WAYS]
)
def test_every_answer_is_one_that_the_openapi_document_describes(
    operation: str, mode: schemathesis.GenerationMode, request: pytest.FixtureRequest
) -> None:
    """Requests are generated from the document, right ones and wrong ones, by schemathesis."""
    skip_if_sent(f"{operation} {mode.value}", COUNT)
    service: ServiceProcess = request.getfixturevalue("service")
    seen = send(service, request.getfixturevalue("exist"), operation, mode, COUNT)
    assert sum(seen.values()) >= COUNT
    assert service.lives
    note(f"{operation} {mode.value}", COUNT, seen)


def test_requests_are_generated_for_every_route_of_the_table() -> None:
    assert {label for label, _ in WAYS} == {f"{row.method} {row.path}" for row in ROUTES}


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ("POST /v1/calls", {200, 202}),  # a generated call may say that it does not wait
        ("POST /v1/runs", {202}),
        ("GET /v1/runs/{run}", {200}),
        ("POST /v1/approvals/{run}/{call}/grant", {403}),
        ("POST /access/v1/evaluation", {200}),
        ("POST /access/v1/search/subject", {200}),
    ],
)
def test_some_requests_get_further_than_the_first_check(
    service: ServiceProcess, exist: Mapping[str, str], operation: str, status: set[int]
) -> None:
    seen = send(service, exist, operation, schemathesis.GenerationMode.POSITIVE, 60)
    assert status & seen.keys()


def send(
    service: ServiceProcess, exist: Mapping[str, str], operation: str, mode: schemathesis.GenerationMode, count: int
) -> Counter[int]:
    """Send so many generated requests, and check each answer. Returns how often each status came back."""
    cases, seen = OPERATIONS[operation].as_strategy(generation_mode=mode), Counter[int]()
    session = requests.Session()
    headers = {"authorization": "Bearer bot"} if is_of_authzen(OPERATIONS[operation].path) else OWN

    @seed(20261130)
    # Without shrinking: smaller forms of a request of megabytes would be looked for without an end.
    @settings(
        max_examples=max(1, count),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, st.integers(0, 2**32))
    def sent(case: schemathesis.Case, number: int) -> None:
        request = known(case, random.Random(number), exist)
        answer = request.call(base_url=service.url, session=session, headers=headers, timeout=60)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    with session:
        sent()
    lift_holds(service)
    return seen


def lift_holds(service: ServiceProcess) -> None:
    """Requests have held everything: other calls would wait for that."""
    with httpx.Client(base_url=service.url, headers=OWN, timeout=60) as client:
        for item in client.get("/v1/holds").json()["value"]["holds"]:
            assert client.delete(f"/v1/holds/{item['scope']}").status_code == 200


@pytest.fixture(scope="module")
def exist(service: ServiceProcess) -> dict[str, str]:
    """A run that waits for an approval, its call, its agent, and a scope: what paths name."""
    body = {"agent": "clerk", "action": "ledger.pay", "arguments": {"name": "ann", "amount": 500}}
    asked = httpx.post(f"{service.url}/v1/calls", json=body, headers=OWN, timeout=60)
    assert asked.status_code == 202, asked.text
    run, _, call = asked.json()["approval"]["id"].partition("/")
    return {"run": run, "call": call, "agent": "clerk", "scope": f"run:{run}"}


def lines(name: str) -> list[bytes]:
    """Bodies of other people's tests; none where the folder is not there."""
    path = CORPORA / name
    if not path.exists():
        return []
    if name.endswith(".jsonl"):
        return [base64.b64decode(json.loads(line)["b64"]) for line in path.read_text().splitlines()]
    return [
        json.dumps({"agent": text, "action": text, "arguments": {"name": text}}).encode()
        for text in json.loads(path.read_text())
    ]


def exchanged(port: int, data: bytes, seconds: float = 1.0) -> bytes:
    """What comes back for these bytes, until the service closes the connection or is silent for so long."""
    received = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        connection.settimeout(seconds)
        while more := connection.recv(65536):
            received += more
    return received


def answers(data: bytes) -> list[int]:
    """The status codes of the answers in these bytes."""
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


@pytest.mark.parametrize("part", range(-(-MESSAGES // SLICE)))
def test_no_bytes_end_the_service_or_get_a_server_error(part: int, request: pytest.FixtureRequest) -> None:
    """Request lines, fields, chunks and bodies with small changes, and bodies of other people's tests."""
    count = min(SLICE, MESSAGES - part * SLICE)
    skip_if_sent(f"bytes {part}", count)
    service: ServiceProcess = request.getfixturevalue("service")
    dice = random.Random(20261130 + part)
    body = b'{"agent":"clerk","action":"ledger.look","arguments":{"name":"ann"}}'
    head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer operator\r\nContent-Type: application/json\r\nConnection: close\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    assert [answers(exchanged(service.port, data, 30)) for data in (whole, chunked)] == [[200], [200]]
    sent = [mutate(dice.choice((whole, chunked)), dice) for _ in range(count)]
    sent += [
        head + b"Content-Length: %d\r\n\r\n" % len(found) + found
        for name in ("jsontestsuite.jsonl", "blns.json")
        for found in lines(name)
    ]
    sent += [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        head + b"Content-Length: 99999999999999999999\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        head + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ]
    with ThreadPoolExecutor(16) as pool:
        received = [*pool.map(partial(exchanged, service.port), sent)]
    pairs = zip(sent, received, strict=True)
    bad = [(data[:300], got[:300]) for data, got in pairs if any(code >= 500 for code in answers(got))]
    assert bad == []
    assert service.log is not None
    assert "Traceback" not in service.log.read_text()
    assert service.lives
    assert answers(exchanged(service.port, whole, 30)) == [200]
    # A message without an answer is counted as 0.
    note(f"bytes {part}", count, Counter(next(iter(answers(got)), 0) for got in received))


def test_a_client_that_sends_too_much_reads_why(service: ServiceProcess) -> None:
    """A connection that is closed with unread bytes is reset, and the answer is lost."""
    body = json.dumps({"agent": "clerk", "action": "ledger.look", "arguments": {"name": "a" * 2_000_000}}).encode()
    headers = {**OWN, "content-type": "application/json"}
    chunks = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    for content in (body, iter(chunks)):
        answer = httpx.post(f"{service.url}/v1/decisions", content=content, headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"


def test_a_scope_that_is_no_scope_is_an_error_of_the_request(service: ServiceProcess) -> None:
    for action, status in (("H\x1b[2J", 400), ("ledger.nothing, x", 400), ("ledger.look", 202)):
        body = {"agent": "clerk", "task": "x", "scope": {"allow": [{"action": action}]}}
        answer = httpx.post(f"{service.url}/v1/runs", json=body, headers=OWN, timeout=60)
        assert answer.status_code == status, answer.text
