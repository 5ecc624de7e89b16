"""Emergency approvals: only if a rule names the role, with a reason and an end, and output until a second person reviews them."""

from __future__ import annotations

import asyncio
import html
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.broker.approvals import requests as approval
from remit.broker.approvals.break_glass import Emergency, emergencies, review
from remit.core.calls import BREAK_GLASS, Context, Request
from remit.core.errors import Refusal, UsageError
from remit.journal import StoredRecord
from remit.policy import engine as policy
from remit.replay.replayer import find_tampering, replay
from remit.runtime import runner as run
from remit.tracing import read_trace
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support import ROOT
from support.lifecycle import LARGE, resumed
from support.principals import OPERATOR, principal
from support.runs import Played, Remit

EMERGENCY = f"approved('role:lead') or approved('{BREAK_GLASS}')"
PEOPLE = f"g, user:bea, {BREAK_GLASS}\ng, user:bob, {BREAK_GLASS}\n"


@pytest.fixture
def asked(clerk: Callable[..., Path]) -> Callable[..., Played]:
    """A run with a call that waits for a lead; the rules allow role:break-glass to approve it too."""

    def played(condition: str = EMERGENCY, people: str = PEOPLE) -> Played:
        folder = clerk(LARGE)
        rules = folder / "policies" / "rules.csv"
        text = rules.read_text(encoding="utf-8").replace("approved('role:lead')", condition) + people
        rules.write_text(text, encoding="utf-8")
        opened = session.open_session(folder)
        model = run.open_model_of(opened, "clerk")
        start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
        return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))

    return played


def break_glass(
    played: Played, approver: str = "user:bea", reason: str = "INC-7: no lead answers", **options: int
) -> None:
    (requested,) = played.ended.waiting
    now = time.time_ns()
    approval.grant_approval(
        StoredRecord(played.opened.journal, played.ended.run),
        requested,
        approval.Approval(
            by=principal(approver),
            role=BREAK_GLASS,
            reason=reason,
            until=now + options.get("lasts", 60_000_000_000),
        ),
        roles_of=played.opened.policy.roles_of,
        now=now,
    )


def review_as(played: Played, found: Emergency, reviewer: str, account: str = "") -> None:
    roles_of = played.opened.policy.roles_of
    by = principal(reviewer, account=account or None)
    review(played.opened.journal, found, by=by, roles_of=roles_of, note="right call")


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
    review_as(after, found, "user:leo")
    assert emergencies(after.opened.journal) == []
    (found,) = emergencies(after.opened.journal, reviewed=True)
    assert found.review is not None
    assert (found.review.by.subject, found.review.note) == ("user:leo", "right call")
    with pytest.raises(UsageError, match="already been reviewed"):
        review_as(after, found, "user:bob")


def test_a_regular_approval_of_the_same_call_needs_no_review(asked: Callable[..., Played]) -> None:
    played = asked()
    (requested,) = played.ended.waiting
    approval.grant_approval(StoredRecord(played.opened.journal, played.ended.run), requested, approval.Approval(by=principal("lea"), role="role:lead"), roles_of=played.opened.policy.roles_of, now=time.time_ns())  # fmt: skip
    assert len(resumed(played).effects) == 1
    assert emergencies(played.opened.journal) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"reason": " "}, "needs a reason", id="no reason"),
        pytest.param({"reason": "fine\u202e"}, "needs a reason", id="a reason that nobody can read"),
        pytest.param({"lasts": 0}, "must have an end", id="the end is not after the beginning"),
        pytest.param({"lasts": 2 * approval.LASTS_NS}, "must have an end", id="longer than the request"),
    ],
)
def test_an_emergency_approval_needs_a_reason_and_an_end(
    asked: Callable[..., Played], options: dict[str, object], message: str
) -> None:
    """Otherwise it is refused, and nothing runs."""
    played = asked()
    with pytest.raises(Refusal, match=message):
        break_glass(played, **options)  # type: ignore[arg-type]
    assert resumed(played).effects == []


@pytest.mark.parametrize(
    ("approver", "message"),
    [("user:lea", "the answer needs role:break-glass"), ("user:operator", "did not start the run")],
)
def test_an_emergency_needs_another_person_with_the_role(
    asked: Callable[..., Played], approver: str, message: str
) -> None:
    played = asked()
    with pytest.raises(Refusal, match=message):
        break_glass(played, approver)
    assert resumed(played).effects == []


def test_an_emergency_approval_is_refused_if_no_rule_names_the_role(asked: Callable[..., Played]) -> None:
    """The role alone allows nothing."""
    played = asked("approved('role:lead')")
    with pytest.raises(Refusal, match="does not ask for"):
        break_glass(played)


def test_an_expired_emergency_approval_does_not_count(asked: Callable[..., Played]) -> None:
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
        pytest.param("user:bea", "other", id="the approver"),
        pytest.param("user:leo", "bea", id="the same account under another name"),
        pytest.param("user:operator", "other", id="the requester"),
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
        review_as(played, found, reviewer, account)
    assert emergencies(played.opened.journal)[0].review is None


def test_the_emergency_role_is_requested_only_if_no_other_approval_suffices() -> None:
    """Its name sorts first and it needs only one person, but regular approvals are still preferred."""
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
    """The account of the tests is the requester, so its review is refused."""
    played = asked()
    break_glass(played)
    place = f"{played.ended.run[:8]}/0.0"
    output = remit("approve", "list", cwd=played.folder)
    assert "break-glass" in output.out
    assert place in output.out
    assert "INC-7: no lead answers" in output.out
    result = remit("approve", "list", "--break-glass", "--json", cwd=played.folder)
    assert [(item["run"], item["reason"]) for item in json.loads(result.out)] == [
        (played.ended.run, "INC-7: no lead answers")
    ]
    result = remit("approve", "review", place, "--note", "fine", "--json", cwd=played.folder)
    assert (result.code, result.json["error"]["code"]) == (1, "approval_invalid")
    result = remit("approve", "review", "nothing", "--note", "fine", cwd=played.folder)
    assert result.code == 2


def test_its_reason_its_end_and_its_review_are_wherever_one_looks(asked: Callable[..., Played], remit: Remit) -> None:
    """In the summary of the trace, at the call, on the page, in the export of decisions, in the spans and in the list."""
    played = asked()
    break_glass(played)
    after, run_id = resumed(played), played.ended.run[:8]
    page = played.folder / "page.html"

    def views() -> list[str]:
        assert remit("trace", "show", run_id, "--html", str(page), cwd=played.folder).code == 0
        decisions = remit("trace", "list", "--decisions", cwd=played.folder).out
        return [remit("trace", "show", run_id, cwd=played.folder).out, html.unescape(page.read_text()), decisions]

    for text in views():
        assert "emergency approval by user:bea as role:break-glass: INC-7: no lead answers; ends " in " ".join(
            text.split()
        )
        assert "not reviewed" in text
    (found,) = emergencies(after.opened.journal)
    review_as(after, found, "user:leo")
    for text in views():
        assert "reviewed by user:leo: right call" in text
        assert "not reviewed" not in text
    spans = read_trace(after.ended.trace).spans
    answers = [line for span in spans for line in span.attributes.get("remit.approval.answers", ())]
    assert any("INC-7: no lead answers; ends " in line for line in answers)
