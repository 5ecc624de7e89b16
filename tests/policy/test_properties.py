"""Properties of subjects and resources: who may state them, and that doubt never allows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import Context, Request, WorkspaceError
from remit.policy import Policy, load_policy
from remit.policy.casbin_reference import load_stock_enforcer
from remit.policy.language import NOTHING_STATED, Stated
from remit.policy.language.conditions import ConditionError, parse_condition
from remit.policy.language.entities import Entities, Entity, read_entities
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
ANN = {"type": "user", "id": "ann", "properties": {"team": "payments", "level": 2}}
OWN = {"type": "record", "id": "r1", "properties": {"owner": "ann", "secret": False}}
OTHER = {"type": "record", "id": "r2", "properties": {"owner": "bob", "secret": True}}


def entities(*lines: object) -> Entities:
    return read_entities("\n".join(json.dumps(line) for line in lines).encode())


def policy(*rows: str, known: tuple[object, ...] = (ANN, OWN, OTHER)) -> Policy:
    lines = "\n".join(json.dumps(line) for line in known)
    return load_policy(
        {
            "policies/model.conf": MODEL,
            "policies/rules.csv": "\n".join(rows).encode(),
            "policies/entities.jsonl": lines.encode(),
        }
    )


def asked(rules: Policy, *resources: str, stated: Stated = NOTHING_STATED, user: str = "user:ann", **facts: Any) -> str:
    request = Request(subjects=(user,), action="a.b", resources=resources, context=Context(**facts))
    return rules.decide(rules.entities.of(request, stated)).verdict


def allow(condition: str, who: str = "user:ann") -> str:
    return f"p, {who}, a.b, **, {condition}, allow"


def test_a_rule_compares_a_property_of_the_resource_with_the_user() -> None:
    rules = policy(allow("resource.owner == subject.id"))
    assert asked(rules, "record:r1") == "allow"
    assert asked(rules, "record:r2") == "deny"
    assert asked(rules, "record:unknown") == "deny"


def test_an_argument_is_compared_with_the_user_of_the_call() -> None:
    rules = policy(allow("args.owner == subject.id"))
    assert asked(rules, args={"owner": "ann"}) == "allow"
    assert asked(rules, args={"owner": "bob"}) == "deny"
    both = Request(subjects=("agent:t", "user:ann"), action="a.b", resources=(), context=Context())
    assert rules.entities.of(both).context.subject["id"] == "ann"


def test_nobody_has_no_id() -> None:
    rules = policy(allow("args.owner == subject.id", "user:none"), allow("not has(subject.id)", "user:none"))
    assert asked(rules, user="user:none", args={"owner": "none"}) == "allow"
    assert asked(policy(allow("has(subject.id)", "user:none")), user="user:none") == "deny"


def test_a_rule_may_ask_for_an_argument_before_it_reads_it() -> None:
    unguarded = policy(allow("True"), "p, user:ann, a.b, **, args.force == True, deny")
    guarded = policy(allow("True"), "p, user:ann, a.b, **, has(args.force) and args.force == True, deny")
    assert asked(unguarded) == "deny"
    assert [asked(guarded, args=args) for args in ({}, {"force": False}, {"force": True})] == ["allow", "allow", "deny"]


def test_an_enforcement_point_states_what_it_may_and_nothing_else() -> None:
    rules = policy(allow("resource.status == 'open'"), known=())
    listed = Stated.of({"resource.status"}, {}, {"status": "open"})
    assert asked(rules, "record:r9", stated=listed) == "allow"
    assert asked(rules, "record:r9", stated=Stated.of((), {}, {"status": "open"})) == "deny"


@pytest.mark.parametrize("condition", ["has(resource.secret) and resource.secret == True", "resource.secret == True"])
def test_a_property_in_doubt_is_denied_by_a_rule_that_asks_for_it(condition: str) -> None:
    rules = policy(allow("True"), f"p, user:ann, a.b, **, {condition}, deny")
    assert asked(rules, "record:r1") == "allow"
    assert asked(rules, "record:r2") == "deny"
    assert asked(rules, "record:r1", stated=Stated.of({"resource.secret"}, {}, {"secret": False})) == "allow"
    assert asked(rules, "record:r1", stated=Stated.of({"resource.secret"}, {}, {"secret": True})) == "deny"
    assert asked(rules, "record:r2", stated=Stated.of({"resource.secret"}, {}, {"secret": False})) == "deny"
    assert asked(rules, "record:r1", stated=Stated.of((), {}, {"secret": False})) == "deny"
    assert asked(rules, "record:r1", "record:r2") == "deny"
    assert asked(rules, "record:**") == "deny"


def test_neither_presence_nor_absence_of_a_property_in_doubt_allows() -> None:
    for condition in ("has(resource.owner)", "not has(resource.owner)"):
        rules = policy(allow(condition))
        assert asked(rules, "record:r1", "record:r2") == "deny"
        assert asked(rules, "record:**") == "deny"
        assert asked(rules, "record:r1", stated=Stated.of((), {}, {"owner": "ann"})) == "deny"


def test_resources_with_the_same_property_have_it_together() -> None:
    rules = policy(allow("resource.owner == 'ann'"), known=(OWN, {**OWN, "id": "r3"}))
    assert asked(rules, "record:r1", "record:r3") == "allow"
    assert asked(rules, "record:r1", "record:r4") == "deny"


def test_a_pattern_that_is_permitted_to_a_tool_depends_on_no_property() -> None:
    rules = policy(
        "p, user:ann, a.b, document:**, resource.owner == 'ann', allow", "p, user:ann, a.b, document:x, True, allow"
    )
    request = Request(subjects=("user:ann",), action="a.b", resources=("record:r1",), context=Context())
    assert rules.permitted(rules.entities.of(request), "document").allow == (("document:x",),)


def test_a_change_of_an_entity_is_another_policy() -> None:
    row = allow("resource.owner == 'ann'")
    assert policy(row).digest != policy(row, known=(ANN,)).digest
    assert policy(row).digest == policy(row).digest


@given(
    st.dictionaries(st.sampled_from(["owner", "level", "tags"]), st.sampled_from(["ann", 1, True, None, ["a"]])),
    st.dictionaries(st.sampled_from(["owner", "level", "tags"]), st.sampled_from(["ann", "bob", 1, True, None])),
    st.sets(st.sampled_from(["resource.owner", "resource.level", "resource.tags"])),
)
def test_what_a_point_states_never_hides_or_replaces_what_the_workspace_knows(
    known: dict[str, Any], stated: dict[str, Any], listed: set[str]
) -> None:
    facts = Entities((Entity(type="record", id="r", properties=known),)).facts(
        ("user:ann",), ("record:r",), Stated.of(listed, {}, stated)
    )
    for name, value in known.items():
        kept = facts["resource"].get(name, ...)
        assert (kept == value and type(kept) is type(value)) or f"resource.{name}" in facts["unclear"]
    for name in stated:
        assert f"resource.{name}" in listed or f"resource.{name}" in facts["unclear"]


def test_stock_casbin_gives_the_same_answers() -> None:
    rows = [
        allow("resource.owner == subject.id and subject.level >= 2"),
        "p, user:ann, a.b, **, has(resource.secret) and resource.secret == True, deny",
    ]
    rules = policy(*rows)
    stock = load_stock_enforcer({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()})
    answers = []
    for resources in (("record:r1",), ("record:r2",), ("record:r1", "record:r2"), ("record:**",), ("record:r9",)):
        request = rules.entities.of(
            Request(subjects=("user:ann",), action="a.b", resources=resources, context=Context())
        )
        answers.append(rules.decide(request).verdict == "allow")
        assert stock.allows(request) is answers[-1], resources
    assert answers == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ('{"type": "user", "id": "ann", "id": "bob"}', "twice"),
        ('{"type": "user"}', "id"),
        ('{"type": "User", "id": "ann"}', "type"),
        ('{"type": "user", "id": "a b"}', "canonical"),
        ('{"type": "file", "id": "docs/../a"}', "canonical"),
        ('{"type": "user", "id": "ann", "properties": {"id": "bob"}}', "the name id"),
        ('{"type": "user", "id": "ann", "properties": {"a b": 1}}', "properties"),
        ('{"type": "user", "id": "ann", "other": 1}', "other"),
    ],
)
def test_a_line_that_is_no_entity_is_reported_with_its_number(line: str, what: str) -> None:
    data = f"{json.dumps(OWN)}\n{line}\n".encode()
    with pytest.raises(WorkspaceError) as caught:
        read_entities(data)
    (problem,) = caught.value.problems
    assert problem.line == 2
    assert what in problem.what


def test_an_entity_stands_in_one_line() -> None:
    with pytest.raises(WorkspaceError, match="repeated"):
        entities(OWN, OTHER, OWN)
    assert len(entities(OWN, OTHER)) == 2
    assert len(read_entities(None)) == 0


@pytest.mark.parametrize(
    "text", ["has(labels)", "has(args)", "has('x')", "has(len(args.x))", "has()", "has(args.x) == 1"]
)
def test_has_asks_for_one_argument_or_property(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text, effect="allow")
