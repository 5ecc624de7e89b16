"""Requests by HTTP over the socket in the workspace: the account that the kernel names asks, without credentials."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner

from remit.cli import remit as whole_command
from remit.core import UsageError
from remit.core.events import AccessRefused, ApprovalGranted
from remit.journal import WORKSPACE_RUN
from remit.workspace import open_session
from remit.workspace.identity import account_of
from support.accounts import ONLY_ROOT, OTHER, gid_of, identity, passable_starter, posted_by
from support.service_process import ServiceProcess, remit_serve

CLOSE: Final[Any] = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}
GROUP: Final = "nogroup"
SERVE: Final = f'\n[serve]\naddress = "127.0.0.1:0"\ngroup = "{GROUP}"\n'


@pytest.fixture
def served() -> Iterator[tuple[Path, ServiceProcess]]:
    """A running service of a workspace with two people: the account of this process, and `OTHER`."""
    with passable_starter() as folder:
        identity(folder, {account_of(os.geteuid()): "user:operator", f"uid-{OTHER}": "user:dana"})
        rules, settings = folder / "policies" / "rules.csv", folder / "remit.toml"
        rules.write_text(f"{rules.read_text()}\ng, user:operator, role:oncall-lead\n")
        settings.write_text(settings.read_text() + SERVE)
        with remit_serve(folder) as service:
            yield folder, service


def posted(folder: Path, uid: int, path: str, body: Any) -> tuple[int, Any]:
    return posted_by(uid, gid_of(GROUP), folder, path, body)


@contextmanager
def browser(folder: Path, service: ServiceProcess, uid: int) -> Iterator[httpx.Client]:
    """A browser in which the person of that account has logged in by the link that the service has given the account."""
    status, answer = posted(folder, uid, "/v1/login-links", {})
    assert status == 200, answer
    address, _, secret = answer["value"]["url"].rpartition("/login/link/")
    assert address == service.url
    with httpx.Client(base_url=service.url, headers={"origin": service.url}, trust_env=False, timeout=60) as client:
        entered = client.post("/login/link", data={"secret": secret})
        assert entered.status_code == 303, entered.text
        yield client
        assert client.post("/login/link", data={"secret": secret}).status_code == 403, "the link is for one use"


def grant_by_page(folder: Path, service: ServiceProcess, uid: int, run: str) -> tuple[int, str]:
    """Press the button on the page of the request; 0 if there is none."""
    with browser(folder, service, uid) as client:
        page = client.get(f"/approvals/{run}.0.0").text
        fields = dict(re.findall(r'name="(form_token|digest|role)" value="([^"]*)"', page))
        if "role" not in fields:
            return 0, html.unescape(page)
        done = client.post(f"/approvals/{run}.0.0/grant", data=fields)
        return done.status_code, html.unescape(done.text)


@ONLY_ROOT
@pytest.mark.parametrize("way", ["HTTP", "page"])
def test_two_people_with_two_accounts_approve_each_others_calls_and_neither_their_own(
    served: tuple[Path, ServiceProcess], way: str
) -> None:
    folder, service = served
    operator, dana = os.geteuid(), OTHER

    def granted(uid: int, run: str) -> int:
        if way == "page":
            return grant_by_page(folder, service, uid, run)[0]
        return posted(folder, uid, f"/v1/approvals/{run}/0.0/grant", {})[0]

    runs: list[str] = []
    for asking, answering in ((operator, dana), (dana, operator)):
        status, asked = posted(folder, asking, "/v1/calls", CLOSE)
        assert (status, asked["error"]["code"]) == (202, "approval_required")
        runs.append(asked["run"])
        assert granted(asking, asked["run"]) in (0, 403), "nobody approves their own call"
        assert granted(answering, asked["run"]) == 200
    with open_session(folder).journal as journal:
        events = [item.event for run in runs for item in journal.events(run)]
    by = [event.by for event in events if isinstance(event, ApprovalGranted)]
    kind = "link" if way == "page" else "os_account"
    assert [(one.subject, one.account, one.authenticated) for one in by] == [
        ("user:dana", f"uid-{OTHER}", kind),
        ("user:operator", account_of(operator), kind),
    ]


@ONLY_ROOT
def test_an_account_that_the_settings_do_not_name_or_that_is_not_in_the_group_gets_nothing(
    served: tuple[Path, ServiceProcess],
) -> None:
    folder, _ = served
    for path, body in (("/v1/calls", CLOSE), ("/v1/login-links", {})):
        assert posted(folder, OTHER + 1, path, body)[0] == 401
        assert posted(folder, 65534, path, body)[0] == 401, "the accounts of a container, which the kernel cannot name"
        status, why = posted_by(OTHER, OTHER, folder, path, body)
        assert (status, "no service answers" in why) == (0, True), "the folder is for the group"
        assert posted(folder, OTHER, path, body)[0] in (200, 202)
    with open_session(folder).journal as journal:
        events = [item.event for item in journal.events(WORKSPACE_RUN)]
    refused = [event.why for event in events if isinstance(event, AccessRefused)]
    assert refused == ["unknown_account"], "of each reason, one is recorded within a minute"


def test_the_command_says_what_to_do_without_a_service(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session)
    ended = CliRunner().invoke(whole_command, ["serve", "login"])
    assert isinstance(ended.exception, UsageError)
    assert "start it with `remit serve`" in str(ended.exception)
