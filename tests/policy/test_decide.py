"""Decisions: both subjects, every resource, deny by default, deny overrides, and approvals that would allow a call."""

from __future__ import annotations

import random
from itertools import permutations, product
from typing import Any

import pytest

from remit.core.calls import Context, Decision, MissingApproval, Request
from remit.policy import engine as policy
from remit.policy.engine import Policy
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
BOTH = ("agent:t", "user:ann")


def load(*rows: str) -> Policy:
    return policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()})


def decide(rules: Policy, action: str, *resources: str, subjects: tuple[str, ...] = BOTH, **facts: Any) -> Decision:
    return rules.decide(Request(subjects=subjects, action=action, resources=resources, context=Context(**facts)))


DOCS = load(
    "# Agents read the docs",
    "p, agent:t, files.*, file:docs/**, True, allow",
    "# Staff read anything",
    "p, role:staff, files.read, file:**, True, allow",
    "# Nobody reads secrets",
    "p, role:staff, *, file:docs/secret/**, True, deny",
    "g, user:ann, role:staff",
    "# Triage mails once a run",
    "p, agent:t, mail.send, mail:*, calls('mail.send') < 1, allow",
)


def test_a_call_that_both_subjects_may_make_is_allowed_and_names_the_rules_of_both() -> None:
    """The whole decision, compared once."""
    decision = decide(DOCS, "files.read", "file:docs/a.md")
    assert decision == Decision(
        verdict="allow",
        reason="allowed",
        message="'Agents read the docs' and 'Staff read anything' allow files.read on 'file:docs/a.md' for agent:t and user:ann",
        rules=DOCS.rules[:2],
        policy_digest=DOCS.digest,
    )


@pytest.mark.parametrize(
    ("subjects", "verdict"),
    [
        (BOTH, "allow"),
        (("agent:t", "user:none"), "deny"),
        (("agent:other", "user:ann"), "deny"),
        (("agent:t", "user:bob"), "deny"),
        (("agent:t",), "allow"),
        ((), "deny"),
    ],
)
def test_each_subject_needs_an_allow_of_its_own(subjects: tuple[str, ...], verdict: str) -> None:
    """`user:none` is decided like any other subject; a request without subjects is denied."""
    assert decide(DOCS, "files.read", "file:docs/a.md", subjects=subjects).verdict == verdict


def test_a_deny_wins_over_every_allow_and_is_named() -> None:
    """A deny for one subject is enough."""
    decision = decide(DOCS, "files.read", "file:docs/a.md", "file:docs/secret/key")
    assert (decision.verdict, decision.reason) == ("deny", "denied_by_rule")
    assert [rule.note for rule in decision.rules] == ["Nobody reads secrets"]
    assert decision.message == "'Nobody reads secrets' denies files.read on 'file:docs/secret/key' for user:ann"


def test_without_a_matching_rule_the_reason_differs_and_near_misses_are_named() -> None:
    """The reason is not that of a denying rule."""
    decision = decide(DOCS, "files.read", "file:notes/a.md")
    assert (decision.verdict, decision.reason, decision.rules) == ("deny", "no_rule_allows", ())
    assert decision.message == "no rule allows files.read on 'file:notes/a.md' for agent:t"
    assert [rule.note for rule in decision.nearest] == ["Agents read the docs"]


def test_a_set_is_allowed_only_if_covered_and_denied_if_intersected() -> None:
    """A folder with one denied file below it is denied."""
    assert decide(DOCS, "files.read", "file:docs/guide/**").verdict == "allow"
    assert decide(DOCS, "files.read", "file:docs/**").reason == "denied_by_rule"
    assert decide(DOCS, "files.read", "file:docs/secret/**").reason == "denied_by_rule"
    assert decide(DOCS, "files.read", "file:**").reason == "denied_by_rule"


def test_a_call_that_touches_nothing_is_decided_too() -> None:
    """The resource is `none:`."""
    assert decide(DOCS, "files.read").verdict == "deny"
    rules = load("p, agent:t, clock.now, none:, True, allow", "p, user:ann, clock.*, **, True, allow")
    assert decide(rules, "clock.now").verdict == "allow"


@pytest.mark.parametrize(
    "resource", ["docs/a.md", "file:docs/../docs/a.md", "file:docs//a.md", "file:docs/a.md\n", "file:docs/*"]
)
def test_a_resource_that_is_not_canonical_is_denied_as_an_error(resource: str) -> None:
    """Also if a rule allows everything."""
    decision = decide(load("p, agent:t, *, **, True, allow"), "files.read", resource, subjects=("agent:t",))
    assert (decision.verdict, decision.reason) == ("deny", "error")
    assert "\n" not in decision.message


def test_the_facts_that_the_deciding_rules_read_are_in_the_decision() -> None:
    """No other facts are."""
    rules = load(
        "p, agent:t, mail.send, mail:*, args.to in contains and len(args.text) < 9 and calls('mail.send') < 1, allow",
        "p, agent:t, mail.send, ticket:*, named_by_user, allow",
        "p, agent:t, mail.send, mail:*, 'secret' in labels, deny",
    )
    facts: dict[str, Any] = {
        "args": {"to": "b", "text": "hello"},
        "contains": frozenset({"b"}),
        "labels": frozenset({"x"}),
    }
    decision = decide(rules, "mail.send", "mail:b", subjects=("agent:t",), **facts)
    assert decision.verdict == "allow"
    assert decision.facts == {"args.to": "b", "contains": ["b"], "len(args.text)": 5, "calls('mail.send')": 0}
    refused = decide(rules, "mail.send", "mail:b", subjects=("agent:t",), **{**facts, "labels": frozenset({"secret"})})
    assert refused.facts == {"labels": ["secret"]}


def test_a_rule_with_a_false_condition_is_the_nearest_miss_and_its_facts_are_shown() -> None:
    """A reader sees why the rule did not apply."""
    decision = decide(DOCS, "mail.send", "mail:bob", subjects=("agent:t",), calls={"mail.send": 1})
    assert decision.nearest[0].note == "Triage mails once a run"
    assert decision.facts == {"calls('mail.send')": 1}


def test_an_unreadable_condition_is_reported_and_never_allows() -> None:
    """False on an allow row, true on a deny row."""
    rules = load(
        "p, agent:t, a.b, **, args.n < 1, allow",
        "p, user:ann, a.b, **, True, allow",
        "p, user:ann, a.b, **, args.m == 1, deny",
    )
    decision = decide(rules, "a.b")
    assert (decision.verdict, decision.reason) == ("deny", "error")
    assert decision.facts == {"errors": ["policies/rules.csv:3: the call has no args.m"]}
    assert decision.message.endswith("because a fact in its condition cannot be read")
    decision = decide(rules, "a.b", subjects=("agent:t",))
    assert (decision.verdict, decision.reason) == ("deny", "no_rule_allows")
    assert decision.facts == {"errors": ["policies/rules.csv:1: the call has no args.n"]}


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────

LEADS = ("g, user:dana, role:lead", "g, user:eve, role:lead", "g, user:eve, role:legal", "g, agent:bot, role:boss")


def test_a_denial_that_an_approval_would_change_asks_for_it() -> None:
    """The whole decision, compared once."""
    rules = load("# Closing is for leads", "p, agent:t, tickets.close, ticket:*, approved('role:lead'), allow", *LEADS)
    decision = decide(rules, "tickets.close", "ticket:1", subjects=("agent:t",))
    assert decision == Decision(
        verdict="ask",
        reason="approval",
        message="'Closing is for leads' requires approval for tickets.close on 'ticket:1' by role:lead",
        rules=rules.rules,
        missing=(MissingApproval(role="role:lead", count=1),),
        facts={"approvals('role:lead')": 0},
        next_step="wait for approval by role:lead",
        policy_digest=rules.digest,
    )
    granted = decide(rules, "tickets.close", "ticket:1", subjects=("agent:t",), approvals={"role:lead": 1})
    assert (granted.verdict, granted.facts) == ("allow", {"approvals('role:lead')": 1})


@pytest.mark.parametrize(
    ("row", "given", "missing"),
    [
        ("p, agent:t, a.b, **, approvals('role:lead') >= 2, allow", {}, {"role:lead": 2}),
        ("p, agent:t, a.b, **, approvals('role:lead') >= 2, allow", {"role:lead": 1}, {"role:lead": 1}),
        ("p, agent:t, a.b, **, approved('role:lead') and approved('role:legal'), allow", {}, {"role:lead": 1, "role:legal": 1}),
        ("p, agent:t, a.b, **, approvals('role:lead') >= 2 or approved('role:legal'), allow", {}, {"role:legal": 1}),
        ("p, agent:t, a.b, **, approved('role:lead') or approved('role:legal'), allow", {}, {"role:lead": 1}),
        ("p, agent:t, a.b, **, approved('role:boss') or approved('role:lead'), allow", {}, {"role:lead": 1}),
        ("p, agent:t, a.b, **, True, allow\np, agent:t, a.b, **, not approved('role:lead'), deny", {}, {"role:lead": 1}),
        ("p, agent:t, a.b, **, approved('role:lead'), allow\np, agent:t, a.b, **, not approvals('role:lead') > 1, deny", {}, {"role:lead": 2}),
        ("p, agent:t, a.b, file:**, approved('role:lead'), allow\np, agent:t, a.b, none:, approved('role:legal'), allow", {}, {"role:lead": 1, "role:legal": 1}),
    ],
)  # fmt: skip
def test_the_smallest_sufficient_approvals_are_named_jointly(
    row: str, given: dict[str, int], missing: dict[str, int]
) -> None:
    """Over all rows, resources and roles together, after subtracting approvals that were given."""
    decision = decide(
        load(row, *LEADS),
        "a.b",
        "none:",
        *(["file:x"] if "file:" in row else []),
        subjects=("agent:t",),
        approvals=given,
    )
    assert {item.role: item.count for item in decision.missing} == missing
    assert decision.verdict == "ask"


@pytest.mark.parametrize(
    ("condition", "subjects"),
    [
        pytest.param("approved('role:boss')", ("agent:t",), id="only an agent has the role"),
        pytest.param("approved('role:nobody')", ("agent:t",), id="nobody has the role"),
        pytest.param("approvals('role:lead') >= 3", ("agent:t",), id="too few people have the role"),
        pytest.param("approvals('role:lead') >= 2", ("agent:t", "user:dana"), id="the requester may not approve"),
        pytest.param("approved('role:legal')", ("agent:t", "user:eve"), id="only the requester has the role"),
        pytest.param(
            "approvals('role:lead') >= 2 and approved('role:legal')", ("agent:t",), id="one person would approve twice"
        ),
    ],
)
def test_approvals_that_nobody_can_give_are_not_asked_for(condition: str, subjects: tuple[str, ...]) -> None:
    """A call that nobody could approve is denied, and the message says why."""
    rules = load(
        f"p, agent:t, a.b, **, {condition}, allow",
        *(f"p, {name}, a.b, **, True, allow" for name in subjects[1:]),
        *LEADS,
    )
    decision = decide(rules, "a.b", subjects=subjects)
    assert (decision.verdict, decision.reason, decision.missing) == ("deny", "no_rule_allows", ())
    assert "too few other people can approve" in decision.message


def test_an_approval_does_not_help_where_something_else_denies() -> None:
    """Then nobody is asked."""
    rules = load("p, agent:t, a.b, **, approved('role:lead'), allow", *LEADS, "p, agent:t, a.b, file:s, True, deny")
    assert decide(rules, "a.b", "file:x", subjects=("agent:t",)).verdict == "ask"
    assert decide(rules, "a.b", "file:x", "file:s", subjects=("agent:t",)).reason == "denied_by_rule"
    assert decide(rules, "a.b", "file:x").reason == "no_rule_allows"  # user:ann has no allow


def test_with_many_approval_roles_no_required_approval_can_be_left_out() -> None:
    """Beyond some thousand combinations, the set is sufficient and cannot be reduced."""
    roles = [f"role:r{n}" for n in range(16)]
    people = [f"g, user:u{n}, {role}" for n, role in enumerate(roles)]
    either = " or ".join(f"approved('{role}')" for role in roles[:4])
    rows = [
        f"p, agent:t, a.b, **, {either}, allow",
        *(f"p, agent:t, a.b, **, not approved('{role}'), deny" for role in roles[4:]),
    ]
    decision = decide(load(*rows, *people), "a.b", subjects=("agent:t",))
    assert len(decision.missing) == 13
    assert decision.verdict == "ask"


def test_the_required_approvals_are_sufficient_fewest_and_possible() -> None:
    """Random policies and people, compared with a search over every set of approvals and every assignment of people."""
    dice = random.Random(20260729)
    roles = ["role:a", "role:b", "role:c"]
    asked = 0
    for _ in range(900):
        people = {f"user:{n}": dice.sample(roles, dice.randint(1, 3)) for n in range(dice.randint(1, 5))}
        rules = load(*random_rows(dice, roles), *(f"g, {name}, {role}" for name, has in people.items() for role in has))
        given = {role: 1 for role in roles if dice.random() < 0.15}
        resources = dice.sample(["file:x", "file:y", "none:"], dice.randint(1, 2))
        decision = decide(rules, "a.b", *resources, subjects=("agent:t", "user:0"), approvals=given)
        if decision.verdict == "allow":
            continue
        best = cheapest(rules, resources, people, given, roles)
        got = {item.role: item.count for item in decision.missing}
        assert (decision.verdict == "ask") is (best is not None)
        if best is not None:
            asked += 1
            total = {role: given.get(role, 0) + got.get(role, 0) for role in roles}
            assert decide(rules, "a.b", *resources, subjects=("agent:t", "user:0"), approvals=total).verdict == "allow"
            assert sum(got.values()) == best
    assert asked > 100


def random_rows(dice: random.Random, roles: list[str]) -> list[str]:
    rows = ["p, user:0, a.b, **, True, allow"]
    for _ in range(dice.randint(1, 4)):
        effect = dice.choice(["allow", "allow", "deny"])
        atoms = [
            dice.choice(
                [
                    f"approvals('{dice.choice(roles)}') >= {dice.randint(1, 3)}",
                    f"approved('{dice.choice(roles)}')",
                    "args.gone",
                ]
            )
            for _ in range(dice.randint(1, 3))
        ]
        condition = f" {dice.choice(['and', 'or'])} ".join(atoms)
        condition = condition if effect == "allow" else f"not ({condition})"
        rows.append(f"p, agent:t, a.b, {dice.choice(['**', 'file:*', 'file:x', 'none:'])}, {condition}, {effect}")
    return rows


def cheapest(
    rules: Policy, resources: list[str], people: dict[str, list[str]], given: dict[str, int], roles: list[str]
) -> int | None:
    """The fewest further approvals, by trying all; None if no set of them is sufficient and possible."""
    others = {name: has for name, has in people.items() if name != "user:0"}
    counts = {role: sum(role in has for has in others.values()) for role in roles}
    best = None
    for more in product(range(4), repeat=len(roles)):
        if best is not None and sum(more) >= best:
            continue
        extra = dict(zip(roles, more, strict=True))
        if any(count and given.get(role, 0) + count > counts[role] for role, count in extra.items()):
            continue
        seats = [role for role in roles for _ in range(extra[role] + min(given.get(role, 0), counts[role]))]
        if len(seats) > len(others) or not any(
            all(role in others[name] for role, name in zip(seats, who, strict=True))
            for who in permutations(others, len(seats))
        ):
            continue
        total = {role: given.get(role, 0) + extra[role] for role in roles}
        if decide(rules, "a.b", *resources, subjects=("agent:t", "user:0"), approvals=total).verdict == "allow":
            best = sum(more)
    return best


def test_roles_are_inherited_through_other_roles() -> None:
    """This includes approvers."""
    rules = load("g, user:dana, role:lead", "g, role:lead, role:staff")
    assert rules.roles_of("user:dana") == {"role:lead", "role:staff"}
    assert rules.roles_of("role:lead") == {"role:staff"}
    assert rules.roles_of("user:nobody") == frozenset()
    assert rules.members_of("role:staff") == {"user:dana", "role:lead"}
    assert rules.subjects == {"user:dana", "role:lead", "role:staff"}
