"""What an enforcement point may ask and state, what it reads of a denial, and what limits its searches."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest

from remit.core import WorkspaceError
from remit.core.parsing import read_table
from remit.policy.authzen import (
    DecisionPoint,
    EnforcementPointTable,
    Evaluation,
    PageError,
    SubjectSearch,
    check_points,
    points_of,
    search,
)
from support.authzen import RECORDS, decision_point, policy_of

RULES: Final = """\
# disclose: remedy
# Ann reads what is open
p, user:ann, records.read, record:*, resource.status == 'open', allow
# disclose: rule
# Frozen records stay as they are
p, user:ann, records.write, record:*, has(resource.status) and resource.status == 'frozen', deny
p, user:ann, records.write, record:*, True, allow
# A lead agrees
p, user:ann, records.delete, record:*, approved('role:lead'), allow
g, user:lea, role:lead
"""


def point(rules: str = RULES, **more: Any) -> DecisionPoint:
    return decision_point(RECORDS, policy_of(rules), **more)


def asked(
    action: str = "write", kind: str = "record", name: str = "r1", who: str = "ann", of: str = "user", **properties: Any
) -> Evaluation:
    return Evaluation.model_validate(
        {
            "subject": {"type": of, "id": who},
            "action": {"name": action},
            "resource": {"type": kind, "id": name, "properties": properties},
        }
    )


def test_a_listed_property_decides_and_an_unlisted_one_is_in_doubt() -> None:
    assert point().evaluate(asked("read", status="open")).record.allowed
    assert not point().evaluate(asked("read", status="closed")).record.allowed
    unlisted = DecisionPoint(
        point=points_of({"records": table(resource_properties=[])})["records"],
        policy=point().policy,
        env="local",
        time="12:00",
        is_disabled=lambda _: False,
    )
    assert not unlisted.evaluate(asked("read", status="open")).record.allowed
    assert not unlisted.evaluate(asked("write", status="open")).record.allowed  # a deny asks for it
    assert unlisted.evaluate(asked("write")).record.allowed
    assert unlisted.evaluate(asked("write", colour="red")).record.allowed  # no rule asks for that one


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (asked("share"), "not_listed"),
        (asked(kind="file"), "not_listed"),
        (asked(of="role", who="lead"), "not_listed"),
        (asked(of="agent", who="triage"), "not_listed"),
        (asked(who="none"), "invalid_id"),
        (asked(who="ann, role:lead"), "invalid_id"),
        (asked(name="**"), "invalid_id"),
        (asked(name="../r1"), "invalid_id"),
        (asked(name="r1\u200b"), "invalid_id"),
    ],
)
def test_what_is_not_listed_or_has_no_canonical_name_is_denied_without_asking_the_rules(
    question: Evaluation, code: str
) -> None:
    everything = "p, user:ann, *, **, True, allow\np, user:none, *, **, True, allow\np, role:lead, *, **, True, allow\ng, user:lea, role:lead\n"
    answered = point(everything).evaluate(question)
    assert (answered.body["decision"], answered.record.code) == (False, code)
    assert point(everything).evaluate(asked()).record.allowed


def test_a_disabled_subject_may_do_nothing_and_no_search_finds_it() -> None:
    disabled = point(is_disabled=lambda name: name == "user:ann")
    assert disabled.evaluate(asked("write")).record.code == "disabled"
    question = SubjectSearch.model_validate(
        {"subject": {"type": "user"}, "action": {"name": "write"}, "resource": {"type": "record", "id": "r1"}}
    )
    assert search(disabled, question).results == ()
    assert search(point(), question).results == ({"type": "user", "id": "ann"},)


def test_a_denial_says_no_more_than_its_rule_discloses() -> None:
    frozen = point().evaluate(asked("write", status="frozen")).body["context"]
    assert frozen["remit"]["rules"] == ["Frozen records stay as they are"]
    assert "Frozen records" in frozen["reason"]
    hidden = RULES.replace("# disclose: rule", "# disclose: none")
    silent = point(hidden).evaluate(asked("write", status="frozen")).body["context"]
    assert "rules" not in silent["remit"]
    assert "rozen" not in json.dumps(silent)


def test_a_call_that_needs_an_approval_is_denied_and_says_whose() -> None:
    answered = point().evaluate(asked("delete"))
    assert answered.body["decision"] is False
    assert answered.body["context"]["remit"] == {"code": "approval", "missing": [{"role": "role:lead", "count": 1}]}


def test_the_record_of_an_answer_has_its_rules_and_not_what_was_stated() -> None:
    answer = point().evaluate(asked("read", status="open")).record
    assert answer.model_dump(exclude={"at", "request", "found"}) == {
        "subject": "user:ann",
        "action": "records.read",
        "resource": "record:r1",
        "allowed": True,
        "code": "allowed",
        "rules": ("policies/rules.csv:3",),
    }


def test_an_answer_that_stock_casbin_does_not_confirm_is_no() -> None:
    doubted = DecisionPoint(
        point=RECORDS,
        policy=point().policy,
        env="local",
        time="12:00",
        is_disabled=lambda _: False,
        confirmed=lambda *_: False,
    )
    answered = doubted.evaluate(asked("write"))
    assert (answered.body["decision"], answered.record.code) == (False, "engines_disagree")


# ── searches ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

PEOPLE: Final = "p, role:staff, records.read, record:*, True, allow\n" + "".join(
    f"g, user:p{number:04}, role:staff\n" for number in range(2500)
)


def who(**page: Any) -> SubjectSearch:
    return SubjectSearch.model_validate(
        {
            "subject": {"type": "user"},
            "action": {"name": "read"},
            "resource": {"type": "record", "id": "r1"},
            "page": page,
        }
    )


def test_the_pages_of_a_search_have_each_result_once_and_in_order() -> None:
    crowded = point(PEOPLE)
    names: list[str] = []
    token, pages = "", 0
    while True:
        found = search(crowded, who(limit=400, token=token))
        names += [str(item["id"]) for item in found.results]
        pages += 1
        assert len(found.results) <= 400
        assert found.body["page"]["count"] == len(found.results)
        token = found.next_token
        if not token:
            break
    assert names == [f"p{number:04}" for number in range(2500)]
    assert pages == 7


def test_a_page_ends_after_a_bounded_number_of_decisions() -> None:
    nobody = point(PEOPLE.replace("True, allow", "False, allow"))
    first = search(nobody, who())
    assert first.results == ()
    assert first.next_token
    assert search(nobody, who(token=search(nobody, who(token=first.next_token)).next_token)).next_token == ""


def test_no_page_has_more_results_than_the_bound() -> None:
    assert len(search(point(PEOPLE), who(limit=10**9)).results) == 1000
    assert len(search(point(PEOPLE), who()).results) == 100
    assert search(point(PEOPLE), who(limit=0)).results == ()


def test_a_token_belongs_to_one_search() -> None:
    crowded = point(PEOPLE)
    token = search(crowded, who(limit=2)).next_token
    assert [item["id"] for item in search(crowded, who(token=token)).results] == ["p0002", "p0003"]
    others = [who(limit=3, token=token), who(token=token).model_copy(update={"action": asked("write").action})]
    for other in others:
        with pytest.raises(PageError):
            search(crowded, other)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "bm9uc2Vuc2U=",
        base64.urlsafe_b64encode(b'{"of": "", "after": "", "limit": true}').decode(),
        base64.urlsafe_b64encode(b"[]").decode(),
        "é",
    ],
)
def test_a_token_that_the_service_did_not_make_is_refused(token: str) -> None:
    with pytest.raises(PageError):
        search(point(PEOPLE), who(token=token))


# ── remit.toml ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(**more: Any) -> EnforcementPointTable:
    return EnforcementPointTable(
        **{"account": "service:records", "actions": ["read", "write"], "resource_types": ["record"], **more}
    )


def test_the_names_of_actions_are_those_of_rules() -> None:
    points = points_of({"library": table(actions=["extend-loan", "GET /books"])})
    assert points["library"].actions == {"extend-loan": "library.extend_loan", "GET /books": "library.get_books"}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"account": "agent:triage"}, "an account"),
        ({"account": "records"}, "an account"),
        ({"actions": []}, "at least 1"),
        ({"actions": ["a-b", "a_b"]}, "cannot tell apart"),
        ({"resource_types": []}, "at least 1"),
        ({"resource_types": ["Record"]}, "a type of resources"),
        ({"subject_types": ["role"]}, "user"),
        ({"resource_properties": ["id"]}, "id is always known"),
        ({"properties": ["x"]}, "properties"),
    ],
)
def test_a_mistake_in_an_enforcement_point_is_a_problem_with_its_fix(wrong: dict[str, Any], what: str) -> None:
    value = {"account": "service:records", "actions": ["read"], "resource_types": ["record"], **wrong}
    found, problems = read_table(EnforcementPointTable, value, file="remit.toml", text="")
    assert found is None
    assert any(what in f"{problem.what} {problem.fix}" for problem in problems), problems


def test_an_enforcement_point_has_a_name_and_an_account_of_its_own() -> None:
    points = points_of({"files": table(), "other": table()})
    problems = [problem.what for problem in check_points(points, {"files"}, file="remit.toml")]
    assert ["name of a tool" in what or "same account" in what for what in problems] == [True, True]
    assert list(check_points(points_of({"records": table()}), {"files"}, file="remit.toml")) == []


def test_entities_that_are_no_entities_stop_the_policy() -> None:
    with pytest.raises(WorkspaceError):
        policy_of(RULES, [{"type": "record", "id": "a b"}])
