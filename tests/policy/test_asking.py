"""`# asks:` above a rule: whom it asks first, who may answer later, and when the request is over."""

from __future__ import annotations

from typing import Any

import pytest

from remit.core import Context, Decision, Request, WorkspaceError
from remit.policy import Policy, load_policy
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
BOTH = "p, agent:a, a.b, **, approved('role:lead') or approved('role:boss'), allow\n"
PEOPLE = "g, user:lea, role:lead\ng, user:bea, role:boss\n"


def load(*lines: str) -> Policy:
    text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    return load_policy({"policies/model.conf": MODEL, "policies/rules.csv": text.encode()})


def decide(policy: Policy) -> Decision:
    request = Request(subjects=("agent:a",), action="a.b", resources=("file:x",), context=Context())
    return policy.decide(request)


def asked(decision: Decision) -> tuple[Any, ...]:
    later = [(item.role, item.after_s) for item in decision.escalations]
    return [item.role for item in decision.missing], later, decision.expires_s


def test_it_says_who_is_asked_first_who_may_answer_later_and_until_when() -> None:
    policy = load("# Both must know", "# asks: role:lead, then role:boss after 30m, expires after 2h", BOTH, PEOPLE)
    decision = decide(policy)
    assert asked(decision) == (["role:lead"], [("role:boss", 1800)], 7200)
    assert decision.rules[0].note == "Both must know"
    assert "role:lead, after 30 min also by role:boss" in decision.message
    turned = load("# asks: role:boss, then role:lead after 2d, expires after 3d", BOTH, PEOPLE)
    assert asked(decide(turned)) == (["role:boss"], [("role:lead", 2 * 86_400)], 3 * 86_400)


def test_it_is_part_of_the_digest_of_the_rules_and_changes_no_decision() -> None:
    """An approval under other rules about who is asked does not count."""
    plain, asking = load(BOTH, PEOPLE), load("# asks: role:lead, then role:boss after 30m", BOTH, PEOPLE)
    assert plain.digest != asking.digest
    assert decide(plain).verdict == decide(asking).verdict == "ask"
    both = Context(approvals={"role:boss": 1})
    request = Request(subjects=("agent:a",), action="a.b", resources=("file:x",), context=both)
    assert asking.decide(request).verdict == "allow"


def test_a_later_role_that_is_not_enough_alone_is_asked_at_once() -> None:
    rule = BOTH.replace(" or ", " and ")
    policy = load("# asks: role:lead, then role:boss after 30m", rule, PEOPLE)
    assert asked(decide(policy)) == (["role:boss", "role:lead"], [], 3600)


def test_if_nobody_has_the_first_role_the_later_one_is_asked_at_once() -> None:
    policy = load("# asks: role:lead, then role:boss after 30m", BOTH, "g, user:bea, role:boss\n")
    assert asked(decide(policy)) == (["role:boss"], [], 3600)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("# ask: role:lead", "does not name the role"),
        ("# asks: lead", "does not name the role"),
        ("# asks: role:lead, role:boss after 30m", "says neither who is asked then"),
        ("# asks: role:lead, then role:boss after 30s", "says neither who is asked then"),
        ("# asks: role:lead, then role:boss after 1h", "each time must be later"),
        ("# asks: role:lead, then role:boss after 30m, expires after 20m", "each time must be later"),
        ("# asks: role:lead, expires after 40d", "after at most 30d"),
        ("# asks: role:lead, then role:lead after 30m", "names a role twice"),
        ("# asks: role:lead, then role:owner after 30m", r"has no approved\('role:owner'\)"),
    ],
)
def test_a_line_that_is_not_complete_is_an_error_with_its_line(line: str, what: str) -> None:
    with pytest.raises(WorkspaceError, match=what) as caught:
        load("# A note", line, BOTH, PEOPLE)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, "write # asks:" in (problem.fix or "")) == ("policies/rules.csv", 3, True)


def test_two_lines_or_a_line_above_no_rule_are_errors() -> None:
    with pytest.raises(WorkspaceError, match="two lines that begin with asks:"):
        load("# asks: role:lead", "# asks: role:boss", BOTH, PEOPLE)
    with pytest.raises(WorkspaceError, match="not right above a rule"):
        load(BOTH, "# asks: role:lead", PEOPLE)
    with pytest.raises(WorkspaceError, match="not right above a rule"):
        load(BOTH, PEOPLE, "# asks: role:lead")
