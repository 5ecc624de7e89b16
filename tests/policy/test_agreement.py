"""Rules come into force only if Remit's matcher and stock Casbin give the same answers to their cases and witnesses."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.calls import Decision, Request
from remit.core.errors import WorkspaceError
from remit.policy import agreement, reload
from remit.policy import engine as policy
from remit.policy.agreement import check_agreement
from remit.policy.engine import Judgement, Policy
from remit.policy.folder import CaseTable, read_case_tables, read_folder
from remit.policy.reload import PolicyWatcher
from remit.policy.second_opinion import SecondOpinion
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
RULES = """p, agent:a, files.read, file:docs/**, len(args.text) < 5, allow
# Nobody reads the vault
p, agent:a, files.read, file:docs/vault, True, deny
"""
CASE = """- note: the vault is not read
  agent: a
  user: u
  action: files.read
  resources: ["file:docs/vault"]
  expect: deny
"""


def load(text: str) -> Policy:
    return policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": text.encode()})


def allow_everything(self: Policy, request: Request) -> Judgement:
    return Judgement(True, list(self.rows[:1]))


def test_both_engines_agree_on_the_shipped_rules_and_cases() -> None:
    folder = ROOT / "policies"
    check_agreement(policy.load_policy(read_folder(folder)), read_case_tables(folder))


def test_a_case_on_which_the_engines_disagree_is_a_problem_with_its_line_and_both_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Policy, "judge", allow_everything)
    with pytest.raises(WorkspaceError) as found:
        check_agreement(load(RULES), (CaseTable("policies/cases.yaml", CASE),))
    first = found.value.problems[0]
    assert (first.file, first.line) == ("policies/cases.yaml", 1)
    assert (
        "the vault is not read: the two engines disagree: Remit's matcher answers allow, stock Casbin deny"
        in first.what
    )


def test_without_a_case_the_witness_of_a_rule_shows_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "judge", allow_everything)
    with pytest.raises(WorkspaceError) as found:
        check_agreement(load(RULES))
    assert ("policies/rules.csv", 3) in [(problem.file, problem.line) for problem in found.value.problems]


def test_a_witness_meets_the_condition_of_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a matcher that never allows is detected too."""
    monkeypatch.setattr(Policy, "judge", lambda *_: Judgement(False, []))
    with pytest.raises(WorkspaceError) as found:
        check_agreement(load(RULES))
    assert [(problem.file, problem.line) for problem in found.value.problems] == [("policies/rules.csv", 1)]


def test_a_casbin_that_disagrees_is_detected_and_one_that_agrees_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_agreement(load(RULES), (CaseTable("policies/cases.yaml", CASE),))
    monkeypatch.setattr(SecondOpinion, "allows_each", lambda _, requests: [False for _ in requests])
    with pytest.raises(WorkspaceError, match="Remit's matcher answers allow, stock Casbin deny"):
        check_agreement(load(RULES), (CaseTable("policies/cases.yaml", CASE),))


def test_a_matcher_that_fails_is_a_problem_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Decision:
        raise RecursionError

    monkeypatch.setattr(Policy, "decide", broken)
    with pytest.raises(WorkspaceError, match="failed with RecursionError"):
        check_agreement(load(RULES))


def test_a_large_policy_has_a_bounded_number_of_evenly_spread_witnesses(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(f"p, user:u{n}, t.a, file:p{n}/**, len(args.x) < {n + 1}, allow" for n in range(5000))
    asked: list[Request] = []
    each = SecondOpinion.allows_each
    monkeypatch.setattr(
        SecondOpinion, "allows_each", lambda self, requests: (asked.extend(requests), each(self, requests))[1]
    )
    check_agreement(load(text))
    assert 100 < len(asked) <= 4 * agreement.MOST_WITNESSES
    assert {request.subjects[0] for request in asked} >= {"user:u0", "user:u4975"}


def test_an_edit_on_which_the_engines_disagree_is_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.conf").write_bytes(MODEL)
    (tmp_path / "rules.csv").write_text(RULES)
    files = read_folder(tmp_path)
    reported: list[WorkspaceError] = []
    now = [0.0]
    monkeypatch.setattr(reload, "SETTLED_S", 0.0)
    watcher = PolicyWatcher(tmp_path, load(RULES), files, report=reported.append, clock=lambda: now[0])
    first = watcher.current()
    edited = RULES + "p, agent:b, files.read, file:docs/vault, True, deny\n"
    with monkeypatch.context() as broken:
        broken.setattr(Policy, "judge", allow_everything)
        (tmp_path / "rules.csv").write_text(edited)
        now[0] += 1
        assert watcher.current() is first
        now[0] += 1
        assert watcher.current() is first
    assert len(reported) == 1
    assert "the two engines disagree" in str(reported[0])
    (tmp_path / "rules.csv").write_text(edited + "\n")
    for _ in range(3):
        now[0] += 1
        watcher.current()
    assert watcher.problem is None
    assert len(watcher.current().rows) == 3


def test_an_edit_with_invalid_cases_is_in_force_once_the_cases_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.conf").write_bytes(MODEL)
    (tmp_path / "rules.csv").write_text(RULES)
    now = [0.0]
    monkeypatch.setattr(reload, "SETTLED_S", 0.0)
    watcher = PolicyWatcher(tmp_path, load(RULES), read_folder(tmp_path), clock=lambda: now[0])
    watcher.current()
    (tmp_path / "rules.csv").write_text(RULES + "p, agent:b, files.read, file:docs/**, True, allow\n")
    (tmp_path / "cases.yaml").write_text("- {note: 1\n")
    for _ in range(3):
        now[0] += 1
        watcher.current()
    assert watcher.problem is not None
    assert "policies/cases.yaml" in str(watcher.problem)
    assert len(watcher.current().rows) == 2
    (tmp_path / "cases.yaml").write_text(CASE)
    for _ in range(3):
        now[0] += 1
        watcher.current()
    assert watcher.problem is None
    assert len(watcher.current().rows) == 3
