"""Who sends a request to the service: keys, tokens and sessions; each refusal is a 401 without a reason, and recorded with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from starlette.requests import Request

import remit.server.authentication.access
from remit.client import AsyncRemit, create_key, disable_principal, enable_principal, revoke_key
from remit.core import KeyScope, Principal, RunEnded
from remit.core.events import AccessRefused
from remit.journal import WORKSPACE_RUN, Journal
from remit.server import ROUTES, Access, Service, build_app
from remit.server.authentication import AccessDenied
from remit.server.authentication.refusals import EVERY_S, RefusalLog
from remit.workspace import WorkspaceSession, open_session
from support.principals import principal
from support.served import Caller
from support.tokens import AUDIENCE, ISSUER, SHOP, Provider, Shop, unsigned

READ: Final[Any] = {
    "agent": "triage",
    "action": "files.read",
    "arguments": {"path": "runbooks/payments-pool.md", "lines": 1},
}
ADMIN: Final = principal("admin")
RUNS: Final = KeyScope(actions=("remit.run",), agents=("triage",))
RULES: Final = """
g, user:admin, role:operator
g, user:admin, role:reviewer
g, user:ann, role:runner
p, service:ci, *, **, True, allow
p, role:sre, files.read, file:runbooks/**, True, allow
# Contractors read nothing
p, role:contractor, files.read, file:**, True, deny
"""
SETTINGS: Final = """
[issuers.corp]
kind = "oidc"
issuer = "{issuer}"
audience = "{audience}"
roles.groups = {{ sre = "role:sre", contractors = "role:contractor" }}

[issuers.shop]
kind = "application"
issuer = "{shop}"
audience = "{audience}"
agents = ["support"]
keys = ['''{key}''']
"""
SHOPS: Final = Shop()


def prepared(folder: Path) -> Path:
    """The starter with people, a service, an identity provider and an application."""
    rules, settings = folder / "policies" / "remit.csv", folder / "remit.toml"
    rules.write_text(rules.read_text() + RULES)
    text = settings.read_text().replace("users = [", 'users = ["user:admin", "user:ann", "service:ci", ')
    settings.write_text(text + SETTINGS.format(issuer=ISSUER, audience=AUDIENCE, shop=SHOP, key=SHOPS.public))
    return folder


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service with its authentication."""

    caller: Caller
    provider: Provider

    @property
    def session(self) -> WorkspaceSession:
        return self.caller.service.workspaces["default"].session

    @property
    def journal(self) -> Journal:
        return self.session.journal

    def refusals(self) -> list[tuple[str, str]]:
        events = (item.event for item in self.journal.events(WORKSPACE_RUN))
        return [(event.why, event.claimed) for event in events if isinstance(event, AccessRefused)]

    async def asks(self, credentials: str) -> tuple[int, str]:
        answer = await self.caller.as_(credentials).post("/v1/decisions", READ)
        return answer.status, "" if answer.body["ok"] else answer.body["error"]["message"]


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    session, provider = open_session(prepared(folder)), Provider()
    service = Service([session], Access([session], secure=False, get=provider))
    transport = httpx.ASGITransport(build_app(service, ROUTES), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8340") as client:
        yield Served(caller=Caller(client, service, ""), provider=provider)
    await service.end()


@pytest_asyncio.fixture
async def service(session: Path) -> AsyncIterator[Served]:
    async with served(session) as opened:
        yield opened


async def test_keys_and_tokens_say_who_asks(service: Served) -> None:
    key = create_key(service.session, "service:ci", RUNS, by=ADMIN)
    assert await service.asks(key.text) == (200, "")
    assert await service.asks(service.provider.token()) == (200, "")
    assert await service.asks(SHOPS.token()) == (403, "the rules do not allow it"), (
        "the application is for another agent"
    )
    assert service.refusals() == []


@pytest.mark.parametrize(
    ("groups", "status", "verdict"),
    [
        ((), 403, "deny"),
        (("sre",), 200, "allow"),
        (("sre", "contractors"), 403, "deny"),  # a deny for one role denies
        (("contractors",), 403, "deny"),
        (("role:sre", "admins"), 403, "deny"),  # the setting maps neither
    ],
)
async def test_the_roles_of_a_token_count_for_calls_that_an_agent_makes_for_its_person(
    service: Served, groups: tuple[str, ...], status: int, verdict: str
) -> None:
    ann = service.caller.as_(service.provider.token(groups=list(groups)))
    assert (await ann.post("/v1/decisions", READ)).value["verdict"] == verdict
    called = await ann.post("/v1/calls", READ)
    assert called.status == status
    replayed = await AsyncRemit(service.session, ADMIN).replay(called.body["run"])
    assert replayed.reproduced


def changed(text: str) -> str:
    return text[:-1] + ("A" if text[-1] != "A" else "B")


KEYS: Final[dict[str, tuple[str, Callable[[Served], str]]]] = {
    "a key that never was": ("unknown_key", lambda _: f"remit_{'0' * 16}_{'x' * 43}"),
    "another secret": ("unknown_key", lambda it: changed(create_key(it.session, "service:ci", RUNS, by=ADMIN).text)),
    "an expired key": ("expired_key", lambda it: create_key(it.session, "service:ci", RUNS, by=ADMIN, lasts_s=0).text),
    "a text that looks like a key": ("malformed", lambda _: "remit_x"),
    "a foreign tenant": ("wrong_audience", lambda it: it.provider.token(aud="remit-of-others")),
    "another issuer": ("unknown_issuer", lambda it: it.provider.token(iss="https://evil.example.com")),
    "an expired token": ("expired", lambda it: it.provider.token(exp=1)),
    "alg=none": ("algorithm", lambda it: unsigned(it.provider.claims(), {"alg": "none"})),
    "a forged kid": ("unknown_signer", lambda it: it.provider.token(header={"kid": "forged"})),
}


@pytest.mark.parametrize("case", KEYS)
async def test_what_does_not_prove_who_asks_is_refused_without_detail_and_recorded(service: Served, case: str) -> None:
    why, make = KEYS[case]
    credentials = make(service)
    status, message = await service.asks(credentials)
    assert (status, why in message, credentials in message) == (401, False, False)
    assert [found for found, _ in service.refusals()] == [why]


async def test_a_revoked_key_is_refused_at_once(service: Served) -> None:
    key = create_key(service.session, "service:ci", RUNS, by=ADMIN)
    assert (await service.asks(key.text))[0] == 200
    revoke_key(service.session, key.created.id, by=ADMIN)
    assert (await service.asks(key.text))[0] == 401
    assert service.refusals() == [("revoked_key", key.created.id)]


async def test_a_disabled_principal_is_refused_at_once_with_key_and_with_token(service: Served) -> None:
    key, token = create_key(service.session, "service:ci", RUNS, by=ADMIN).text, service.provider.token()
    for subject in ("service:ci", "user:ann"):
        disable_principal(service.session, subject, by=ADMIN, reason="left")
    assert [(await service.asks(one))[0] for one in (key, token)] == [401, 401]
    assert [found for found, _ in service.refusals()] == ["disabled"]
    enable_principal(service.session, "user:ann", by=ADMIN)
    assert (await service.asks(token))[0] == 200


async def test_a_token_of_an_application_is_used_once_by_whichever_process_serves_the_workspace(
    service: Served,
) -> None:
    """Another process has the same journal open: one that serves the workspace beside this one, or after it."""
    token, another = SHOPS.token(), SHOPS.token()
    assert [(await service.asks(token))[0] for _ in range(2)] == [403, 401]
    assert service.refusals() == [("replayed", SHOP)]
    other = open_session(service.session.root)
    with other.journal:
        access = Access([other], secure=False)
        with pytest.raises(AccessDenied, match="replayed"):
            await access.tokens.principal(token)
        assert (await access.tokens.principal(another)).subject == "user:ann"
    assert (await service.asks(another))[0] == 401


async def test_of_many_uses_of_one_token_at_once_in_two_processes_one_is_accepted(service: Served) -> None:
    token = SHOPS.token()
    other = open_session(service.session.root)
    with other.journal:
        access = Access([other], secure=False)
        tried = await asyncio.gather(
            *(service.asks(token) for _ in range(10)),
            *(access.tokens.principal(token) for _ in range(10)),
            return_exceptions=True,
        )
    accepted = [one for one in tried if isinstance(one, Principal) or (isinstance(one, tuple) and one[0] == 403)]
    assert len(accepted) == 1, "403: the token is accepted, and its user may not decide"
    assert all(isinstance(one, AccessDenied | Principal | tuple) for one in tried)


async def test_a_token_is_not_accepted_if_its_use_cannot_be_recorded(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> bool:
        raise RunEnded("unrecorded", "the disk is full", fix="free some space")

    with monkeypatch.context() as patched:
        patched.setattr(remit.server.authentication.access, "use_token", full)
        assert (await service.asks(SHOPS.token()))[0] == 503
    assert (await service.asks(SHOPS.token()))[0] == 403


async def test_only_an_account_of_this_machine_gets_a_link_to_log_in(service: Served) -> None:
    """A token or a key that is stolen must not become a session of a person."""
    key = create_key(service.session, "service:ci", RUNS, by=ADMIN).text
    for credentials in (service.provider.token(), key, SHOPS.token()):
        given = {"authorization": f"Bearer {credentials}"}
        answer = await service.caller.send("POST", "/v1/login-links", {}, headers=given)
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize("given", ["Basic dXNlcjpw", "Bearer", "Bearer ", "bearer a b c", "x"])
async def test_other_credentials_are_none(service: Served, given: str) -> None:
    answer = await service.caller.send("POST", "/v1/decisions", READ, headers={"authorization": given})
    assert answer.status == 401


async def test_a_request_without_credentials_is_refused_and_fills_no_journal(service: Served) -> None:
    for _ in range(5):
        answer = await service.caller.send("POST", "/v1/decisions", READ, headers={"authorization": ""})
        assert answer.status == 401
    assert len(service.refusals()) <= 1


def test_an_attacker_cannot_fill_the_journal(session: Path) -> None:
    now = [0.0]
    log, journal = RefusalLog(lambda: now[0]), open_session(session).journal
    for number in range(1000):
        log.record(journal, AccessDenied("unknown_key", f"k{number}\n\x1b"), "10.0.0.1")
    now[0] = EVERY_S + 1
    log.record(journal, AccessDenied("unknown_key"), "10.0.0.1")
    events = [item.event for item in journal.events(WORKSPACE_RUN)]
    assert [(event.claimed, event.more) for event in events if isinstance(event, AccessRefused)] == [
        ("k0??", 0),
        ("", 999),
    ]


async def test_two_workspaces_of_a_service_are_apart(session: Path, tmp_path: Path) -> None:
    """A token chooses its workspace by its audience; a key is of the workspace in which it was created."""
    import shutil

    other = tmp_path / "other"
    shutil.copytree(session, other)
    prepared(session)
    prepared(other)
    text = (other / "remit.toml").read_text().replace(f'audience = "{AUDIENCE}"', 'audience = "remit-other"')
    (other / "remit.toml").write_text('tenant = "other"\n' + text)
    first, second = open_session(session), open_session(other)
    access = Access([first, second], secure=False, get=(provider := Provider()))
    key = create_key(second, "service:ci", RUNS, by=principal("admin", tenant="other"))

    def asked(credentials: str) -> Request:
        header = (b"authorization", f"Bearer {credentials}".encode())
        return Request({"type": "http", "method": "POST", "path": "/", "headers": [header], "client": None})

    assert (await access.principal(asked(key.text))).tenant == "other"
    assert (await access.principal(asked(provider.token()))).tenant == "default"
    assert (await access.principal(asked(provider.token(aud="remit-other")))).tenant == "other"
    for opened in (first, second):
        opened.journal.close()
