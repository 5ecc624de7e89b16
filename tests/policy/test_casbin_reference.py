"""`Policy.decide` and stock pycasbin give the same answer by the same rows, on the same files."""

from __future__ import annotations

import os
import random
import re

import pytest

from remit.analysis.cases import run_cases
from remit.core.calls import Request
from remit.core.errors import UsageError, WorkspaceError
from remit.policy import engine as policy
from remit.policy import index
from remit.policy.casbin_reference import load_stock_enforcer
from remit.policy.cases import read_cases
from support import ROOT
from support.random_policies import ACTIONS, MODEL, SUBJECTS, aimed, context, resource, rows

# A part in every run; `make exact` tries 10,400 (312,000 requests, some four minutes of two cores).
POLICIES = int(os.environ.get("REMIT_EXACT_POLICIES", "440"))


@pytest.mark.parametrize("seed", range(8))
def test_random_policies_decide_as_stock_casbin_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles, wildcards, dotfiles, sets, unusual resources and unreadable conditions; the deciding rows are compared too."""
    if seed % 2:
        monkeypatch.setattr(index, "CROWDED", 1)  # as if every prefix had many rules
    circles = seed >= 6  # role cycles do not load, so the check is removed; both engines must still agree
    if circles:
        monkeypatch.setattr("remit.policy.language.loader.check_links", lambda _: ())
    dice = random.Random(seed)
    counts = dict.fromkeys(("policies", "requests", "allowed", "denied", "asked", "several", "refused_to_load"), 0)
    while counts["policies"] < max(1, POLICIES // 8):
        text = "\n".join(rows(dice, circles=circles))
        files = {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()}
        try:
            rules = policy.load_policy(files)
        except WorkspaceError:
            counts["refused_to_load"] += 1  # chains deeper than Casbin follows
            continue
        reference = load_stock_enforcer(files)
        counts["policies"] += 1
        for _ in range(30):
            subject, action, name, facts = dice.choice(SUBJECTS), dice.choice(ACTIONS), resource(dice), context(dice)
            if rules.rows and dice.random() < 0.75:
                subject, action, name = aimed(dice, rules)
            request = Request(subjects=(subject,), action=action, resources=(name,), context=facts)
            decision = rules.decide(request)
            shown = (text, request, decision)
            allowed, explained = reference.explain(subject, action, name, facts)
            matched = reference.matching_rows(subject, action, name, facts)
            deciding = [tuple(field.strip() for field in rule.text.split(","))[1:] for rule in decision.rules]
            counts["requests"] += 1
            counts["several"] += len(matched) > 1
            assert (decision.verdict == "allow") is allowed, shown
            if decision.verdict == "allow":
                counts["allowed"] += 1
                assert deciding == matched, shown
                assert explained == deciding[-1], shown
            elif decision.reason in ("denied_by_rule", "error") and decision.rules:
                counts["denied"] += 1
                assert deciding == [row for row in matched if row[4] == "deny"], shown
                assert explained in deciding, shown
            elif decision.verdict == "ask":
                counts["asked"] += 1
            elif decision.reason == "no_rule_allows":
                assert (explained, matched) == ((), []), shown
    assert min(counts["allowed"], counts["denied"]) > 20
    assert (counts["refused_to_load"] > 0) is not circles
    if POLICIES > 1000:
        print(f"\nseed {seed}: {counts}")


@pytest.mark.parametrize(
    "links",
    [
        pytest.param(["g, role:a, role:b", "g, role:b, role:a"], id="a cycle"),
        pytest.param([f"g, role:{n}, role:{n + 1}" for n in range(10)], id="deeper than Casbin follows"),
    ],
)
def test_roles_that_casbin_follows_only_in_part_do_not_load(links: list[str]) -> None:
    """So no decision is based on them."""
    with pytest.raises(WorkspaceError):
        policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(links).encode()})


def test_several_subjects_and_resources_are_allowed_only_if_casbin_allows_each() -> None:
    """Remit combines the pairs; Casbin decides each pair."""
    dice = random.Random(8)
    allowed = 0
    for _ in range(60):
        files = {
            "policies/model.conf": MODEL,
            "policies/rules.csv": "\n".join([*rows(dice), "p, role:0, *, **, True, allow"]).encode(),
        }
        try:
            rules, reference = policy.load_policy(files), load_stock_enforcer(files)
        except WorkspaceError:  # a chain deeper than Casbin follows
            continue
        for _ in range(20):
            request = Request(
                subjects=tuple(dice.sample((*SUBJECTS, "role:0"), dice.randint(0, 2))),
                action=dice.choice(ACTIONS),
                resources=tuple(resource(dice) for _ in range(dice.randint(0, 2))),
                context=context(dice),
            )
            allowed += reference.allows(request)
            assert (rules.decide(request).verdict == "allow") is reference.allows(request), (files, request)
    assert allowed > 20


def test_the_shipped_rules_load_in_stock_casbin_and_their_cases_decide_alike() -> None:
    """A user who leaves Remit can keep the policy."""
    folder = ROOT / "policies"
    files = {f"policies/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    rules, reference = policy.load_policy(files), load_stock_enforcer(files)
    results = run_cases(rules, files["policies/cases.yaml"].decode(), "policies/cases.yaml")
    requests = [case.request() for _, case in read_cases(rules, files["policies/cases.yaml"].decode(), "")]
    assert [reference.allows(request) for request in requests] == [result.verdict == "allow" for result in results]
    assert len(requests) > 20


def test_only_the_second_opinion_asks_casbin() -> None:
    """`enable_enforce(False)` allows everything, so Casbin may remove a permission and never give one."""
    package = ROOT / "agent" / "remit"
    imports = {
        (str(path.relative_to(package)), match[1])
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if (match := re.match(r"\s*(?:from|import) (casbin|remit\.policy\.casbin_reference)\b", line))
    }
    assert imports == {
        ("policy/casbin_reference.py", "casbin"),
        ("policy/second_opinion.py", "remit.policy.casbin_reference"),
    }


def test_the_other_distribution_of_casbin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`casbin` 1.43 overwrites pycasbin's files and matches differently."""
    monkeypatch.setattr("remit.policy.casbin_reference.version", lambda name: "1.43.0")
    with pytest.raises(UsageError, match="overwritten"):
        load_stock_enforcer({"policies/model.conf": MODEL})
