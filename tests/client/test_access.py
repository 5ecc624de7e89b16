"""People and services that are disabled, and API keys: what stops, what is refused, and what is recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from remit import Refusal, Remit
from remit.client import (
    KEY_ACTIONS,
    create_key,
    digest_of,
    disable_principal,
    disabled_principals,
    enable_principal,
    find_request,
    list_keys,
    reject,
    revoke_key,
)
from remit.core import KeyScope, Principal, UsageError
from remit.core.events import ApprovalRejected, HoldSet, KeyCreated, KeyRevoked
from remit.journal import WORKSPACE_RUN, check_projections
from remit.workspace import may
from support.principals import principal
from support.runs import Command

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
READ: Final[Any] = {"path": "runbooks/payments-pool.md", "lines": 1}
ANN: Final = principal("operator", account="ann")
DANA: Final = principal("dana")
RUNS: Final = KeyScope(actions=("remit.run", "remit.read"), agents=("triage",))


@pytest.fixture
def client(session: Path) -> Iterator[Remit]:
    rules = session / "policies" / "remit.csv"
    rules.write_text(rules.read_text() + "g, user:admin, role:operator\ng, user:admin, role:reviewer\n")
    settings = session / "remit.toml"
    settings.write_text(settings.read_text().replace("users = [", 'users = ["user:admin", "service:ci", '))
    with Remit.open(session) as opened:
        yield opened


ADMIN: Final = principal("admin")


def recorded(client: Remit, run: str, kind: type) -> list[Any]:
    return [item.event for item in client.session.journal.events(run) if isinstance(item.event, kind)]


# ── disabled ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_disabled_person_asked_for_is_void_and_they_can_ask_for_nothing_more(client: Remit) -> None:
    ann = client.acting_as(ANN)
    asked = ann.call("tickets.close", CLOSE, agent="triage")
    done = disable_principal(client.session, ANN.subject, by=ADMIN, reason="laptop stolen")
    assert done.voided == (f"{asked.run}/0.0",)
    (rejected,) = recorded(client, asked.run, ApprovalRejected)
    assert (rejected.by, rejected.reason) == (ADMIN, "user:operator was disabled")
    assert client.acting_as(DANA).approvals() == ()
    for act in (
        lambda: client.acting_as(ANN),
        lambda: ann.call("files.read", READ, agent="triage"),
        lambda: ann.resume(asked.run),
        lambda: ann.trace(asked.run),
        lambda: ann.hold("all", reason="x"),
    ):
        with pytest.raises(Refusal, match="user:operator is disabled: laptop stolen"):
            act()
    assert [event.scope for event in recorded(client, WORKSPACE_RUN, HoldSet)] == ["user:operator"]
    assert [hold.scope for hold in disabled_principals(client.session.journal)] == ["user:operator"]


def test_a_run_of_a_disabled_person_does_not_go_on_by_the_hand_of_another(client: Remit) -> None:
    asked = client.acting_as(ANN).call("tickets.close", CLOSE, agent="triage")
    request = find_request(client.session, asked.run)
    dana = client.acting_as(DANA)
    assert dana.approve(request).approver == "user:dana"
    disable_principal(client.session, ANN.subject, by=ADMIN, reason="left")
    with pytest.raises(Refusal, match="user:operator, who asks for this call, is disabled"):
        dana.approve(request)
    assert dana.resume(asked.run).held == "admin disabled user:operator: left"
    enable_principal(client.session, ANN.subject, by=ADMIN)
    finished = dana.resume(asked.run).finished
    assert finished is not None
    (row,) = client.acting_as(ANN).runs()
    assert row.denied == 1, "what was rejected stays rejected"


def test_what_a_disabled_person_approved_does_not_begin(client: Remit) -> None:
    asked = client.acting_as(ANN).call("tickets.close", CLOSE, agent="triage")
    client.acting_as(DANA).approve(asked.run)
    done = disable_principal(client.session, DANA.subject, by=ADMIN, reason="left")
    assert done.voided == (f"{asked.run}/0.0",)
    ended = client.acting_as(ANN).resume(asked.run)
    assert ended.finished is not None
    assert client.acting_as(ANN).runs()[0].actions == {}
    other = client.acting_as(ANN).call("tickets.close", CLOSE, agent="triage")
    with pytest.raises(Refusal, match="user:dana is disabled: left"):
        client.acting_as(DANA)
    with pytest.raises(Refusal, match="user:dana is disabled"):
        reject(client.session, client.policy, find_request(client.session, other.run), by=DANA, reason="no")


def test_an_enabled_person_works_as_before(client: Remit) -> None:
    disable_principal(client.session, ANN.subject, by=ADMIN, reason="a test")
    enable_principal(client.session, ANN.subject, by=ADMIN)
    assert client.acting_as(ANN).call("files.read", READ, agent="triage").ok
    assert disabled_principals(client.session.journal) == []


@pytest.mark.parametrize("subject", ["agent:triage", "user:none", "ann", "user:", "user:a b", "role:operator"])
def test_only_users_and_services_are_disabled(client: Remit, subject: str) -> None:
    with pytest.raises(UsageError, match="cannot be named here"):
        disable_principal(client.session, subject, by=ADMIN, reason="x")


def test_who_may_not_disable_disables_nobody(client: Remit) -> None:
    with pytest.raises(Refusal, match="user:mara may not disable user:dana"):
        disable_principal(client.session, "user:dana", by=principal("mara"), reason="x")
    with pytest.raises(UsageError, match="needs a reason"):
        disable_principal(client.session, "user:dana", by=ADMIN, reason=" ")
    with pytest.raises(UsageError, match="user:dana is not disabled"):
        enable_principal(client.session, "user:dana", by=ADMIN)
    assert recorded(client, WORKSPACE_RUN, HoldSet) == []


def test_the_commands_of_a_disabled_person_are_refused(client: Remit, session: Path, command: Command) -> None:
    client.acting_as(DANA).hold("tool:tickets", reason="x")
    run = client.acting_as(ANN).call("files.read", READ, agent="triage").run
    disable_principal(client.session, "user:operator", by=ADMIN, reason="left")
    for line in (
        ["run", "triage", "task"],
        ["call", "files.read", '{"path": "a"}', "--agent", "triage"],
        ["run", "--resume", run],
        ["trace", "list"],
        ["trace", "show", run],
        ["trace", "list", "--stats"],
        ["trace", "export", run],
        ["replay", run],
        ["stop", "--all", "--reason", "x"],
        ["start", "--tool", "tickets"],
        ["audit"],
        ["approve", "list"],
        ["approve", "list", "--break-glass"],
        ["approve", "show", run],
        ["approve", "rule", f"{run}/0.0"],
        ["alert", "list"],
        ["allow", f"{run}/0.0"],
        ["policy", "backtest"],
        ["report", "triage"],
        ["drift"],
        ["targets"],
        ["eval", "list"],
        ["tool", "pin", "files"],
        ["tool", "revoke", "files", "--reason", "x"],
        ["principal", "enable", "user:operator"],
        ["key", "create", "service:ci", "--action", "remit.run", "--agent", "triage"],
    ):
        done = command(session, *line)
        assert (done.code, "user:operator is disabled: left" in done.err) == (1, True), (line, done.out, done.err)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_shown_once_and_only_its_hash_is_recorded(client: Remit) -> None:
    made = create_key(client.session, "service:ci", RUNS, by=ADMIN, lasts_s=3600)
    found = re.fullmatch(r"remit_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", made.text)
    assert found is not None
    (created,) = recorded(client, WORKSPACE_RUN, KeyCreated)
    assert (created.id, created.digest, created.by) == (found[1], digest_of(found[2]), ADMIN)
    stored = "".join(link.body or "" for link in client.session.journal.links(WORKSPACE_RUN))
    assert found[2] not in stored
    assert list_keys(client.session.journal) == [created]
    assert revoke_key(client.session, created.id, by=ADMIN) == created
    assert [event.id for event in recorded(client, WORKSPACE_RUN, KeyRevoked)] == [created.id]
    assert list_keys(client.session.journal) == []
    with pytest.raises(UsageError, match="or it is revoked"):
        revoke_key(client.session, created.id, by=ADMIN)
    assert check_projections(client.session.journal) == []


@pytest.mark.parametrize(
    ("subject", "actions", "agents", "message"),
    [
        ("user:ann", ["remit.run"], ["triage"], "cannot be named here"),
        ("agent:triage", ["remit.run"], ["triage"], "cannot be named here"),
        ("service:ci", ["remit.approve"], ["triage"], "a key cannot be for 'remit.approve'"),
        ("service:ci", ["remit.*"], ["triage"], "a key cannot be for"),
        ("service:ci", [], ["triage"], "could do nothing"),
        ("service:ci", ["remit.run"], [], "could do nothing"),
        ("service:ci", ["remit.run"], ["*"], "there is no agent"),
    ],
)
def test_a_key_names_a_service_and_what_it_is_for(
    client: Remit, subject: str, actions: list[str], agents: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        create_key(client.session, subject, KeyScope(actions=tuple(actions), agents=tuple(agents)), by=ADMIN)
    assert list_keys(client.session.journal) == []


def test_who_may_not_create_keys_creates_and_revokes_none(client: Remit) -> None:
    made = create_key(client.session, "service:ci", RUNS, by=ADMIN)
    with pytest.raises(Refusal, match=r"user:dana may not create a key of service:ci"):
        create_key(client.session, "service:ci", RUNS, by=DANA)
    with pytest.raises(Refusal, match="user:dana may not revoke key"):
        revoke_key(client.session, made.created.id, by=DANA)
    assert len(list_keys(client.session.journal)) == 1


def test_a_key_does_only_what_it_names_and_only_what_the_rules_allow(client: Remit, session: Path) -> None:
    rules = session / "policies" / "remit.csv"
    rules.write_text(rules.read_text() + "p, service:ci, remit.*, **, True, allow\n")
    with Remit.open(session) as opened:
        key = Principal(subject="service:ci", authenticated="api_key", account="k", issuer="remit", scope=RUNS)
        allowed = {
            (action, resource)
            for action in (*KEY_ACTIONS, "remit.approve", "remit.keys", "remit.erase")
            for resource in (
                "agent:triage",
                "agent:other",
                "run:own/triage",
                "run:other/other",
                "hold:all",
                "tool:files",
            )
            if may(opened.policy, key, action, resource)  # type: ignore[arg-type]  # names of own actions
        }
        assert allowed == {
            (action, resource)
            for action in ("remit.run", "remit.read")
            for resource in ("agent:triage", "run:own/triage")
        }
        without = key.model_copy(update={"subject": "service:other"})
        assert not may(opened.policy, without, "remit.run", "agent:triage"), "a key adds nothing to the rules"
        assert may(opened.policy, key.model_copy(update={"scope": None}), "remit.erase", "run:own/triage")


def test_keys_are_managed_in_a_shell(client: Remit, session: Path, command: Command) -> None:
    made = command(session, "key", "create", "service:ci", "--action", "remit.run", "--agent", "triage", "--json").json
    (row,) = command(session, "key", "list", "--json").json
    assert (row["id"], row["subject"], "digest" in row) == (made["id"], "service:ci", False)
    shown = command(session, "key", "list").out
    assert "service:ci  remit.run with triage  never expires" in shown
    assert made["key"].rpartition("_")[2] not in shown
    assert command(session, "key", "revoke", made["id"]).code == 0
    assert command(session, "key", "list").out == "there are no keys\n"


def test_a_name_that_nothing_knows_is_disabled_with_a_line_that_names_the_near_one(
    session: Path, command: Command
) -> None:
    """A provider may know people that no file names, so it is not refused; one that is known gets no such line."""
    misspelled = command(session, "principal", "disable", "user:mar", "--reason", "has left")
    assert misspelled.code == 0
    assert "check the name: no rule, setting or run names user:mar; did you mean user:mara?" in misspelled.out
    known = command(session, "principal", "disable", "user:mara", "--reason", "has left", "--json")
    assert known.json["unknown"] is None
