"""Conditions: a closed grammar, type-checked when loaded; evaluation never raises."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remit.core.calls import Context
from remit.policy.language.conditions import ConditionError, Effect, holds, parse_condition

TYPES = {
    "path": "string",
    "amount": "integer",
    "price": "number",
    "dry": "boolean",
    "to": "array",
    "more": "object",
    "x": "any",
}


def allow(text: str, **facts: Any) -> bool:
    return parse_condition(text, effect="allow").holds(Context(**facts))


def deny(text: str, **facts: Any) -> bool:
    return parse_condition(text, effect="deny").holds(Context(**facts))


def problems(text: str, effect: Effect = "allow") -> str:
    with pytest.raises(ConditionError) as caught:
        parse_condition(text, effect=effect, arguments=TYPES, actions=["files.read", "mail.send"])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("True", {}, True),
        ("False", {}, False),
        ("args.amount <= 10", {"args": {"amount": 10}}, True),
        ("args.amount < 10", {"args": {"amount": 10}}, False),
        ("args.amount > -1", {"args": {"amount": 0}}, True),
        ("1 <= args.amount <= 3", {"args": {"amount": 2}}, True),
        ("1 <= args.amount <= 3", {"args": {"amount": 4}}, False),
        ("args.amount == 1.0", {"args": {"amount": 1}}, True),
        ("args.dry", {"args": {"dry": True}}, True),
        ("not args.dry", {"args": {"dry": True}}, False),
        ("args.x == 1", {"args": {"x": True}}, False),
        ("args.x == True", {"args": {"x": 1}}, False),
        ("args.x != 'a'", {"args": {"x": None}}, True),
        ("'/tmp/' in args.path", {"args": {"path": "/tmp/r.txt"}}, True),
        ("args.path == '/tmp/r.txt'", {"args": {"path": "/tmp/r.txt"}}, True),
        ("args.path == '/tmp/r.txt'", {"args": {"path": "/tmp/r_txt"}}, False),
        ("args.path == 'a!b'", {"args": {"path": "a!b"}}, True),
        ("args.path == 'a!b'", {"args": {"path": "anot b"}}, False),
        ("args.path == 'a&&b || r.sub p.act'", {"args": {"path": "a&&b || r.sub p.act"}}, True),
        ("args.to == 'mail:r.ann@example.com'", {"args": {"to": "mail:r.ann@example.com"}}, True),
        ("'a' in args.to", {"args": {"to": ["b", "a"]}}, True),
        ("1 in args.to", {"args": {"to": [True]}}, False),
        ("'a' not in args.to", {"args": {"to": ["b"]}}, True),
        ("len(args.path) <= 3", {"args": {"path": "abc"}}, True),
        ("len(args.to) == 2", {"args": {"to": [1, 2]}}, True),
        ("args.items == 'i' and args.keys == 'k'", {"args": {"items": "i", "keys": "k"}}, True),
        ("'untrusted' in labels", {"labels": frozenset({"untrusted"})}, True),
        ("'untrusted' not in labels", {"labels": frozenset({"untrusted"})}, False),
        ("named_by_user", {"named_by_user": True}, True),
        ("args.path in contains", {"args": {"path": "a"}, "contains": frozenset({"a"})}, True),
        ("calls('mail.send') < 2", {"calls": {"mail.send": 1}}, True),
        ("calls('mail.send') < 2", {"calls": {"mail.send": 2}}, False),
        ("calls('mail.send') == 0", {}, True),
        ("env == 'local'", {}, True),
        ("confinement == 'full'", {"confinement": "none"}, False),
        ("'09:00' <= time < '17:30'", {"time": "17:29"}, True),
        ("'09:00' <= time < '17:30'", {"time": "17:30"}, False),
        ("approved('role:lead')", {"approvals": {"role:lead": 1}}, True),
        ("approved('role:lead')", {"approvals": {"role:boss": 1}}, False),
        ("confirmed()", {"approvals": {"confirmation": 1}}, True),
        ("confirmed()", {"approvals": {"role:lead": 1}}, False),
        ("approved('role:confirmation')", {"approvals": {"confirmation": 1}}, False),
        ("approvals('role:lead') >= 2", {"approvals": {"role:lead": 1}}, False),
        ("2 <= approvals('role:lead')", {"approvals": {"role:lead": 2}}, True),
        ("approvals('role:lead') > 1", {"approvals": {"role:lead": 2}}, True),
        ("not (approvals('role:lead') < 2)", {"approvals": {"role:lead": 2}}, True),
        ("named_by_user or args.amount < 3 and args.dry", {"args": {"amount": 1, "dry": False}}, False),
        ("(named_by_user or args.amount < 3) and not args.dry", {"args": {"amount": 1, "dry": False}}, True),
    ],
)
def test_a_condition_has_the_value_that_python_would_give_it(text: str, facts: dict[str, Any], expected: bool) -> None:
    """On an allow row, with readable facts."""
    assert allow(text, **facts) is expected


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("args.amount < 10", {}),
        ("args.amount < 10", {"amount": "9"}),
        ("args.amount < 10", {"amount": None}),
        ("args.amount < 10", {"amount": True}),
        ("args.dry", {"dry": 1}),
        ("args.x == 'a'", {"x": ["a"]}),
        ("args.x == args.y", {"x": {}, "y": {}}),
        ("'a' in args.x", {"x": 5}),
        ("'a' in args.x", {"x": {"a": 1}}),
        ("args.x in labels", {"x": 5}),
        ("args.x in args.y", {"x": 1, "y": "12"}),
        ("len(args.x) < 3", {"x": 1}),
        ("not args.dry", {}),
        ("args.nothing == 1 and named_by_user", {}),
    ],
)
def test_an_unreadable_condition_never_allows_and_always_denies(text: str, args: dict[str, Any]) -> None:
    """No argument raises an exception."""
    assert allow(text, args=args, named_by_user=True) is False
    assert deny(text, args=args, named_by_user=True) is True
    assert holds(text, "allow")(Context(args=args)) is False
    assert holds(text, "deny")(Context(args=args, named_by_user=True)) is True


def test_an_unreadable_part_matters_only_if_the_rest_is_not_decisive() -> None:
    """An unreadable part has the same weight before and after the others."""
    for left, right in (("args.gone == 1", "named_by_user"), ("named_by_user", "args.gone == 1")):
        assert allow(f"{left} or {right}", named_by_user=True) is True
        assert allow(f"{left} or {right}", named_by_user=False) is False
        assert deny(f"{left} or {right}", named_by_user=False) is True
        assert deny(f"{left} and {right}", named_by_user=False) is False
        assert deny(f"{left} and {right}", named_by_user=True) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not one complete expression"),
        ("True True", "not one complete expression"),
        ("True) or (True", "not one complete expression"),
        ("True; False", "has a syntax error"),
        ("True # a", "has a syntax error"),
        ("a = 1", "has a syntax error"),
        ("args.path := 1", "has a syntax error"),
        ("args['path'] == 'a'", "has a syntax error"),
        ('args.path == "a"', "has a syntax error"),
        ("args.path == 'a\\n'", "has a syntax error"),
        ("args.path == '''a'''", "has a syntax error"),
        ("args.path in ('a', 'b')", "has a syntax error"),
        ("args.path && named_by_user", "has a syntax error"),
        ("!named_by_user", "has a syntax error"),
        ("args.amount + 1 == 2", "has a syntax error"),
        ("args.amount == 0x10", "has a syntax error"),
        ("args.amount == 1_0", "has a syntax error"),
        ("args.amount == 010", "has a syntax error"),
        ("args.amount == 1e9", "has a syntax error"),
        ("args.amount == 1or named_by_user", "has a syntax error"),
        ("аrgs.path == 'a'", "has a syntax error"),
        ("args.path == f'a'", "is not a fact"),
        ("args.path == b'a'", "is not a fact"),
        ("true", "is not a fact"),
        ("None", "is not a fact"),
        ("args", "is not a fact"),
        ("args.more.deep == 1", "is not a fact"),
        ("args.path.startswith('a')", "is not a fact"),
        ("labels.__class__ == 'a'", "is not a fact"),
        ("r.ctx == 1", "is not a fact"),
        ("open('x') == 1", "is not a fact"),
        ("lambda == 1", "not one complete expression"),
        ("named_by_user if named_by_user else named_by_user", "is not a fact"),
        ("(named_by_user for named_by_user in labels)", "is not a fact"),
        ("args.path is named_by_user", "by identity"),
        ("args.path", "not true or false"),
        ("labels", "not true or false"),
        ("calls('mail.send')", "not true or false"),
        ("approvals('role:lead')", "not true or false"),
        ("args.pth == 'a'", "is not an argument"),
        ("calls('mail.sent') < 1", "does not name an action"),
        ("calls(args.path) < 1", "does not have one name as argument"),
        ("calls('mail.send') == '1'", "compares a number with a string"),
        ("approved('lead')", "is not a role"),
        ("approved(lead)", "does not have one name as argument"),
        ("approved('role:*')", "is not a role"),
        ("args.amount == '10'", "compares a number with a string"),
        ("args.path < 10", "compares a string with a number"),
        ("args.dry == 1", "compares a boolean with a number"),
        ("args.dry < True", "orders true and false"),
        ("args.to == args.to", "as a whole"),
        ("labels == 'a'", "as a whole"),
        ("'a' in args.amount", "contains nothing"),
        ("'a' in args.more", "contains nothing"),
        ("1 in labels", "among texts"),
        ("labels in labels", "is searched"),
        ("len(labels) < 3", "has no length"),
        ("len(args.amount) < 3", "has no length"),
        ("time > '9:00'", "time is never"),
        ("time == '24:00'", "time is never"),
        ("confinement == 'ful'", "confinement is never"),
        ("not " * 200 + "named_by_user", "nested too deeply"),
        ("(" * 300 + "named_by_user" + ")" * 300, "not one complete expression|nested too deeply"),
        ("named_by_user or " * 200 + "named_by_user", "characters long"),
    ],
)
def test_an_invalid_condition_does_not_load(text: str, message: str) -> None:
    """Each has one clear reason; nothing is left to fail when a request is decided."""
    assert any(part in problems(text) for part in message.split("|"))


def test_every_problem_of_a_condition_is_reported_at_once() -> None:
    """An author fixes a row once."""
    with pytest.raises(ConditionError) as caught:
        parse_condition("args.a == 1 and args.b == 2 and time == 'noon'", effect="allow", arguments=TYPES)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "text",
    [
        "approved('role:lead')",
        "approvals('role:lead') >= 2",
        "named_by_user and approved('role:lead')",
        "2 <= approvals('role:lead')",
        "not approvals('role:lead') < 2",
    ],
)
def test_approvals_are_positive_in_allow_rows_and_negated_in_deny_rows(text: str) -> None:
    """Then a further approval never removes an allow, and the approvals to ask for can be computed exactly."""
    parse_condition(text, effect="allow")
    parse_condition(f"not ({text})", effect="deny")
    assert "an approval would forbid" in problems(f"not ({text})", "allow")
    assert "an approval would forbid" in problems(text, "deny")


@pytest.mark.parametrize(
    "text",
    [
        "approvals('role:lead') == 2",
        "approvals('role:lead') != 0",
        "approvals('role:lead') >= args.amount",
        "approvals('role:a') >= approvals('role:b')",
        "approvals('role:lead') >= 0",
        "approvals('role:lead') >= 1.5",
        "approvals('role:lead') in args.to",
        "True >= approvals('role:lead')",
    ],
)
def test_approvals_are_compared_with_a_minimum_only(text: str) -> None:
    """With an exact count, a further approval could remove an allow."""
    for effect in ("allow", "deny"):
        problems(text, effect)


def test_a_further_approval_never_removes_an_allow() -> None:
    """For every combination of an approval with facts that are true, false or unreadable."""
    atoms = ("named_by_user", "not named_by_user", "args.gone", "not args.gone")
    for a, b, inner, outer in product(atoms, atoms, ("and", "or"), ("and", "or")):
        for text in (
            f"({a} {inner} A) {outer} {b}",
            f"{b} {outer} ({a} {inner} A)",
            f"not (({a} {inner} not A) {outer} {b})",
        ):
            before, after = Context(), Context(approvals={"role:lead": 1})
            condition = text.replace("A", "approved('role:lead')")
            grants = parse_condition(condition, effect="allow")
            assert grants.holds(after) >= grants.holds(before), text
            denies = parse_condition(f"not ({condition})", effect="deny")
            assert denies.holds(after) <= denies.holds(before), text


def test_facts_are_named_and_read_as_json() -> None:
    """A decision records a length instead of the text, a sorted list instead of a set, and no unreadable fact."""
    text = (
        "len(args.text) < 9 and args.to in contains and args.gone == 1 and approved('role:lead') and calls('a.b') < 1"
    )
    condition = parse_condition(text, effect="allow")
    context = Context(args={"text": "secret", "to": "b"}, contains=frozenset({"b", "a"}), approvals={"role:lead": 1})
    assert condition.facts(context) == {
        "len(args.text)": 6,
        "args.to": "b",
        "contains": ["a", "b"],
        "approvals('role:lead')": 1,
        "calls('a.b')": 0,
    }


@settings(database=None, derandomize=True, deadline=None, max_examples=400)
@given(st.text(alphabet="args.named_by_user xA'() 0129<=!>-_nota dri,\"#", max_size=60))
@example("args.a" * 20)
def test_no_text_makes_the_parser_raise_anything_else(text: str) -> None:
    """Any text is a condition or a problem."""
    try:
        condition = parse_condition(text, effect="allow")
    except ConditionError:
        return
    assert condition.holds(Context()) in (True, False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
TEXTS = [
    "args.x == args.y",
    "args.x != args.y",
    "args.x < args.y",
    "args.x in args.y",
    "args.x not in args.y",
    "len(args.x) < args.y",
    "args.x",
    "args.x in labels",
    "not args.x",
    "1 < args.x < args.y",
]


@settings(database=None, derandomize=True, deadline=None, max_examples=400)
@given(st.sampled_from(TEXTS), st.dictionaries(st.sampled_from(["x", "y"]), json_values, max_size=2))
def test_no_argument_makes_a_condition_raise(text: str, args: dict[str, Any]) -> None:
    """A fact that is unreadable for an allow row is unreadable for a deny row too."""
    allows, denies = parse_condition(text, effect="allow"), parse_condition(text, effect="deny")
    answer = allows.answer(Context(args=args))
    if isinstance(answer, bool):
        assert allows.holds(Context(args=args)) is denies.holds(Context(args=args)) is answer
    else:
        assert (allows.holds(Context(args=args)), denies.holds(Context(args=args))) == (False, True)
