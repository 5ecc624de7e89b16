"""Clients for many people: who starts, who approves, and what nobody may do twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remit import AsyncRemit, Principal, Refusal, Remit
from remit.broker.effects import settle_effect
from remit.core import UsageError
from remit.core.events import ApprovalGranted, ApprovalRefused, HoldSet, PolicyChanged, RunResumed, RunStarted
from remit.journal import WORKSPACE_RUN, StoredRecord
from support.principals import principal

CLOSE: Any = {"key": "INC-2041", "reason": "fixed"}
READ: Any = {"path": "runbooks/payments-pool.md", "lines": 1}
ISSUER = "https://login.example.com"
ANN = principal("operator", account="8c1f", issuer=ISSUER, authenticated="oidc")
DANA = principal("dana", account="22d7", issuer=ISSUER, authenticated="oidc")


@pytest.fixture
def client(session: Path) -> Iterator[Remit]:
    with Remit.open(session) as opened:
        yield opened


def recorded(client: Remit, run: str, kind: type) -> list[Any]:
    return [item.event for item in client.session.journal.events(run) if isinstance(item.event, kind)]


def test_a_service_starts_and_approves_for_several_people_on_one_open_workspace(client: Remit) -> None:
    ann, dana = client.acting_as(ANN), client.acting_as(DANA)
    asked = ann.call("tickets.close", CLOSE, agent="triage")
    assert dana.approve(asked.run).approver == "user:dana"
    assert ann.resume(asked.run).finished is not None
    (started,) = recorded(client, asked.run, RunStarted)
    assert (started.by, started.subjects.user, started.tenant) == (ANN, "user:operator", "default")
    (granted,) = recorded(client, asked.run, ApprovalGranted)
    assert (granted.by, granted.approver, granted.scripted) == (DANA, "user:dana", False)
    assert [event.by for event in recorded(client, asked.run, RunResumed)] == [ANN]
    dana.hold("all", reason="an audit")
    assert [event.by for event in recorded(client, WORKSPACE_RUN, HoldSet)] == [DANA]
    assert client.session is ann.session
    assert client.principal.authenticated == "os_account"


@pytest.mark.parametrize(
    "approver",
    [
        pytest.param(principal("dana", account="8c1f", issuer=ISSUER), id="the same account under another name"),
        pytest.param(principal("operator", account="other"), id="the same name under another account"),
        pytest.param(principal("operator", account="8c1f"), id="the same name at another authority"),
        pytest.param(principal("service:dana"), id="a service"),
        pytest.param(principal("none", account="dana"), id="an account without a user"),
        pytest.param(principal("dana", tenant="other"), id="of another tenant"),
    ],
)
def test_nobody_approves_their_own_call_under_another_account_or_name(client: Remit, approver: Principal) -> None:
    asked = client.acting_as(ANN).call("tickets.close", CLOSE, agent="triage")
    with pytest.raises(Refusal):
        client.acting_as(approver).approve(asked.run)
    assert [event.by for event in recorded(client, asked.run, ApprovalRefused)] in ([approver], [])
    assert recorded(client, asked.run, ApprovalGranted) == []
    assert client.acting_as(DANA).approve(asked.run).role == "role:oncall-lead", "another person may"


def test_one_person_under_two_names_is_one_of_two_approvers(session: Path) -> None:
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text().replace("approved('role:oncall-lead')", "approvals('role:oncall-lead') >= 2")
        + "\ng, user:operator, role:oncall-lead\n"
        + "g, user:lea, role:oncall-lead\n"
    )
    (session / "remit.toml").write_text(
        'users = ["user:dana", "user:lea", "user:mara"]\n[identity]\n"*" = "user:operator"\n'
    )
    with Remit.open(session, principal=ANN) as client:
        asked = client.call("tickets.close", CLOSE, agent="triage")
        client.acting_as(DANA).approve(asked.run)
        again = principal("lea", account=DANA.account, issuer=ISSUER)
        with pytest.raises(Refusal, match="user:dana has already approved this call"):
            client.acting_as(again).approve(asked.run)
        client.acting_as(principal("lea")).approve(asked.run)
        assert client.resume(asked.run).finished is not None


def test_a_principal_of_another_tenant_may_do_nothing_here(client: Remit, session: Path) -> None:
    other = principal("operator", tenant="other")
    for make in (
        lambda: client.acting_as(other),
        lambda: Remit.open(session, principal=other),
        lambda: AsyncRemit(client.session, other),
    ):
        with pytest.raises(Refusal, match="of the tenant 'other', and this workspace of the tenant 'default'"):
            make()
    assert client.runs() == ()


def test_the_tenant_of_remit_toml_is_that_of_every_run(session: Path) -> None:
    settings = session / "remit.toml"
    settings.write_text('tenant = "acme"\n' + settings.read_text())
    with Remit.open(session) as client:
        run = client.call("files.read", READ, agent="triage").run
        assert [(row.run, row.tenant) for row in client.runs()] == [(run, "acme")]
        (started,) = recorded(client, run, RunStarted)
        assert (started.tenant, started.by.tenant) == ("acme", "acme")


@pytest.mark.parametrize("ruled", [True, False], ids=["with rules for people", "without"])
def test_who_is_mapped_to_no_user_may_do_nothing(session: Path, ruled: bool) -> None:
    if not ruled:
        (session / "policies" / "remit.csv").unlink()
    with Remit.open(session) as client:
        nobody = client.acting_as(principal("none", account="eve"))
        if ruled:
            with pytest.raises(Refusal, match="user:none may not run agent 'triage'"):
                nobody.call("files.read", READ, agent="triage")
        else:
            read = nobody.call("files.read", READ, agent="triage")
            assert read.error is not None
            assert read.error.code == "policy_denied"
        with pytest.raises(Refusal, match="may not act for user:operator"):
            nobody.call("files.read", READ, agent="triage", user="operator")
        asked = client.call("tickets.close", CLOSE, agent="triage")
        for answer in (nobody.approve, lambda name: nobody.reject(name, reason="no")):
            with pytest.raises(Refusal, match="policy_denied" if ruled else "approval_invalid"):
                answer(asked.run)
        with pytest.raises(UsageError, match="account 'eve' has no user"):
            settle_effect(
                StoredRecord(client.session.journal, asked.run),
                0,
                0,
                landed="landed",
                by=nobody.principal,
                reason="I looked",
            )


def test_a_run_starts_with_the_rules_in_force_and_records_them(session: Path, client: Remit) -> None:
    rules = session / "policies" / "rules.csv"
    rules.write_text(f"{rules.read_text()}\n# Nobody reads now\np, agent:triage, files.read, file:**, True, deny\n")
    deadline = time.monotonic() + 10
    while client.policy is client.session.policy:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = client.call("files.read", READ, agent="triage")
    assert refused.error is not None
    assert refused.error.code == "policy_denied"
    (started,) = recorded(client, refused.run, RunStarted)
    assert started.policy_digest == client.policy.digest != client.session.policy.digest
    assert not recorded(client, refused.run, PolicyChanged), "it did not change while the run went on"
    assert client.replay(refused.run).reproduced
