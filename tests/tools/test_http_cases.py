"""Cases of a tool that uses a web service: `setup.http` answers in place of the network, in the real sandbox and proxy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from remit.broker import AttemptOutcome
from remit.sandbox import Sandbox
from remit.sandbox.egress import addresses
from remit.tools import run_tool_cases, try_action
from remit.workspace import load_workspace
from support.http_servers import FakeResolver, Response, Server, connects
from support.runs import Remit

TOML = """\
name = "items"
version = "1.0.0"
owner = "you@example.com"
summary = "Items of our shop"

[always]
hosts = ["GET,POST api.shop.example:443/v1/**", "cdn.shop.example:443", "plain.shop.example:80"]
secrets = [{ name = "shop", host = "api.shop.example:443", header = "Authorization", value = "Bearer {shop}" }]

[actions.get]
summary = "Read one item"
touches = ["use item:{key}"]
effect = "read"
errors = ["not_found"]

[actions.add]
summary = "Add an item"
touches = ["use item:{key}"]
"""
CODE = '''\
"""Items of our shop."""

from typing import Any

import httpx


class NotFound(Exception):
    """There is no such item."""


def get(key: str, at: str = "https://api.shop.example/v1/items/") -> Any:
    """Read one item, and try again if the shop is busy."""
    for _ in range(2):
        response = httpx.get(at + key, params={"full": "1"})
        if response.status_code != 503:
            break
    if response.status_code == 404:
        raise NotFound(f"there is no item {key!r}")
    response.raise_for_status()
    kind = response.headers.get("content-type", "")
    return response.json() if "json" in kind else [len(response.content), response.text[:40]]


def add(key: str, price: int) -> str:
    """Add an item."""
    body = {"key": key, "price": price, "tags": ["new", "shop"]}
    return str(httpx.post("https://api.shop.example/v1/items", json=body).raise_for_status().status_code)
'''
URL = "https://api.shop.example/v1/items"


def write(session: Path, *cases: str, files: dict[str, bytes] | None = None) -> Path:
    folder = session / "tools" / "items"
    folder.mkdir(exist_ok=True)
    (folder / "tool.toml").write_text(TOML)
    (folder / "main.py").write_text(CODE)
    (folder / "cases.yaml").write_text("\n".join(cases))
    for name, data in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def case(note: str, rows: str, expect: str, *, action: str = "get", arguments: str = "{key: lamp}") -> str:
    return (
        f"- note: {note}\n  action: items.{action}\n  arguments: {arguments}\n"
        f"  setup:\n    http:\n{rows}\n  expect: {expect}\n"
    )


def row(request: str, more: str = "body: {name: lamp}") -> str:
    return f'      - {{request: "{request}", {more}}}'


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    """No name is resolved, so that a look-up or a connection of a case is noticed."""
    names = FakeResolver()
    monkeypatch.setattr(addresses, "_look_up", lambda name, port: names.asked.append(name) or [])
    return names


def messages(session: Path) -> dict[str, str]:
    """How each case differs from what it expects, by its note; run in this process, which `offline` and `connects` watch."""
    sandbox = Sandbox()
    try:
        results = asyncio.run(run_tool_cases(load_workspace(session), "items", sandbox))
    finally:
        asyncio.run(sandbox.close())
    return {result.note: result.message for result in results}


def test_the_requests_of_a_case_are_answered_by_its_rows_and_nothing_reaches_the_network(
    session: Path, offline: FakeResolver
) -> None:
    """TLS of a host that is checked, of one that passes through unopened, and plain HTTP; without the real secret."""
    write(
        session,
        case("JSON", row(f"GET {URL}/*"), "{value: {name: lamp}}"),
        case("one query", row(f"GET {URL}/lamp?full=2", "body: 1") + "\n" + row(f"GET {URL}/lamp?full=1", "body: 2, times: 1"), "{error: none}"),
        case("a declared error", row(f"GET {URL}/lamp", "status: 404, body: gone"), "{error: not_found}"),
        case("in turn", row(f"GET {URL}/**", "status: 503, times: 1") + "\n" + row(f"GET {URL}/**", "body: [1]"), "{value: [1]}"),
        case("TLS of a whole host", row("GET https://cdn.shop.example/lamp?*", "body: x"), "{error: none}", arguments='{key: lamp, at: "https://cdn.shop.example/"}'),
        case("plain HTTP", row("GET http://plain.shop.example/lamp", "body: 'a text'"), "{value: [6, 'a text']}", arguments='{key: lamp, at: "http://plain.shop.example/"}'),
        case("headers", row(f"GET {URL}/lamp", "body: '[7]', headers: {Content-Type: application/problem+json}"), "{value: [7]}"),
        case("a file", row(f"GET {URL}/lamp", "file: answers/page.bin, headers: {Content-Type: image/png}"), "{value_contains: [4096]}"),
        case("a failing network", row(f"GET {URL}/lamp", "fails: unreachable"), "{error: tool_crashed}"),
        case("what it sends", row(f"POST {URL}", "status: 201, sends: {price: 5, tags: [new]}"), "{value: '201'}", action="add", arguments="{key: lamp, price: 5}"),
        files={"answers/page.bin": bytes(range(256)) * 16},
    )  # fmt: skip
    before = len(connects())
    found = messages(session)
    assert {note for note, message in found.items() if not message} == set(found) - {"one query", "TLS of a whole host"}
    assert found["one query"] == "expected none, got 2"
    assert found["TLS of a whole host"].startswith(
        "no row of setup.http answers GET https://cdn.shop.example/lamp?full=1:"
    )
    assert (offline.asked, connects()[before:]) == ([], [])


def test_a_request_without_a_row_fails_the_case_and_is_named_whatever_the_tool_makes_of_it(
    session: Path, offline: FakeResolver
) -> None:
    cases = [
        case("another item", row(f"GET {URL}/chair"), "{error: tool_crashed}"),
        case("other data", row(f"POST {URL}", "sends: {price: 6}"), "{error: tool_crashed}", action="add", arguments="{key: lamp, price: 5}"),
        "- {note: no rows, action: items.get, arguments: {key: lamp}, expect: {error: tool_crashed}}\n",
        case("a row too many", row(f"GET {URL}/lamp") + "\n" + row(f"GET {URL}/chair"), "{value: {name: lamp}}"),
        case("too seldom", row(f"GET {URL}/lamp", "times: 2, body: 1"), "{value: 1}"),
        case("a host that is not granted", row("GET https://other.example/lamp"), "{error: sandbox_violation}", arguments='{key: lamp, at: "https://other.example/"}'),
    ]  # fmt: skip
    write(session, *cases)
    found = messages(session)
    fix = "write a row for it, or make the case with `remit tool try ACTION … --record NOTE`"
    for note, request in (
        ("another item", f"GET {URL}/lamp?full=1"),
        ("other data", f"POST {URL}"),
        ("no rows", f"GET {URL}/lamp?full=1"),
    ):
        assert found[note] == f"no row of setup.http answers {request}: {fix}"
    unused = "the tool did not request 'GET {}', which setup.http has: remove the row, or correct the tool"
    assert found["a row too many"] == unused.format(f"{URL}/chair")
    assert found["too seldom"] == unused.format(f"{URL}/lamp")
    assert found["a host that is not granted"] == unused.format("https://other.example/lamp")
    assert offline.asked == []


def test_answers_of_a_case_are_for_that_case_only(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call after the cases reaches its server and gets what that answers; a case of the same tool does not reach it."""
    monkeypatch.undo()
    kind = [("content-type", "application/json")]
    with Server(lambda _: Response(body=b'{"name": "real"}', headers=kind)) as server:
        at = f"http://localhost:{server.port}/"
        arguments = f'{{key: lamp, at: "{at}"}}'
        folder = write(session, case("made up", row(f"GET {at}lamp"), "{value: {name: lamp}}", arguments=arguments))
        toml = "\n".join(line for line in TOML.splitlines() if not line.startswith("secrets"))
        toml = toml.replace("plain.shop.example:80", f"localhost:{server.port}")
        (folder / "tool.toml").write_text(toml.replace("[always]", '[always]\nranges = ["127.0.0.0/8", "::1/128"]'))
        assert messages(session) == {"made up": ""}
        assert server.accepted == 0

        async def tried() -> AttemptOutcome:
            sandbox = Sandbox()
            try:
                given = {"key": "lamp", "at": at}
                return (await try_action(load_workspace(session), "items.get", given, tmp_path, sandbox))[1]
            finally:
                await sandbox.close()

        assert asyncio.run(tried()).value == {"name": "real"}
    assert len(server.requests) == 1


def test_a_case_never_has_a_real_secret(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the header that the proxy adds nor the variable of an exposed secret; so it also runs where none is set."""
    monkeypatch.setenv("REMIT_SECRET_SHOP", "CANARY-4c1f09d2e7")
    folder = write(session, "- {note: exposed, action: items.get, arguments: {key: lamp}, expect: {error: none}}\n")
    exposed = 'secrets = [{ name = "shop", exposed = true, env = "SHOP_TOKEN" }]'
    lines = [exposed if line.startswith("secrets") else line for line in TOML.splitlines()]
    (folder / "tool.toml").write_text("\n".join(lines))
    (folder / "main.py").write_text(
        "import os\ndef get(key: str) -> list[str]:\n    return list(os.environ['SHOP_TOKEN'][7:11])\n"
        "def add(key: str) -> str:\n    return ''\n"
    )
    assert messages(session) == {"exposed": "expected none, got ['-', 's', 'e', 'c']"}


def test_observe_sees_the_requests_of_cases(remit: Remit, session: Path) -> None:
    write(session, case("JSON", row(f"GET {URL}/*"), "{value: {name: lamp}}"))
    observed = remit("tool", "observe", "items", "--json").json
    assert {"use": "connect", "what": "api.shop.example:443"} in observed["used"]
    unused = {item["grant"] for item in observed["unused"] if item["key"] == "always.hosts"}
    assert unused == {"cdn.shop.example:443", "plain.shop.example:80"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("request: api.shop.example", "setup.http.0.request is 'api.shop.example', which is not a method and a URL with a path"),
        ('request: "GET https://api.shop.example"', "which is not a method and a URL with a path"),
        ('request: "GET https://127.0.0.1/"', "whose host is not a name"),
        ('request: "FETCH https://api.shop.example/"', "with the unknown method 'FETCH'"),
        ('request: "GET https://api.shop.example/", body: 1, file: a', "setup.http.0 has body and file"),
        ('request: "GET https://api.shop.example/", fails: idle, status: 200', "setup.http.0 fails, and has a status or headers"),
        ('request: "GET https://api.shop.example/", headers: {Content-Length: "1"}', "has the header 'Content-Length', which a row cannot set"),
        ('request: "GET https://api.shop.example/", headers: {A: "b\\nc"}', "has a value of 'A' that is no header"),
        ('request: "GET https://api.shop.example/", file: ../../policies/rules.csv', "which is not a plain relative path"),
        ('request: "GET https://api.shop.example/", answer: 1', "setup.http.0.answer: extra inputs are not permitted"),
        ('request: "GET https://api.shop.example/", file: none.html', "there is no file 'none.html' in the tool's folder"),
        ('request: "GET https://other.example/"', "no line of 'hosts' in tool.toml has that host"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_fix(remit: Remit, session: Path, more: str, message: str) -> None:
    write(
        session,
        f"- note: n\n  action: items.get\n  arguments: {{key: lamp}}\n  setup: {{http: [{{{more}}}]}}\n  expect: {{value: 1}}\n",
    )
    checked = remit("check", "--format", "json", "--all")
    found = [item for item in json.loads(checked.out)["findings"] if item["file"] == "tools/items/cases.yaml"]
    assert any(message in item["what"] and item["fix"] for item in found), found
