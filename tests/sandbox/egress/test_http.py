"""The `http` tool and the tool of the tutorial, decided, run, recorded and replayed through the public interface."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend

from remit.core.events import AttemptEnded, CallAnswered, Recorded
from remit.guardrails.encodings import spellings
from remit.guardrails.secrets import Secrets
from remit.runtime import runner as run_module
from remit.workspace import session as session_module
from remit.workspace.template import starter_folder
from support import ROOT
from support.http_servers import ReceivedRequest, Response, Server
from support.principals import OPERATOR
from support.runs import Remit, turn
from support.workspaces.web import add


def play(session: Path) -> tuple[list[dict[str, Any]], list[Recorded], run_module.Ended]:
    """Run the script; returns the results in the order of the calls, the events and the end."""
    opened = session_module.open_session(session)
    model = run_module.open_model_of(opened, "web")
    start = run_module.RunRequest(agent="web", task="look", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run_module.start_run(opened, start))
    records = opened.journal.events(ended.run)
    results = [one.event.result.model_dump(mode="json") for one in records if isinstance(one.event, CallAnswered)]
    return results, records, ended


def attempts(records: list[Recorded]) -> list[AttemptEnded]:
    return [one.event for one in records if isinstance(one.event, AttemptEnded)]


def reachable(text: str, port: int) -> str:
    """The manifest with the test server as its only host."""
    text = text.replace('hosts = ["**:443", "**:80"]', f'hosts = ["localhost:{port}"]')
    return text.replace("[at_most]", '[always]\nranges = ["127.0.0.0/8", "::1/128"]\n\n[at_most]')


@pytest.mark.usefixtures("trusting")
def test_the_http_tool_requests_allowed_urls_and_follows_allowed_redirects_only(session: Path, remit: Remit) -> None:
    """Every action, through decision, sandbox and proxy. The record has each connection, and the replay reproduces it."""

    def answer(received: ReceivedRequest) -> Response:
        match received.target:
            case "/moved":
                return Response(status=302, headers=[("location", "/v1/here")])
            case "/away":
                return Response(status=302, headers=[("location", "/admin?x=1")])
            case "/v1/large":
                return Response(body=b"x" * 100_000)
            case _:
                return Response(
                    status=201 if received.method == "POST" else 200,
                    body=f"{received.method} {received.target}".encode(),
                )

    with Server(answer, name="localhost") as server:
        base = f"https://localhost:{server.port}"
        text = (starter_folder() / "tools/http/tool.toml").read_text()
        rules = f"""
# The web agent may request URLs below v1, and URLs that redirect there
p, agent:web, http.*, {base}/v1/**, True, allow
p, agent:web, http.get, {base}/moved, True, allow
p, agent:web, http.get, {base}/away, True, allow
p, agent:web, http.download, file:downloads/**, True, allow
p, role:operator, http.*, https://**, True, allow
p, role:operator, http.*, file:downloads/**, True, allow
"""
        turns = [
            turn(http__get={"url": f"HTTPS://LOCALHOST:{server.port}/v1/a?q=1"}),
            turn(http__get={"url": f"{base}/moved"}),
            turn(http__get={"url": f"{base}/away"}),
            turn(http__get={"url": f"{base}/v1/large"}),
            turn(http__download={"url": f"{base}/v1/large", "path": "downloads/large.txt"}),
            turn(http__head={"url": f"{base}/v1/a"}),
            turn(http__post={"url": f"{base}/v1/a", "body": "{}"}),
            turn(http__put={"url": f"{base}/v1/a", "body": "{}", "headers": {"X-Kind": "t"}}),
            turn(http__delete={"url": f"{base}/v1/a"}),
            turn(http__get={"url": f"{base}/admin"}),
        ]
        add(session, "http", {"tool.toml": reachable(text, server.port)}, rules, turns)
        results, records, ended = play(session)
    summary = [
        one["value"].get("text", one["value"].get("bytes")) if one["ok"] else one["error"]["code"] for one in results
    ]
    assert summary == [
        "GET /v1/a?q=1", "GET /v1/here", "sandbox_violation", "tool_failed", 100_000, "", "POST /v1/a", "PUT /v1/a",
        "DELETE /v1/a", "policy_denied",
    ], [one["error"] for one in results if not one["ok"]]  # fmt: skip
    assert results[2]["error"]["message"].startswith("blocked by policy, do not retry: GET of that URL at 'localhost'")
    assert results[3]["error"]["details"]["error"] == "too_large"
    assert (session / "work/web/downloads/large.txt").read_text() == "x" * 100_000
    assert not any(received.target.startswith("/admin") for received in server.requests)
    assert [len(one.connections) for one in attempts(records)] == [1, 2, 2, 1, 1, 1, 1, 1, 1]
    away = attempts(records)[2].connections
    assert [(one.method, one.path, one.status, one.address, one.verdict) for one in away] == [
        ("GET", "/away", 302, "loopback", "allowed"),
        ("GET", "/admin", None, None, "not_decided"),
    ]
    assert all(one.sent > 0 and one.received > 0 for one in attempts(records)[1].connections)
    spans = ended.trace.read_text()
    assert f"GET https://localhost:{server.port}/away 302 loopback" in spans
    assert "127.0.0.1" not in spans
    assert "reproduced" in remit("replay", ended.run).out


TUTORIAL = ROOT / "docs" / "examples" / "jira"  # of docs/how-to/call-a-web-service.md


@pytest.mark.usefixtures("trusting")
def test_the_tool_of_the_tutorial_works_and_only_its_server_sees_the_key(session: Path, remit: Remit) -> None:
    """The key is in no result, record, trace, working folder or terminal, although the server echoes it."""
    manifest, code = (TUTORIAL / "tool.toml").read_text(), (TUTORIAL / "main.py").read_text()
    assert len([line for line in (manifest + code).splitlines() if line.strip()]) < 40
    key = "me@acme.example:CANARY-9f31c7aa5d"
    authorizations: list[str] = []

    def answer(received: ReceivedRequest) -> Response:
        authorizations.append(received.headers.get("authorization", ""))
        echo = [("x-echo", received.headers.get("authorization", ""))]
        if "OPS-404" in received.target:
            return Response(status=404, headers=echo, body=f"<h1>no: {key}</h1>".encode())
        if "OPS-500" in received.target:
            return Response(status=500, headers=echo, body=f"<h1>{received.headers} {key}</h1>".encode())
        if received.method == "POST":
            return Response(
                status=201, headers=echo, body=json.dumps({"id": "c1", **json.loads(received.body)}).encode()
            )
        fields = {
            "summary": f"the key is {key}, or {received.headers.get('authorization')}",
            "status": {"name": "Open"},
        }
        return Response(headers=echo, body=json.dumps({"fields": fields}).encode())

    with Server(answer, name="localhost") as server:
        place = f"localhost:{server.port}"
        manifest = manifest.replace("acme.atlassian.net:443", place).replace(
            "[always]", '[always]\nranges = ["127.0.0.0/8", "::1/128"]'
        )
        code = code.replace("acme.atlassian.net", place)
        rules = "p, agent:web, jira.*, issue:OPS-*, True, allow\np, role:operator, jira.*, issue:OPS-*, True, allow\n"
        turns = [
            turn(jira__get={"key": "OPS-7"}),
            turn(jira__comment={"key": "OPS-7", "text": "seen"}),
            turn(jira__get={"key": "OPS-404"}),
            turn(jira__get={"key": "OPS-500"}),
        ]
        cases = '- note: a key is one word\n  action: jira.get\n  arguments: {key: "a/b"}\n  expect: {error: invalid_arguments}\n'
        add(session, "jira", {"tool.toml": manifest, "main.py": code, "cases.yaml": cases}, rules, turns)
        with pytest.raises(Exception, match="secret 'jira' is not set: run `remit secret set jira`"):
            play(session)
        Secrets(session).set("jira", key)
        results, records, _ = play(session)
        tried = remit("tool", "try", "jira.get", "key=OPS-7", "--json")
    assert [one["ok"] for one in results] == [True, True, False, False]
    assert results[0]["value"]["status"] == "Open"
    assert "the key is *****" in results[0]["value"]["summary"]
    assert results[1]["value"] == "c1"
    assert [one["error"]["code"] for one in results[2:]] == ["tool_failed", "tool_crashed"]
    assert set(authorizations) == {"Basic bWVAYWNtZS5leGFtcGxlOkNBTkFSWS05ZjMxYzdhYTVk"}
    assert tried.json["ok"], tried
    everything = (
        "".join(path.read_bytes().decode("latin-1") for path in session.rglob("*") if path.is_file())
        + f"{results}{records}{tried}"
    )
    assert [text for text in spellings(key) if text in everything] == []


@pytest.mark.usefixtures("trusting")
def test_a_secret_is_set_from_standard_input_and_listed_without_its_value(session: Path, tmp_path: Path) -> None:
    """It belongs to one workspace, in a file that no other account can read."""
    folder = session / "tools" / "vault"
    folder.mkdir()
    (folder / "main.py").write_text("def get() -> str:\n    return ''\n")
    (folder / "tool.toml").write_text(
        'name = "vault"\nversion = "1"\nowner = "a@b.c"\nsummary = "s"\n[always]\nhosts = ["api.example.com:443"]\n'
        'secrets = [{name = "api", host = "api.example.com:443", header = "X-Key", value = "{api}"}]\n'
        '[actions.get]\nsummary = "s"\n'
    )
    value = "a-value-of-some-length"

    def call(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "remit", "secret", *args]
        return subprocess.run(line, cwd=session, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    missing, wrong = call("list"), call("set", "apii", stdin=value)
    assert (missing.returncode, wrong.returncode) == (1, 2)
    assert "missing" in missing.stdout
    assert "no tool and no channel here uses a secret 'apii': did you mean api?" in wrong.stderr
    assert call("set", "api", stdin=value + "\n").returncode == 0
    listed = call("list", "--json")
    assert json.loads(listed.stdout) == [
        {"name": "api", "source": "store", "goes_to": ["vault, to api.example.com:443"], "users": []}
    ]
    store = tmp_path / "config" / "remit" / "secrets.json"
    assert (store.stat().st_mode & 0o777, store.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert Secrets(session).get("api").value == value
    assert Secrets(tmp_path).get("api").source == "missing"
    assert value not in repr(Secrets(session).get("api"))
    store.chmod(0o644)
    with pytest.raises(Exception, match=r"other accounts can read .*run `chmod 600"):
        Secrets(session).get("api")


def test_a_secret_comes_from_the_environment_or_from_a_file_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first source that has it. A value that cannot be redacted, or could end a header, is not valid."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    secrets = Secrets(tmp_path)
    secrets.set("api", "from-the-store")
    file = tmp_path / "api"
    file.write_text("from-the-file\n")
    file.chmod(0o600)
    monkeypatch.setenv("REMIT_SECRET_API_FILE", str(file))
    assert (secrets.get("api").value, secrets.get("api").source) == ("from-the-file", "file")
    monkeypatch.setenv("REMIT_SECRET_API", "from-the-environment")
    assert (secrets.get("api").value, secrets.get("api").source) == ("from-the-environment", "environment")
    for value in ("short", "two\r\nlines-of-it", "naïve-and-long", "x" * 20_000):
        monkeypatch.setenv("REMIT_SECRET_API", value)
        with pytest.raises(Exception, match="secret 'api'"):
            secrets.get("api")
    monkeypatch.delenv("REMIT_SECRET_API")
    for mode, named in ((0o640, file), (0o600, tmp_path / "gone"), (0o700, tmp_path)):
        monkeypatch.setenv("REMIT_SECRET_API_FILE", str(named))
        if named.exists():
            os.chmod(named, mode)
        with pytest.raises(Exception, match=r"chmod 600|does not exist|not a regular file"):
            secrets.get("api")


def test_a_secret_may_be_in_the_keyring_of_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store then has only a reference; a secret that the keyring has lost is missing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    kept: dict[tuple[str, str], str] = {}

    class Memory(KeyringBackend):
        priority = 1.0

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def delete_password(self, service: str, username: str) -> None:
            del kept[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        secrets = Secrets(tmp_path)
        assert secrets.set("api", "only-in-the-keyring", keyring=True) == "keyring"
        assert (secrets.get("api").value, secrets.get("api").source) == ("only-in-the-keyring", "keyring")
        assert "only-in-the-keyring" not in (tmp_path / "config/remit/secrets.json").read_text()
        assert Secrets(tmp_path / "other").get("api").source == "missing"
        kept.clear()
        assert secrets.get("api").source == "missing"
    finally:
        keyring.set_keyring(before)
