"""The comparison of policies: what it reports is true, and it reports every change that a brute-force search finds."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest

from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.witnesses import find_denied_counterpart, verify_witnesses
from remit.analysis.solver.findings import PolicyDifference
from remit.core.calls import Request
from remit.core.errors import WorkspaceError
from support import ROOT
from support.strategies import ACTIONS, RESOURCES, SUBJECTS, context, edited, resource, rows, side

RANK = {"deny": 0, "ask": 1, "allow": 2}
PAIRS = int(os.environ.get("REMIT_EXACT_PAIRS", "20"))  # of policies, half in each part; `make exact` compares 2,000


def pairs(
    dice: random.Random, many: int, always: Sequence[str] = ()
) -> Iterator[tuple[list[str], list[str], PolicyDifference]]:
    """Yield random policies that load, each with an edit, and their comparison. Every witness is checked."""
    while many:
        before = rows(dice)
        after = [*edited(dice, before), *always]
        before = [*before, *always]
        try:
            found = compare_policies(side("\n".join(before)), side("\n".join(after)))
        except WorkspaceError:  # circular roles
            continue
        assert verify_witnesses(found).wrong == (), (before, after)
        many -= 1
        yield before, after, found


@pytest.mark.parametrize("seed", range(2))
def test_brute_force_over_a_small_universe_finds_no_change_that_the_comparison_misses(seed: int) -> None:
    """Every subject, action and resource, under random facts: subject, action, before and after must be reported.

    Where approvals were given already, the direction is enough: "asked before, denied now" covers an approved call too.
    """
    dice = random.Random(seed)
    differed = reported = unsettled = 0
    for before, after, found in pairs(dice, PAIRS // 2):
        reported += len(found.findings)
        unsettled += len(found.unsettled)
        reported_changes = {(who, one.action, one.before, one.after) for one in found.findings for who in one.subjects}
        unsettled_pairs = {(who, one.action) for one in found.unsettled for who in one.subjects}
        for who, action, name in product(SUBJECTS, ACTIONS, RESOURCES):
            facts = context(dice)
            facts = facts.model_copy(update={"approvals": {}}) if dice.random() < 0.7 else facts
            request = Request(subjects=(who,), action=action, resources=(name,), context=facts)
            was, now = (one.policy.decide(request).verdict for one in (found.old, found.new))
            if was != now:
                differed += 1
                known = (
                    (who, action, was, now) in reported_changes or (who, action) in unsettled_pairs or found.approvers
                )
                approving = any(facts.approvals.values()) and explained(found, request, was, now)
                assert known or approving, (before, after, request, was, now, found)
    assert differed > PAIRS
    assert unsettled < reported / 4


@pytest.mark.parametrize("seed", range(2))
def test_a_request_of_several_subjects_or_resources_changes_only_if_one_of_them_alone_does(seed: int) -> None:
    """So comparing requests of one subject and one resource is complete."""
    dice = random.Random(1000 + seed)
    differed = 0
    for before, after, found in pairs(dice, PAIRS // 2, ["p, user:w, *, **, True, allow"]):
        for _ in range(80):
            request = Request(
                subjects=(dice.choice(SUBJECTS[:4]), "user:w"),
                action=dice.choice(ACTIONS),
                resources=tuple(resource(dice) for _ in range(dice.choice((1, 2)))),
                context=context(dice),
            )
            was, now = (one.policy.decide(request).verdict for one in (found.old, found.new))
            if was != now:
                differed += 1
                assert explained(found, request, was, now), (before, after, request, was, now, found)
    assert differed > PAIRS / 25


def explained(found: PolicyDifference, request: Request, before: str, after: str) -> bool:
    """True if the comparison reports a change in that direction for one of the subjects, or reports it as unsettled."""
    wider = RANK[after] > RANK[before]
    subjects = set(request.subjects)
    return (
        any(
            one.action == request.action and one.wider is wider and set(one.subjects) & subjects
            for one in found.findings
        )
        or any(one.action == request.action and set(one.subjects) & subjects for one in found.unsettled)
        or any(one.gained if wider else one.lost for one in found.approvers)
    )


RULES = (ROOT / "policies" / "rules.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "action", "resource", "facts"),
    [
        pytest.param("ticket:INC-*, calls", "ticket:*, calls", "deny", "allow", "tickets.create", "ticket:other", {}, id="a pattern"),
        pytest.param("<= 20000", "<= 20001", "deny", "allow", "files.write", "file:reports/other", {"length": 20001}, id="a number by one"),
        pytest.param("approved('role:oncall-lead')", "True", "ask", "allow", "tickets.close", "ticket:INC-1", {}, id="an approval"),
        pytest.param("< 1, allow", "< 1 and 'untrusted' not in labels, allow", "allow", "deny", "tickets.create", "ticket:INC-1", {"labels": ["untrusted"]}, id="a label"),
        pytest.param("approved('role:oncall-lead')", "approvals('role:oncall-lead') >= 2", "ask", "deny", "tickets.close", "ticket:INC-1", {}, id="more people than there are"),
    ],
)  # fmt: skip
def test_an_edit_is_reported_with_a_request_that_shows_it(
    old: str, new: str, before: str, after: str, action: str, resource: str, facts: dict[str, object]
) -> None:
    """And with a similar request that stays denied."""
    assert old in RULES
    found = compare_policies(side(RULES, None), side(RULES.replace(old, new, 1), None))
    change = next(one for one in found.findings if (one.before, one.after) == (before, after))
    assert (change.subject, change.action, change.resource) == ("agent:triage", action, resource)
    if "length" in facts:
        assert len(change.context.args["text"]) == facts["length"]
    assert sorted(change.context.labels) == facts.get("labels", [])
    assert verify_witnesses(found).wrong == ()
    assert found.unsettled == ()
    denied = find_denied_counterpart(found, change)
    assert denied is not None
    assert {
        one.verdict(denied.subject, denied.action, denied.resource, denied.context) for one in (found.old, found.new)
    } == {"deny"}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda rows: "\n".join(reversed(rows.split("\n"))), id="another order"),
        pytest.param(lambda rows: rows.replace("True, allow", "1 < 2, allow"), id="another true condition"),
        pytest.param(lambda rows: rows + "\np, agent:triage, files.read, file:logs/checkout.log, True, allow\n", id="a redundant allow"),
        pytest.param(lambda rows: rows + "\np, role:nobody, *, **, True, allow\n", id="a role without members"),
        pytest.param(lambda rows: rows.replace("calls('tickets.create') < 1", "not (calls('tickets.create') >= 1)"), id="a condition negated twice"),
        pytest.param(lambda rows: rows.replace("p, agent:triage, *, file:secrets/**, True, deny\n", ""), id="a deny of what nothing allows"),
    ],
)  # fmt: skip
def test_an_edit_that_changes_no_decision_is_proved_to_change_none(edit: Callable[[str], str]) -> None:
    """Proved by the automata and the solver, not by examples."""
    assert compare_policies(side(RULES), side(edit(RULES))).equal


def test_a_new_approver_is_reported_although_no_request_changes() -> None:
    """The right to approve is a permission too."""
    found = compare_policies(side(RULES), side(RULES + "\ng, user:eve, role:oncall-lead\n"))
    assert [(one.role, one.gained, one.lost) for one in found.approvers] == [("role:oncall-lead", ("user:eve",), ())]
    assert not found.no_wider


@pytest.mark.parametrize(
    ("before", "more", "changes"),
    [
        pytest.param("", "p, user:v, files.read, none:, approvals('role:1') >= 2 or '09:00' <= time < '17:00', allow", [("deny", "allow"), ("deny", "ask")], id="in one condition"),
        pytest.param("p, user:v, files.read, **, env == 'local', allow\np, user:v, files.read, **, approvals('role:1') >= 2, allow", "p, user:v, *, **, True, deny", [("allow", "deny"), ("ask", "deny")], id="in two rules"),
    ],
)  # fmt: skip
def test_a_change_to_allow_does_not_hide_a_change_to_ask(
    before: str, more: str, changes: list[tuple[str, str]]
) -> None:
    """Where the default facts already allow, the search must try other facts."""
    people = "g, user:w, role:1\ng, user:u, role:1\n"
    found = compare_policies(side(people + before), side(f"{people}{before}\n{more}"))
    assert sorted((one.before, one.after) for one in found.findings if one.action == "files.read") == changes
    assert verify_witnesses(found).wrong == ()


def test_what_cannot_be_analysed_is_reported_and_never_counted_as_safe() -> None:
    """Arguments that are searched in each other have no complete examples. Where no verdict depends on them, that is proved."""
    odd = "p, agent:a, mail.send, mail:*, args.text in args.list and args.list in args.text and args.text != args.list, allow"
    unclear = compare_policies(side(""), side(odd))
    assert unclear.findings or unclear.unsettled
    assert not unclear.equal
    assert not unclear.no_wider
    everything = "p, agent:a, mail.send, mail:*, True, allow\n"
    assert compare_policies(side(everything), side(everything + odd)).equal


def test_a_set_of_files_is_compared_apart_from_its_members() -> None:
    """Two patterns that cover every file do not cover the folder as a whole."""
    parts = "p, agent:a, files.read, file:d/*, True, allow\np, agent:a, files.read, file:d/*/**, True, allow"
    found = compare_policies(side(parts), side("p, agent:a, files.read, file:d/**, True, allow"))
    assert [(one.before, one.after, one.resource) for one in found.findings] == [("deny", "allow", "file:d/**")]


def many(count: int, seed: int) -> list[str]:
    """Agents, teams, departments and organisations, and that many rules; a third with conditions."""
    dice = random.Random(seed)
    links = [f"g, agent:a{n}, role:t{dice.randrange(100)}" for n in range(500)]
    links += [f"g, role:t{n}, role:d{n % 30}" for n in range(100)] + [f"g, role:d{n}, role:o{n % 8}" for n in range(30)]
    rules: list[str] = []
    for _ in range(count):
        who = dice.choice(
            (f"agent:a{dice.randrange(500)}", f"role:t{dice.randrange(100)}", f"role:d{dice.randrange(30)}", f"role:o{dice.randrange(8)}")
        )  # fmt: skip
        facts = dice.choice((f"args.size <= {dice.randrange(1000)}", "env == 'prod'", "'untrusted' not in labels"))
        what = f"t{dice.randrange(12)}.a{dice.randrange(10)}"
        where = f"file:projects/p{dice.randrange(count // 25)}/{dice.choice(('src/**', 'docs/*', 'x/*.csv', '*'))}"
        effect = "allow" if dice.random() < 0.85 else "deny"
        rules.append(f"p, {who}, {what}, {where}, {'True' if dice.random() < 0.7 else facts}, {effect}")
    return links + rules


def test_one_edit_among_many_rules_is_the_only_finding() -> None:
    """The other rules cost only their reading."""
    before = many(1000, 1)
    row = next(
        n for n, text in enumerate(before) if "role:o" in text and text.endswith("True, allow") and "docs/*" in text
    )
    after = [*before[:row], before[row].replace("docs/*", "**"), *before[row + 1 :]]
    found = compare_policies(side("\n".join(before), None), side("\n".join(after), None))
    assert {one.after for one in found.findings} == {"allow"}
    assert {rule.line for one in found.findings for rule in one.added} == {row + 1}
    assert verify_witnesses(found).wrong == ()
