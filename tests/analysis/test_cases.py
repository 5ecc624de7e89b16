"""The table of policy cases: each case is decided, and an invalid case is a problem with its line."""

from __future__ import annotations

import pytest

from remit.analysis.cases import PolicyCaseResult, run_cases
from remit.core.errors import WorkspaceError
from remit.policy import engine as policy
from remit.policy.language.loader import Vocabulary
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
RULES = """\
# Triage reads the docs
p, agent:triage, files.read, file:docs/**, True, allow
# Secrets stay closed
p, agent:triage, *, file:docs/secret/**, True, deny
# Closing is for leads
p, agent:triage, tickets.close, ticket:*, approvals('role:lead') >= 2 and len(args.reason) < 9, allow
p, user:none, *, **, True, allow
g, user:dana, role:lead
g, user:eve, role:lead
"""
POLICY = policy.load_policy(
    {"policies/model.conf": MODEL, "policies/rules.csv": RULES.encode()},
    Vocabulary(actions={"files.read": {"path": "string"}, "tickets.close": {"reason": "string"}}),
)

GOOD = """\
# who may do what
- note: triage reads a doc
  agent: triage
  action: files.read
  resources: ["file:docs/a.md"]
  expect: allow
  rule: reads the docs

- note: a secret stays closed
  agent: agent:triage
  user: user:none
  action: files.read
  resources: ["file:docs/a.md", "file:docs/secret/x"]
  expect: deny
  rule: stay closed

- note: closing asks two leads
  agent: triage
  action: tickets.close
  resources: ["ticket:1"]
  args: {reason: done}
  expect: ask
  missing: {lead: 2}

- note: one lead more
  agent: triage
  action: tickets.close
  resources: ["ticket:1"]
  args: {reason: done}
  approvals: {"role:lead": 1}
  expect: ask
  missing: {"role:lead": 1}
"""


def test_every_case_is_decided_in_order() -> None:
    """One result is compared as a whole, and the verdict of each."""
    results = run_cases(POLICY, GOOD, "policies/cases.yaml")
    assert results[1] == PolicyCaseResult(
        note="a secret stays closed",
        file="policies/cases.yaml",
        line=9,
        action="files.read",
        passed=True,
        message="",
        verdict="deny",
        rules=(("policies/rules.csv", 4),),
    )
    assert [(result.line, result.verdict, result.passed) for result in results] == [
        (2, "allow", True),
        (9, "deny", True),
        (17, "ask", True),
        (25, "ask", True),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("expect: allow", "expect: deny", "expected deny, got allow: 'Triage reads the docs' and "),
        ("rule: reads the docs", "rule: reads the dogs", "allow, but not by 'reads the dogs'; the deciding rules were"),
        ("file:docs/a.md", "file:notes/a.md", "expected allow, got deny: no rule allows"),
        (
            "missing: {lead: 2}",
            "missing: {lead: 1}",
            "expected the missing approvals {'role:lead': 1}, got {'role:lead': 2}",
        ),
        ("missing: {lead: 2}", "missing: {}", "expected the missing approvals {}"),
    ],
)
def test_a_failing_case_says_what_was_expected_and_what_came_instead(old: str, new: str, expected: str) -> None:
    """The other cases still pass."""
    assert old in GOOD
    failed = [result for result in run_cases(POLICY, GOOD.replace(old, new, 1), "x") if not result.passed]
    assert len(failed) == 1
    assert failed[0].message.startswith(expected)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param("note: x\n", 1, "not a list", id="not a list"),
        pytest.param("- x\n", 1, "mapping", id="a row that is a string"),
        pytest.param("-\n", 1, "mapping", id="an empty row"),
        pytest.param("- note: a\n  note: b\n", 2, "duplicate", id="a duplicate key"),
        pytest.param("- note: [a\n", 2, "", id="not YAML"),
        pytest.param(GOOD.replace("expect: allow", "expect: maybe"), 6, "expect", id="an unknown verdict"),
        pytest.param(GOOD.replace("  action: files.read\n", "", 1), 2, "action: field required", id="a missing field"),
        pytest.param(GOOD.replace("  rule: reads", "  rules: reads"), 7, "unknown key 'rules'", id="an unknown field"),
        pytest.param(GOOD.replace("files.read", "files.raed", 1), 2, "no tool has the action", id="a misspelled action"),
        pytest.param(GOOD.replace("file:docs/a.md", "docs/a.md", 1), 2, "has no kind", id="a misspelled resource"),
        pytest.param(GOOD.replace("a secret stays closed", "triage reads a doc"), 9, "line 2 has the same note", id="a duplicate note"),
        pytest.param(GOOD.replace("expect: allow", "expect: allow\n  missing: {lead: 1}"), 2, "does not expect ask", id="missing without ask"),
        pytest.param(GOOD.replace("{reason: done}", "{reason: 2026-01-01}", 1), 17, "is not a JSON value", id="a date"),
        pytest.param(GOOD.replace("{reason: done}", "{1: done}", 1), 17, "not a text", id="a key that is a number"),
        pytest.param(GOOD.replace("{reason: done}", "{reason: " + "[" * 40 + "]" * 40 + "}", 1), 17, "nested deeper", id="a value too deep"),
        pytest.param(GOOD.replace("lead: 2", "lead: many"), 23, "missing", id="a count that is not a number"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_a_problem_with_its_line(text: str, line: int, expected: str) -> None:
    """No case is decided then."""
    with pytest.raises(WorkspaceError) as caught:
        run_cases(POLICY, text, "policies/cases.yaml")
    first = caught.value.problems[0]
    assert (first.file, first.line) == ("policies/cases.yaml", line)
    assert expected in first.what


def test_a_denial_because_of_an_error_fails_the_case() -> None:
    """A case that lacks an argument proves nothing about the rule."""
    rules = policy.load_policy(
        {"policies/model.conf": MODEL, "policies/rules.csv": b"p, agent:a, a.b, **, args.n > 1, deny"}
    )
    (result,) = run_cases(rules, "- {note: n, agent: a, action: a.b, resources: [], expect: deny}", "x")
    assert result.message.startswith("deny, but only because of an error")


def test_an_empty_table_has_no_cases() -> None:
    """A file with only comments is valid too."""
    assert run_cases(POLICY, "", "x") == run_cases(POLICY, "# nothing yet\n", "x") == ()


def test_a_case_can_give_every_fact() -> None:
    """So every condition can be tested."""
    condition = "named_by_user and env == 'prod' and 'l' in labels and args.to in contains and calls('a.b') > 1 and time > '11:00'"
    rules = policy.load_policy(
        {
            "policies/model.conf": MODEL,
            "policies/rules.csv": f"p, agent:a, a.b, **, {condition} and confinement == 'landlock', allow\np, user:u, a.b, **, True, allow".encode(),
        }
    )
    row = "{note: n, agent: a, user: u, action: a.b, resources: [], args: {to: x}, labels: [l], named_by_user: true, contains: [x], calls: {a.b: 2}, env: prod, confinement: landlock, time: '11:01', expect: allow}"
    assert run_cases(rules, f"- {row}", "x")[0].passed
    assert not run_cases(rules, f"- {row.replace('11:01', '10:59')}", "x")[0].passed
