"""The certification scenario of AuthZEN 1.0 at the levels Basic, Batch and Search, as the working group's own file demands it.

The same over HTTP, with the levels Discovery and Transport: tests/server.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from pydantic import ValidationError

from remit.policy.authzen import ActionSearch, Evaluation, Evaluations, ResourceSearch, Search, SubjectSearch, search
from support import corpus
from support.authzen import CERTIFICATION_ENTITIES, CERTIFICATION_RULES, RECORDS, decision_point, policy_of

ALICE: Final = {"type": "user", "id": "alice"}
BOB: Final = {"type": "user", "id": "bob"}
FIRST: Final = {"type": "record", "id": "record-1"}
ARCHIVED: Final = {"type": "record", "id": "record-2", "properties": {"status": "archived"}}
SEARCHES: Final[dict[str, type[Any]]] = {"subject": SubjectSearch, "resource": ResourceSearch, "action": ActionSearch}
POINT: Final = decision_point(RECORDS, policy_of(CERTIFICATION_RULES, CERTIFICATION_ENTITIES))
# Without anything that the workspace vouches for: what the enforcement point states is all that is known.
STATED_ONLY: Final = decision_point(RECORDS, policy_of(CERTIFICATION_RULES))


def decision(asked: dict[str, Any], point: Any = POINT) -> bool:
    return bool(point.evaluate(Evaluation.model_validate(asked)).body["decision"])


def decisions(asked: dict[str, Any]) -> list[bool]:
    return [bool(one.body["decision"]) for one in POINT.evaluate_each(Evaluations.model_validate(asked))]


def results(kind: str, asked: dict[str, Any]) -> list[Any]:
    question: Search = SEARCHES[kind].model_validate(asked)
    return list(search(POINT, question).results)


def fixture() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(corpus("authzen/certification.json"))
    return found


def test_the_eight_mandated_decisions_are_given() -> None:
    cases = fixture()["decisions"]
    assert len(cases) == 8
    for case in cases:
        asked = {name: case[name] for name in ("subject", "action", "resource")}
        assert [decision(asked, point) for point in (POINT, STATED_ONLY)] == [case["decision"]] * 2, case


def test_the_six_mandated_searches_find_what_they_must() -> None:
    cases = fixture()["search"]
    assert len(cases) == 6
    for case in cases:
        found = results(case["kind"], case["request"])
        names = [item["name"] if case["kind"] == "action" else item["id"] for item in found]
        assert set(case["includes"]) <= set(names), case
        if case["kind"] != "action":
            assert {item["type"] for item in found} == {case["request"][case["kind"]]["type"]}


def test_context_properties_and_unknown_members_change_no_decision_that_does_not_read_them() -> None:
    asked = {
        "subject": {**ALICE, "properties": {"department": "Sales", "role": "manager"}},
        "action": {"name": "read", "properties": {"method": "GET"}},
        "resource": {**FIRST, "properties": {"status": "active", "owner": "bob"}},
        "context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"},
        "foo": "bar",
        "futureField": {"nested": True},
    }
    assert decision(asked)


@pytest.mark.parametrize(
    "missing",
    ["subject", "action", "resource", "subject.type", "subject.id", "action.name", "resource.type", "resource.id"],
)
def test_a_question_without_a_required_member_is_an_error(missing: str) -> None:
    asked: dict[str, Any] = {"subject": dict(ALICE), "action": {"name": "read"}, "resource": dict(FIRST)}
    outer, _, inner = missing.partition(".")
    if inner:
        del asked[outer][inner]
    else:
        del asked[outer]
    with pytest.raises(ValidationError):
        Evaluation.model_validate(asked)


@pytest.mark.parametrize(
    ("member", "value"), [("subject", "alice"), ("action", {"name": 123}), ("resource", []), ("context", "now")]
)
def test_a_member_of_another_type_is_an_error(member: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Evaluation.model_validate({"subject": ALICE, "action": {"name": "read"}, "resource": FIRST, member: value})


def test_questions_of_one_request_inherit_whole_members_and_are_answered_in_order() -> None:
    asked = {
        "subject": BOB,
        "resource": FIRST,
        "evaluations": [{"action": {"name": "read"}}, {"action": {"name": "write"}}],
    }
    assert decisions(asked) == [True, False]
    own = {
        "subject": ALICE,
        "action": {"name": "write"},
        "resource": FIRST,
        "evaluations": [{}, {"resource": ARCHIVED}],
    }
    assert decisions(own) == [True, False]
    bob = {**BOB, "properties": {"role": "admin"}}
    both = {"action": {"name": "write"}, "resource": ARCHIVED, "evaluations": [{"subject": ALICE}, {"subject": bob}]}
    assert decisions(both) == [False, True]


def test_a_question_that_is_not_complete_is_denied_and_the_others_are_answered() -> None:
    asked = {
        "subject": ALICE,
        "action": {"name": "read"},
        "evaluations": [{"resource": FIRST}, {}, {"resource": "record-1"}],
    }
    answers = [one.body for one in POINT.evaluate_each(Evaluations.model_validate(asked))]
    assert [answer["decision"] for answer in answers] == [True, False, False]
    assert answers[1]["context"]["remit"]["code"] == "invalid_evaluation"


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
        (None, [True, False, True]),
    ],
)
def test_a_semantic_says_with_which_answer_the_answers_end(semantic: str | None, expected: list[bool]) -> None:
    asked: dict[str, Any] = {
        "subject": ALICE,
        "action": {"name": "write"},
        "evaluations": [{"resource": FIRST}, {"resource": ARCHIVED}, {"resource": FIRST}],
    }
    options = {} if semantic is None else {"options": {"evaluations_semantic": semantic, "another_option": "value"}}
    assert decisions({**asked, **options}) == expected
    with pytest.raises(ValidationError):
        Evaluations.model_validate({**asked, "options": {"evaluations_semantic": "first_wins"}})


def test_the_id_of_what_is_searched_for_is_ignored() -> None:
    asked = {"subject": {"type": "user"}, "action": {"name": "read"}, "resource": FIRST}
    named = {**asked, "subject": ALICE}
    assert results("subject", named) == results("subject", asked) == [ALICE, BOB]
    records = {"subject": ALICE, "action": {"name": "read"}, "resource": {"type": "record"}}
    assert results("resource", {**records, "resource": FIRST}) == results("resource", records)
