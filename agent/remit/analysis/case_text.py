"""A request as a row of a table of cases."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from remit.analysis.diff.witnesses import facts_of, facts_text
from remit.analysis.solver.ruleset import RuleSet
from remit.core import Json, Request

_OF_ENTITIES: Final = ("subject", "resource", "unclear")  # a case has them from policies/entities.jsonl


def case_yaml(rule_set: RuleSet, request: Request, *, rows: Collection[str] = (), only_rows: bool = False) -> str:
    """Write a case for the table that pins the verdict of the rules as they are, and one deciding rule: of `rows`, if one is.

    With `only_rows`, a case that none of `rows` decides pins no rule.
    """
    decision = rule_set.policy.decide(request)
    *agents, user = request.subjects
    facts = facts_text(request.context)
    may_call = _VERDICT_WORDS[decision.verdict]
    who = " for ".join(request.subjects)
    summary = f"{who} {may_call} {request.action} on {', '.join(request.resources)}"
    lines = [
        f"- note: {_quoted(summary + (f', with {facts}' if facts else ''))}",
        *(f"  agent: {agent}" for agent in agents),
        f"  user: {user}",
        f"  action: {request.action}",
        f"  resources: [{', '.join(_quoted(one) for one in request.resources)}]",
    ]
    lines += [
        f"  {name}: {_yaml(value)}" for name, value in facts_of(request.context).items() if name not in _OF_ENTITIES
    ]
    lines.append(f"  expect: {decision.verdict}")
    first = next((rule for rule in decision.rules if rule.text in rows), None)
    if first is None and decision.rules and not only_rows:
        first = decision.rules[0]
    if first is not None:
        lines.append(f"  rule: {_quoted(first.note or first.text)}")
    if decision.missing:
        lines.append(f"  missing: {_yaml({one.role: one.count for one in decision.missing})}")
    return "\n".join(lines) + "\n"


_VERDICT_WORDS: Final = {"allow": "may call", "ask": "needs approval to call", "deny": "may not call"}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _yaml(value: Json) -> str:
    """One line of YAML, written as JSON, which YAML includes."""
    return json.dumps(value, ensure_ascii=False)
