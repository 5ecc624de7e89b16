"""Cases that pin what imported rules decide: one for each row of which an example can be made."""

from __future__ import annotations

import json
from collections.abc import Iterator

from remit.analysis.importing.outcome import Imported, ImportedRow
from remit.core import Context, Request, Rule
from remit.policy import Policy, load_policy
from remit.policy.language import model_text


def imported_cases(imported: Imported) -> str:
    """Text of a table of cases.

    A row that a user or a service may do something is a case of an enforcement point, which names no agent. An agent calls for a user,
    whose rules are not known here: so of its rows only those that deny are cases.
    """
    files = {"policies/model.conf": model_text().encode(), "policies/imported.csv": imported.rules_text.encode()}
    policy = load_policy(files)
    by_text = {rule.text: rule for rule in policy.rules}
    cases = [
        text
        for row in imported.rows
        for rule in row.rules[:1]
        if rule in by_text
        for text in _cases(policy, row, by_text[rule])
    ]
    return "\n".join(dict.fromkeys(cases))


def _cases(policy: Policy, row: ImportedRow, rule: Rule) -> Iterator[str]:
    _, subject, action, pattern, condition, effect = rule.text.split(", ")
    people = sorted(one for one in policy.members_of(subject) if not one.startswith("role:"))
    asks = next(iter(people), subject)
    resource = pattern.replace("**", "a/b").replace("*", "a")
    if asks.startswith("role:") or "*" in action or condition != "True" or ":" not in resource:
        return
    decision = policy.decide(Request(subjects=(asks,), action=action, resources=(resource,), context=Context()))
    deciding = [one.note for one in decision.rules]
    if decision.verdict not in ("allow", "deny") or not deciding or (asks.startswith("agent:") and effect != "deny"):
        return
    kind, _, name = asks.partition(":")
    who = [f"  agent: agent:{name}"] if kind == "agent" else [f"  user: {asks}"]
    lines = [
        f"- note: {json.dumps(f'{row.line}: {asks} {action} {resource}', ensure_ascii=False)}",
        *who,
        f"  action: {action}",
        f"  resources: [{json.dumps(resource, ensure_ascii=False)}]",
        f"  expect: {decision.verdict}",
        f"  rule: {json.dumps(deciding[0], ensure_ascii=False)}",
    ]
    yield "\n".join([*lines, ""])
