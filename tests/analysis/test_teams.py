"""What a reviewer sees of teams: their files in answers, their cases in a check, and changes grouped by owner."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remit.analysis.check.workspace import check_workspace
from remit.analysis.diff import permission_diff, working_tree
from remit.cli.policy.permission_diff import _markdown, _text  # the text of the command, without a process
from support.runs import Remit

TEAM = 'summary = "Tickets"\nagents = ["agent:triage"]\nroles = ["role:clerk"]\ntools = ["tickets"]\nresources = ["ticket:**"]\n'
RULES = """# Clerks look at tickets of people.
p, role:clerk, tickets.get, ticket:HR-*, True, allow
g, user:operator, role:clerk
"""
CASES = """- note: "the operator is a clerk and lists tickets of people, the agent may not"
  agent: agent:triage
  user: user:operator
  action: tickets.get
  resources: ["ticket:HR-1"]
  expect: deny
"""


@pytest.fixture
def team(session: Path) -> Path:
    """A workspace with the team `desk`."""
    write(session, TEAM, RULES, CASES)
    return session


def write(folder: Path, team: str = TEAM, rules: str = RULES, cases: str = CASES) -> None:
    (folder / "policies/desk").mkdir(exist_ok=True)
    (folder / "policies/desk/team.toml").write_text(team)
    (folder / "policies/desk/rules.csv").write_text(rules)
    (folder / "policies/desk/cases.yaml").write_text(cases)


def test_questions_name_the_file_and_line_of_a_team(team: Path, remit: Remit) -> None:
    who = remit("policy", "who", "tickets.get", "ticket:HR-1")
    assert any("user:operator" in line and "desk/rules.csv:2" in line for line in who.out.splitlines())
    can = remit("policy", "can", "user:operator")
    assert "desk/rules.csv:2" in can.out
    explained = remit("policy", "explain", "tickets.get", "ticket:HR-1", "--agent", "triage", "--user", "operator")
    assert "policies/desk/rules.csv:2" in explained.out
    assert remit("policy", "test").out.count("not covered policies/desk/rules.csv:2") == 1


def test_a_check_reads_the_cases_of_a_team_and_names_their_file(team: Path) -> None:
    assert check_workspace(team).errors == ()
    write(team, cases=CASES.replace("expect: deny", "expect: allow"))
    (found,) = check_workspace(team).errors
    assert (found.file, found.line, found.code) == ("policies/desk/cases.yaml", 1, "case")


def test_a_check_refuses_what_a_team_may_not_name(team: Path) -> None:
    write(team, rules=f"{RULES}p, agent:support, tickets.get, ticket:HR-1, True, allow\n")
    (found,) = check_workspace(team).errors
    assert (found.file, found.line, found.level) == ("policies/desk/rules.csv", 4, "error")
    assert found.what == "the rules of team desk may not name 'agent:support'"


def test_a_comparison_groups_changes_by_owner(team: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(team, before)
    write(team, rules=f"{RULES}p, agent:triage, tickets.get, ticket:HR-*, True, allow\n")
    rules = team / "policies/rules.csv"
    rules.write_text(f"{rules.read_text()}p, agent:triage, files.read, file:data/**, True, allow\n")
    found = permission_diff(working_tree(before).workspace, working_tree(team).workspace)
    assert {(item.owner, item.text.split(" on ")[0]) for item in found.of("wider")} == {
        ("desk", "agent:triage may now call tickets.get"),
        ("", "agent:triage may now call files.read"),
    }
    lines = _text(found).splitlines()
    assert [line for line in lines if line.startswith("  ") and line.endswith(": 1")] == [
        "  the organization: 1",
        "  team desk: 1",
    ]
    assert "team desk (1):\n" in _markdown(found)


def test_more_that_a_team_may_name_is_new_authority(team: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(team, before)
    write(team, team=TEAM.replace('"agent:triage"', '"agent:triage", "agent:support"'))
    found = permission_diff(working_tree(before).workspace, working_tree(team).workspace)
    (item,) = found.of("wider")
    assert (item.text, item.because) == (
        "the rules of team desk may now name agent:support",
        ("policies/desk/team.toml",),
    )
    back = permission_diff(working_tree(team).workspace, working_tree(before).workspace)
    assert back.proved
