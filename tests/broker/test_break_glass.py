"""Emergency approvals: only where a rule names the role, with a reason and an end, and open until a second person looks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.broker.approvals import requests as approval
from remit.broker.approvals.break_glass import Emergency, emergencies, review
from remit.core.calls import BREAK_GLASS, Context, Request
from remit.core.errors import Refusal, UsageError
from remit.policy import engine as policy
from remit.replay.replayer import find_tampering, replay
from remit.runtime import runner as run
from remit.tracing import read_trace
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support import ROOT
from support.lifecycle import LARGE, resumed
from support.runs import Played, Remit

EMERGENCY = f"approved('role:lead') or approved('{BREAK_GLASS}')"
PEOPLE = f"g, user:bea, {BREAK_GLASS}\ng, user:bob, {BREAK_GLASS}\n"


@pytest.fixture
def asked(clerk: Callable[..., Path]) -> Callable[..., Played]:
    """A run whose call waits for a lead; the rules let role:break-glass approve it too."""

    def played(condition: str = EMERGENCY, people: str = PEOPLE) -> Played:
        folder = clerk(LARGE)
        rules = folder / "policies" / "rules.csv"
        text = rules.read_text(encoding="utf-8").replace("approved('role:lead')", condition) + people
        rules.write_text(text, encoding="utf-8")
        opened = session.open_session(folder)
        model = run.open_model_of(opened, "clerk")
        start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", account="tester", model=model)
        return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))

    return played


def break_glass(
    played: Played, approver: str = "user:bea", reason: str = "INC-7: no lead answers", **options: int
) -> None:
    (requested,) = played.ended.waiting
    now = time.time_ns()
    approval.grant_approval(
        run.Record(played.opened.journal, played.ended.run),
        requested,
        approval.Approval(
            approver=approver,
            role=BREAK_GLASS,
            account=approver.removeprefix("user:"),
            reason=reason,
            until=now + options.get("lasts", 60_000_000_000),
        ),
        roles_of=played.opened.policy.roles_of,
        now=now,
    )


def look(played: Played, found: Emergency, reviewer: str, account: str = "") -> None:
    roles_of = played.opened.policy.roles_of
    account = account or reviewer.removeprefix("user:")
    review(played.opened.journal, found, reviewer=reviewer, account=account, roles_of=roles_of, note="right call")


def test_an_emergency_approval_runs_the_call_and_stays_listed_until_a_second_person_reviews_it(
    asked: Callable[..., Played],
) -> None:
    played = asked()
    assert [missing.role for missing in played.ended.waiting[0].missing] == ["role:lead"]
    break_glass(played)
    after = resumed(played)
    assert len(after.effects) == 1
    trace = read_trace(after.ended.trace)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    assert asyncio.run(replay(trace.records, books, tampering=find_tampering(trace.faults(), trace.chain))).reproduced
    (found,) = emergencies(after.opened.journal)
    assert (found.granted.approver, found.granted.reason, found.review) == ("user:bea", "INC-7: no lead answers", None)
    look(after, found, "user:leo")
    (found,) = emergencies(after.opened.journal)
    assert found.review is not None
    assert (found.review.reviewer, found.review.note) == ("user:leo", "right call")
    with pytest.raises(UsageError, match="reviewed already"):
        look(after, found, "user:bob")


def test_the_lead_may_still_approve_and_then_nothing_is_to_be_reviewed(asked: Callable[..., Played]) -> None:
    played = asked()
    (requested,) = played.ended.waiting
    approval.grant_approval(run.Record(played.opened.journal, played.ended.run), requested, approval.Approval(approver="user:lea",role="role:lead",account="lea"), roles_of=played.opened.policy.roles_of, now=time.time_ns())  # fmt: skip
    assert len(resumed(played).effects) == 1
    assert emergencies(played.opened.journal) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"reason": " "}, "says why", id="no reason"),
        pytest.param({"reason": "fine\u202e"}, "says why", id="a reason that nobody can read"),
        pytest.param({"lasts": 0}, "ends", id="over before it began"),
        pytest.param({"lasts": 2 * approval.LASTS_NS}, "ends", id="longer than the request"),
    ],
)
def test_an_emergency_approval_says_why_and_until_when(
    asked: Callable[..., Played], options: dict[str, object], said: str
) -> None:
    """Or it is refused, and runs nothing."""
    played = asked()
    with pytest.raises(Refusal, match=said):
        break_glass(played, **options)  # type: ignore[arg-type]
    assert resumed(played).effects == []


@pytest.mark.parametrize(("approver", "said"), [("user:lea", "does not have"), ("user:operator", "requester's own")])
def test_an_emergency_needs_another_person_with_the_role(
    asked: Callable[..., Played], approver: str, said: str
) -> None:
    played = asked()
    with pytest.raises(Refusal, match=said):
        break_glass(played, approver)
    assert resumed(played).effects == []


def test_where_no_rule_names_the_role_nobody_breaks_the_glass(asked: Callable[..., Played]) -> None:
    """Having the role is no power by itself."""
    played = asked("approved('role:lead')")
    with pytest.raises(Refusal, match="nobody asked"):
        break_glass(played)


def test_an_emergency_approval_that_has_lapsed_counts_no_more(asked: Callable[..., Played]) -> None:
    played = asked()
    break_glass(played, lasts=200_000_000)
    until = time.monotonic() + 5
    while time.time_ns() < emergencies(played.opened.journal)[0].granted.until and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.02)
    after = resumed(played)
    assert after.effects == []
    assert after.ended.finished is None


@pytest.mark.parametrize(
    ("reviewer", "account"),
    [
        pytest.param("user:bea", "other", id="who approved it"),
        pytest.param("user:leo", "bea", id="the same account under another name"),
        pytest.param("user:operator", "other", id="who asked for it"),
        pytest.param("user:leo", "tester", id="the account that started the run"),
        pytest.param("agent:clerk", "other", id="an agent"),
        pytest.param("user:mallory", "mallory", id="without a role"),
    ],
)
def test_only_a_second_person_with_a_role_reviews_it(asked: Callable[..., Played], reviewer: str, account: str) -> None:
    played = asked()
    break_glass(played)
    (found,) = emergencies(played.opened.journal)
    with pytest.raises(Refusal, match="approval_invalid"):
        look(played, found, reviewer, account)
    assert emergencies(played.opened.journal)[0].review is None


def test_the_emergency_role_is_asked_only_where_nobody_else_can_approve() -> None:
    """Its name sorts first and one person is one person, and still it comes last."""
    model = (ROOT / "policies" / "model.conf").read_bytes()
    rows = f"p, agent:a, a.b, **, {EMERGENCY}, allow\n{PEOPLE}"
    request = Request(subjects=("agent:a",), action="a.b", resources=("file:x",), context=Context())

    def decided(text: str) -> tuple[list[str], bool]:
        rules = policy.load_policy({"policies/model.conf": model, "policies/rules.csv": text.encode()})
        decision = rules.decide(request)
        return [missing.role for missing in decision.missing], decision.break_glass

    assert decided(rows + "g, user:lea, role:lead\n") == (["role:lead"], True)
    assert decided(rows) == ([BREAK_GLASS], True)
    both = rows.replace(" or ", " and ") + "g, user:lea, role:lead\n"
    assert decided(both) == ([BREAK_GLASS, "role:lead"], False)


def test_the_command_line_lists_and_reviews_it(asked: Callable[..., Played], remit: Remit) -> None:
    """The account that runs the tests is the requester's own, so what it says is refused."""
    played = asked()
    break_glass(played)
    place = f"{played.ended.run[:8]}/0.0"
    listed = remit("approve", "list", cwd=played.folder)
    assert "break-glass" in listed.out
    assert place in listed.out
    assert "INC-7: no lead answers" in listed.out
    said = remit("approve", "list", "--break-glass", "--json", cwd=played.folder)
    assert [(one["run"], one["reason"]) for one in json.loads(said.out)] == [
        (played.ended.run, "INC-7: no lead answers")
    ]
    said = remit("approve", "review", place, "--note", "fine", "--json", cwd=played.folder)
    assert (said.code, said.json["error"]["code"]) == (1, "approval_invalid")
    said = remit("approve", "review", "nothing", "--note", "fine", cwd=played.folder)
    assert said.code == 2
