"""`remit tool try --record`: a case of a real call. It runs without the network, and no secret is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core.parsing import read_rows
from remit.guardrails import spellings
from support.http_servers import ReceivedRequest, Response, Server, authority
from support.runs import CommandResult, Remit

CANARY = "CANARY-77d0b1e4a9c3"
TOML = """\
name = "shop"
version = "1.0.0"
owner = "you@example.com"
summary = "Our shop"

[always]
hosts = ["localhost:{port}"]
ranges = ["127.0.0.0/8", "::1/128"]
ca = {{ "localhost:{port}" = "ca.pem" }}
secrets = [{{ name = "shop", host = "localhost:{port}", header = "Authorization", value = "Bearer {{shop}}" }}]

[at_most]
read = ["in/**"]
write = ["out/**"]

[actions.get]
summary = "Read"
touches = ["use own:shop"]
effect = "read"
errors = ["gone"]

[actions.copy]
summary = "Send a file, keep the answer"
touches = ["read file:{{path}}", "write file:{{out}}"]
"""
CODE = '''\
from typing import Any

import httpx


class Gone(Exception):
    """It is not there."""


def get(path: str, times: int = 1) -> Any:
    headers = {"X-Own-Token": "own-token-of-the-tool-1"}
    for _ in range(times):
        response = httpx.get(f"https://localhost:PORT{path}", headers=headers, follow_redirects=True)
    if response.status_code == 404:
        raise Gone(path)
    kind = response.headers.get("content-type", "")
    return response.json() if "json" in kind else [len(response.content), response.headers.get("x-other", "")]


def copy(path: str, out: str) -> str:
    response = httpx.post("https://localhost:PORT/upload", json={"text": open(path).read()})
    open(out, "w").write(response.text)
    return response.text
'''
Recorder = Callable[..., CommandResult]


def answer(got: ReceivedRequest) -> Response:
    header = got.headers.get("authorization", "none")
    secret = [
        ("set-cookie", f"session={CANARY}"),
        ("www-authenticate", header),
        ("x-echo", header),
        ("etag", f'"{CANARY}"'),
    ]
    kind = [("content-type", "application/json; charset=utf-8")]
    path = got.target.partition("?")[0]
    match path:
        case "/echo":
            body = {"seen": header, "password": "hunter2-hunter2", "id": 7, CANARY: [CANARY, 1.5]}
            return Response(headers=[*secret, *kind], body=json.dumps(body).encode())
        case "/away":
            return Response(status=302, headers=[("location", "/signed?X-Amz-Signature=0123456789abcdef0123&n=1")])
        case "/signed" | "/count":
            return Response(headers=kind, body=json.dumps({"n": got.target.count("n=1")}).encode())
        case "/gone":
            return Response(status=404, headers=secret, body=CANARY.encode())
        case "/image":
            return Response(headers=[("content-type", "image/png")], body=bytes(range(256)))
        case "/long":
            return Response(headers=[("content-type", "text/plain")], body=b"line\n" * 10_000)
        case "/larger":
            return Response(body=b"x" * (1 << 21))
        case "/upload":
            return Response(status=201, body=b"stored " + got.body[:20])
        case _:
            return Response(headers=kind, body=b"[1, 2]")


@pytest.fixture
def record(session: Path, remit: Remit, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record one call as a case, at a server that echoes its secret everywhere. `record.folder` is that of the tool."""
    monkeypatch.setenv("REMIT_SECRET_SHOP", CANARY)
    folder = session / "tools" / "shop"
    folder.mkdir()
    (folder / "ca.pem").write_text(authority().certificate)

    def run(note: str, action: str, *words: str, more: tuple[str, ...] = ()) -> CommandResult:
        with Server(answer, name="localhost") as server:
            (folder / "tool.toml").write_text(TOML.format(port=server.port))
            (folder / "main.py").write_text(CODE.replace("PORT", str(server.port)))
            return remit("tool", "try", f"shop.{action}", *words, "--record", note, "--json", *more)

    return run


def rows(session: Path) -> list[dict[str, object]]:
    return [row.value for row in read_rows((session / "tools/shop/cases.yaml").read_text(), file="cases.yaml")]


def everything(session: Path) -> str:
    folder = session / "tools/shop"
    files = [folder / "cases.yaml", *folder.glob("answers/*")]
    return "".join(path.read_bytes().decode("latin-1") for path in files)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("get", ["path=/echo"]),
        ("get", ["path=/away"]),
        ("get", ["path=/count?n=1"]),
        ("get", ["path=/items", "times=3"]),
        ("get", ["path=/gone"]),
        ("get", ["path=/image"]),
        ("get", ["path=/long"]),
        ("copy", ["path=in/a.txt", "out=out/b.txt", "--yes"]),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_a_recorded_call_passes_without_its_service_and_holds_no_secret(
    session: Path, remit: Remit, record: Recorder, action: str, words: list[str], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "in").mkdir(parents=True)
    (work / "in/a.txt").write_text("a text")
    done = record("a call", action, *words, more=("--folder", str(work)))
    assert done.json["recorded"]["result"]["message"] == "", done
    secrets = (CANARY, "hunter2", "own-token", "0123456789abcdef0123")
    found = everything(session) + done.out + done.err
    assert [text for secret in secrets for text in spellings(secret) if text in found] == []
    assert not any(name in found for name in ("set-cookie", "www-authenticate", "x-echo", "Bearer "))
    tested = remit("tool", "test", "shop", "--json")
    assert (tested.json["ok"], len(tested.json["cases"])) == (True, 1), tested.out


def test_a_recorded_row_has_the_request_and_what_a_client_needs_of_the_response(
    session: Path, record: Recorder
) -> None:
    record("the echo", "get", "path=/echo")
    (case,) = rows(session)
    (row,) = case["setup"]["http"]  # type: ignore[index]
    assert row["request"].startswith("GET https://localhost:")
    assert row["headers"].keys() == {"content-type", "etag"}
    assert (row["body"]["id"], row["body"]["password"][:10]) == (7, "[redacted:")
    record("in turn", "get", "path=/items", "times=2")
    turns = rows(session)[1]["setup"]["http"]  # type: ignore[index]
    assert [row["times"] for row in turns] == [1, 1]


@pytest.mark.parametrize(
    ("note", "words", "why"),
    [
        ("a secret", [f"path=/{CANARY}"], "an argument has a secret"),
        ("a token", ["path=/count?token=abcdefgh12345678"], "an argument has a secret"),
        ("too large", ["path=/larger"], "is incomplete, or has more than 1048576 bytes"),
    ],
)
def test_a_call_that_cannot_be_a_case_is_refused_and_nothing_is_written(
    session: Path, record: Recorder, note: str, words: list[str], why: str
) -> None:
    refused = record(note, "get", *words)
    assert why in str(refused.json["error"]), refused
    assert not (session / "tools/shop/cases.yaml").exists()
    assert CANARY not in refused.out + refused.err


def test_a_second_case_of_the_same_name_is_refused_before_anything_is_requested(
    session: Path, record: Recorder
) -> None:
    record("one", "get", "path=/items")
    before = (session / "tools/shop/cases.yaml").read_text()
    assert "has a case 'one' already" in record("one", "get", "path=/items").json["error"]["message"]
    assert (session / "tools/shop/cases.yaml").read_text() == before
