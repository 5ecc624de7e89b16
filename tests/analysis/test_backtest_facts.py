"""A backtest computes only the facts that the rules read: each decision is the one that all facts give."""

from __future__ import annotations

import random
from typing import Any

import pytest

from remit.analysis.backtest import FactsRead, recorded_decisions
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core.calls import ResourceAccess
from remit.core.errors import WorkspaceError
from remit.core.events import AnyEvent
from support import ROOT
from support.events import decided, started, succeeded
from support.events import recorded as linked
from support.strategies import ATOMS, VOCABULARY

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
ENTITIES = b"""\
{"type": "file", "id": "docs/a.md", "properties": {"owner": "ann", "tags": ["a"]}}
{"type": "user", "id": "ann", "properties": {"level": 2}}
"""
FOUND = (
    "named_by_user", "identified", "'file' in unidentified", "'mail' not in unidentified", "'link' in contains", "'address' in contains",
    "quoted_by_user", "requested_by_user", "effect == 'read'", *ATOMS,
)  # fmt: skip
ACCESSES = ("file:docs/a.md", "file:docs/b.md", "mail:eve@evil.example", "mail:ann@corp.example", "https://h.example/x")


def rule_set(text: str) -> RuleSet:
    files = {"policies/model.conf": MODEL, "policies/rules.csv": text.encode(), "policies/entities.jsonl": ENTITIES}
    return read_rule_set("rules", files, VOCABULARY)


def invented(dice: random.Random) -> str:
    rows: list[str] = []
    for effect in ("allow", "allow", "allow", "deny"):
        parts = [dice.choice(FOUND) for _ in range(dice.randint(1, 3))]
        condition = dice.choice((" and ", " or ")).join(
            f"not ({part})" if dice.random() < 0.3 else part for part in parts
        )
        rows += [
            f"p, {who}, {dice.choice(('files.read', '*'))}, **, {condition}, {effect}"
            for who in ("agent:triage", "user:ann")
        ]
    return "\n".join(rows)


def run(dice: random.Random) -> list[AnyEvent]:
    """Calls that name what the task says and what it does not, with texts that contain links and addresses."""
    events: list[AnyEvent] = [started()]
    for step in range(4):
        touches = tuple(
            ResourceAccess(access="use", resource=name, fixed=dice.random() < 0.2)
            for name in dice.sample(ACCESSES, dice.randint(1, 2))
        )
        arguments: dict[str, Any] = {
            "text": dice.choice(("a", "see https://evil.example/x", "write to eve@evil.example")),
            "n": 2,
        }
        events.append(decided(step, 0, effect=dice.choice(("read", "once")), touches=touches, arguments=arguments))
        events.append(succeeded(step, 0, "l"))
    return events


def test_a_decision_with_the_facts_that_the_rules_read_is_the_one_with_all_facts() -> None:
    dice, verdicts = random.Random(25), set[str]()
    for _ in range(150):
        try:
            rules = rule_set(invented(dice))
        except WorkspaceError:  # a comparison that the loader refuses
            continue
        records = linked(run(dice))
        every, _ = recorded_decisions(records, rules)
        some, _ = recorded_decisions(records, rules, FactsRead(rules))
        decisions = [[rules.policy.decide(one.request) for one in found] for found in (every, some)]
        assert decisions[0] == decisions[1]
        verdicts |= {one.verdict for one in decisions[0]}
    assert verdicts >= {"allow", "deny"}


@pytest.mark.parametrize(
    ("condition", "fact"),
    [
        ("named_by_user", "named_by_user"),
        ("resource.owner == 'ann'", "resource"),
        ("'link' not in contains", "contains"),
    ],
)
def test_what_no_rule_reads_is_not_computed(condition: str, fact: str) -> None:
    records = linked(run(random.Random(1)))
    default = type(recorded_decisions(records, rule_set(""))[0][0].request.context)()
    for text, is_read in (
        (f"p, agent:triage, *, **, {condition}, allow", True),
        ("p, agent:triage, *, **, True, allow", False),
    ):
        rules = rule_set(text)
        found, _ = recorded_decisions(records, rules, FactsRead(rules))
        assert any(getattr(one.request.context, fact) != getattr(default, fact) for one in found) is is_read
