"""`remit remote`: people with accounts at a real OpenID provider make calls and answer requests by the command line."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from remit.cli.service import remote
from remit.core.events import ApprovalGranted, ApprovalRejected
from remit.server import Access, Service
from remit.workspace import open_session
from support.cli_server import command
from support.openid_provider import OpenIdProvider, let_in, openid_provider
from support.served import Caller, answering

CLOSE: Final = ("call", "tickets.close", '{"key": "INC-2041", "reason": "fixed"}', "--agent", "triage")


@dataclass(frozen=True, kw_only=True)
class Site:
    """The service with its identity provider, and a folder of a machine without a workspace."""

    provider: OpenIdProvider
    caller: Caller
    elsewhere: Path

    async def types(self, person: str, *words: str, **env: str) -> Any:
        """What a person types who has a token of theirs."""
        own = {"REMIT_SERVICE": self.caller.url, "REMIT_TOKEN": self.provider.access_token(person), **env}
        return await asyncio.to_thread(command, self.elsewhere, "remote", *words, env=own)

    async def calls(self, person: str) -> str:
        """A call that waits for an approval. Returns its run."""
        asked = await self.types(person, *CLOSE, "--json")
        assert asked.code == 1, asked
        run: str = json.loads(asked.out)["run"]
        return run

    def answers(self, run: str) -> list[Any]:
        events = self.caller.service.workspaces["default"].journal.events(run)
        return [item.event for item in events if isinstance(item.event, ApprovalGranted | ApprovalRejected)]


@pytest_asyncio.fixture
async def site(session: Path, tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "elsewhere").mkdir()
    bound = socket.create_server(("127.0.0.1", 0))
    with openid_provider(f"http://127.0.0.1:{bound.getsockname()[1]}/login/callback") as provider:
        let_in(session, provider)
        opened = open_session(session)
        async with answering(Service([opened], Access([opened], secure=False)), bound) as caller:
            yield Site(provider=provider, caller=caller, elsewhere=tmp_path / "elsewhere")


async def test_two_people_with_accounts_at_a_provider_approve_each_others_calls_by_the_command_line(site: Site) -> None:
    for asking, other in (("ann", "dana"), ("dana", "ann")):
        run = await site.calls(asking)
        assert run[:8] in (await site.types(other, "list")).out
        assert "INC-2041" in (await site.types(other, "show", run)).out
        own = await site.types(asking, "grant", run)
        assert (own.code, "approval_invalid" in own.err) == (1, True), own
        assert site.answers(run) == [], "nobody approves their own call"
        done = await site.types(other, "grant", run[:12])
        assert (done.code, f"approved as user:{other} in role:oncall-lead" in done.out) == (0, True), done
        (granted,) = site.answers(run)
        assert (granted.by.subject, granted.by.authenticated, granted.by.issuer) == (
            f"user:{other}",
            "oidc",
            site.provider.issuer,
        )


async def test_a_person_whose_claims_are_not_mapped_sees_and_answers_nothing(site: Site) -> None:
    run = await site.calls("ann")
    assert "no request waits for you" in (await site.types("eve", "list")).out
    for words in (("show", f"{run}/0.0"), ("grant", f"{run}/0.0"), ("reject", f"{run}/0.0", "--reason", "x"), CLOSE):
        refused = await site.types("eve", *words)
        assert (refused.code, "not_found" in refused.err or "forbidden" in refused.err) == (1, True), refused
    assert site.answers(run) == []
    rejected = await site.types("dana", "reject", run, "--reason", "wrong ticket", "--json")
    assert (rejected.code, json.loads(rejected.out)["run"]) == (0, run)
    (event,) = site.answers(run)
    assert (event.by.subject, event.reason) == ("user:dana", "wrong ticket")


async def test_a_wrong_token_and_a_wrong_address_have_their_own_messages(site: Site) -> None:
    refused = await site.types("ann", "list", REMIT_TOKEN="e30.e30.")
    assert (refused.code, "unauthenticated" in refused.err) == (1, True), refused
    other = await site.types("ann", "list", REMIT_SERVICE=site.provider.issuer)
    assert (other.code, "is no service of Remit" in other.err) == (2, True), other
    silent = await site.types("ann", "list", REMIT_SERVICE="http://127.0.0.1:1")
    assert (silent.code, "does not answer" in silent.err) == (2, True), silent
    several = await site.types("ann", "show", "0")
    assert (several.code, "matches 0 open requests" in several.err) == (2, True), several


@pytest.mark.parametrize(
    ("service", "token"),
    [
        pytest.param("http://remit.example.com", "t", id="no TLS"),
        ("http://127.0.0.1.example.com", "t"),
        ("https://ann@remit.example.com", "t"),
        ("https://remit.example.com/path", "t"),
        ("https://[", "t"),
        ("", "t"),
        ("https://remit.example.com", ""),
        ("https://remit.example.com", "a\r\nX: y"),
    ],
)
def test_a_token_is_sent_over_tls_only_or_to_this_machine(
    service: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = command(tmp_path, "remote", "list", env={"REMIT_SERVICE": service, "REMIT_TOKEN": token})
    assert (refused.code, "REMIT_" in refused.err) == (2, True), refused
    for right in ("https://remit.example.com", "https://remit.example.com:8443/", "http://127.0.0.1:8340"):
        monkeypatch.setenv("REMIT_SERVICE", right)
        monkeypatch.setenv("REMIT_TOKEN", "e30.e30.c2ln")
        assert remote._service() == (right.rstrip("/"), "e30.e30.c2ln")
