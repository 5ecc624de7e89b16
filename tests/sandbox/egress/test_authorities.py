"""Private certificate authorities of a host, and what the record says of a secret that was not sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from remit.analysis.diff.manifests import manifest_changes
from remit.analysis.diff.permissions import permission_diff
from remit.broker import AttemptOutcome
from remit.core import Connection
from remit.core.errors import WorkspaceError
from remit.sandbox import Sandbox
from remit.sandbox.egress import CertificateAuthority
from remit.tools import try_action
from remit.workspace import load_workspace
from support.http_servers import ReceivedRequest, Response, Server, authority
from support.runs import Remit

TOML = """\
name = "forge"
version = "1.0.0"
owner = "you@example.com"
summary = "Our forge"

[always]
hosts = ["localhost:{port}", "localhost:{other}"]
ranges = ["127.0.0.0/8", "::1/128"]
{more}

[actions.get]
summary = "Read"
touches = ["use own:forge"]
effect = "read"
"""
CODE = """\
import httpx


def get(repo: str) -> list[str]:
    response = httpx.get(repo)
    return [str(response.status_code), response.text]
"""
SECRET = 'secrets = [{{ name = "forge", host = "localhost:{port}", header = "X-Token", value = "{{forge}}" }}]'
CA = 'ca = {{ "localhost:{port}" = "corp.pem" }}'


def write(session: Path, port: int, *lines: str, other: int = 9, pem: str | None = None) -> Path:
    folder = session / "tools" / "forge"
    folder.mkdir(exist_ok=True)
    more = "\n".join(line.format(port=port) for line in lines)
    (folder / "tool.toml").write_text(TOML.format(port=port, other=other, more=more))
    (folder / "main.py").write_text(CODE)
    (folder / "corp.pem").write_text(authority().certificate if pem is None else pem)
    return folder


def tried(session: Path, url: str) -> AttemptOutcome:
    async def run() -> AttemptOutcome:
        sandbox = Sandbox()
        try:
            return (await try_action(load_workspace(session), "forge.get", {"repo": url}, session / "work", sandbox))[1]
        finally:
            await sandbox.close()

    (session / "work").mkdir(exist_ok=True)
    return asyncio.run(run())


def notes(connections: Sequence[Connection]) -> list[str]:
    return [item.why for item in connections]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REMIT_SECRET_FORGE", "CANARY-0b9ad7e64f")
    return "CANARY-0b9ad7e64f"


def test_a_host_with_a_private_authority_is_reached_and_gets_its_secret(session: Path, secret: str) -> None:
    """Without the line, its certificate is signed by nobody whom this machine knows; with it, the tool needs no settings."""
    with Server(lambda got: Response(body=got.headers.get("x-token", "none").encode()), name="localhost") as server:
        url = f"https://localhost:{server.port}/"
        write(session, server.port, SECRET)
        (unknown,) = tried(session, url).connections
        assert unknown.verdict == "bad_certificate"
        write(session, server.port, SECRET, CA)
        done = tried(session, url)
        assert done.value == ["200", "*" * len(secret)], done
        write(session, server.port, CA)
        assert tried(session, url).value == [
            "200",
            "none",
        ]  # TLS is opened without a secret too: the tool trusts no such authority
    assert [got.headers.get("x-token") for got in server.requests] == [secret, None]


@pytest.mark.usefixtures("trusting")
def test_no_other_authority_signs_for_a_host_with_a_private_one(session: Path) -> None:
    """Not even one that this machine trusts; another host of the same tool still has that one."""
    private = CertificateAuthority().certificate
    with Server(name="localhost") as server, Server(name="localhost") as other:
        write(session, server.port, CA, other=other.port, pem=private)
        (refused,) = tried(session, f"https://localhost:{server.port}/").connections
        assert (refused.verdict, server.requests) == ("bad_certificate", [])
        assert tried(session, f"https://localhost:{other.port}/").value == ["200", "ok"]


def test_a_changed_authority_is_a_changed_tool(session: Path, remit: Remit) -> None:
    """So no call uses it before a reviewer has pinned it again; the card and the check say what is trusted."""
    folder = write(session, 8443, CA)
    assert remit("tool", "pin", "forge").code == 0
    assert "only corp.pem for localhost:8443  (enforced by the proxy)" in remit("tool", "show", "forge").out
    (folder / "corp.pem").write_text(CertificateAuthority().certificate)
    assert "NOT pinned" in remit("tool", "show", "forge").out
    (folder / "corp.pem").write_text("no certificate")
    assert "tools/forge/corp.pem: it has no certificate in PEM" in remit("check").err + remit("check").out
    (folder / "corp.pem").unlink()
    with pytest.raises(WorkspaceError, match="cannot be read"):
        tried(session, "https://localhost:8443/")


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("", "it has no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in it cannot be read"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "it has a private key"),
    ],
)
def test_a_file_that_is_no_authority_is_refused_when_the_tool_is_pinned(session: Path, pem: str, why: str) -> None:
    write(session, 8443, CA, pem=pem)
    with pytest.raises(WorkspaceError, match=why):
        tried(session, "https://localhost:8443/")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('ca = {{ "*.corp.example:443" = "corp.pem" }}', "which is not one host"),
        ('ca = {{ "GET localhost:{port}" = "corp.pem" }}', "which is not one host"),
        ('ca = {{ "other.example:443" = "corp.pem" }}', "which no line of 'hosts' has"),
        ('ca = {{ "localhost:{port}" = "../words/corp.pem" }}', "which is not a file of the tool's folder"),
        ('ca = {{ "localhost:{port}" = ".corp.pem" }}', "which is not a file of the tool's folder"),
    ],
)
def test_a_wrong_line_of_ca_is_named(session: Path, line: str, why: str) -> None:
    write(session, 8443, line)
    with pytest.raises(WorkspaceError, match=why):
        load_workspace(session)


def test_remit_diff_names_the_host_and_the_file_that_is_trusted_for_it(session: Path, remit: Remit) -> None:
    """The certificates are part of the code: where that changed, the diff says which file to read, and for which host."""
    write(session, 8443)
    assert remit("tool", "pin", "forge").code == 0
    before = load_workspace(session)
    folder = write(session, 8443, CA)
    assert remit("tool", "pin", "forge").code == 0
    added = load_workspace(session)
    text = "tool 'forge' is now connected to localhost:8443 if the authorities in corp.pem sign for it, and no others"
    assert text in [change.text for change in manifest_changes(before, added)]
    (folder / "corp.pem").write_text(CertificateAuthority().certificate)
    changed = load_workspace(session)
    notes = permission_diff(added, changed).notes
    assert "read tools/forge/corp.pem: its certificates alone are trusted for localhost:8443" in notes


# -- secrets that are not sent -----------------------------------------------------------------------------------------


def test_a_secret_that_is_not_sent_says_why(session: Path, remit: Remit) -> None:
    """Plain HTTP, another port of the host, another host that answers 401; and a server that refuses the secret it got."""

    def answer(got: ReceivedRequest) -> Response:
        return Response(status=401 if got.target.startswith("/401") else 200)

    with Server(answer, name="localhost") as secure, Server(answer) as plain:
        write(session, secure.port, SECRET, CA, other=plain.port)
        ok, refused = (tried(session, f"https://localhost:{secure.port}/{path}") for path in ("", "401"))
        assert notes([*ok.connections, *refused.connections]) == ["", "secret 'forge' was sent, as X-Token"]
        other = f"secret 'forge' was not sent: it is for port {secure.port} of that host"
        assert notes(tried(session, f"http://localhost:{plain.port}/").connections) == [other]
        assert "200 loopback" in str(tried(session, f"http://localhost:{plain.port}/").connections[0])
        write(session, plain.port, SECRET, other=secure.port)
        (under_plain,) = tried(session, f"http://localhost:{plain.port}/").connections
        assert str(under_plain).endswith(
            "; secret 'forge' was not sent: this is plain HTTP, and a secret is sent only under TLS"
        )
    assert all("x-token" not in got.headers for got in plain.requests)


def test_tool_try_names_the_line_for_a_host_that_it_does_not_reach_or_trust(session: Path, remit: Remit) -> None:
    with Server(name="localhost") as server:
        folder = write(session, server.port)
        url = f"repo=https://localhost:{server.port}/"
        (folder / "main.py").write_text(CODE.replace("httpx.get(", "httpx.get(verify=False, url="))
        toml = (folder / "tool.toml").read_text()
        for text, fix in (
            (toml.replace("ranges", "# "), 'ranges = ["127.0.0.0/8", "::1/128"]'),
            (toml.replace(f":{server.port}", f":{server.port}/**"), f'ca = {{ "localhost:{server.port}" = "ca.pem" }}'),
        ):
            (folder / "tool.toml").write_text(text)
            assert f"to allow it, in [always] of tool.toml: {fix}" in remit("tool", "try", "forge.get", url).err


def test_a_call_that_fails_for_a_host_which_is_not_reached_says_which_line_is_missing(
    session: Path, remit: Remit
) -> None:
    """The rules allow the call, so no change of them helps."""
    with Server(name="localhost") as server:
        folder = write(session, server.port)
        (folder / "main.py").write_text(
            CODE.replace("httpx.get(repo)", "httpx.get(repo, verify=False).raise_for_status()")
        )
        toml = (folder / "tool.toml").read_text()
        (folder / "tool.toml").write_text(toml.replace("ranges", "# "))
        remit("tool", "pin", "forge")
        call = ("forge.get", json.dumps({"repo": f"https://localhost:{server.port}/"}), "--agent", "triage")
        assert remit("allow", *call, "--write").code == 0
        failed = remit("call", *call)
        line = 'to allow it, in [always] of tool.toml: ranges = ["127.0.0.0/8", "::1/128"]'
        assert (failed.code, line in failed.out) == (1, True)
        run = failed.out.partition("remit trace show ")[2].split()[0]
        assert line in remit("trace", "show", run).out
        assert line in remit("allow", f"{run}/0.0").err
