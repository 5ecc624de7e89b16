"""A rule may use declared names only: a misspelled name would make a deny useless, or a condition always true."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.errors import WorkspaceError
from remit.workspace.session import load_workspace_and_policy

DENY = "p, agent:triage, *, file:logs/**, {}, deny"


def added(session: Path, rows: str, settings: str = "", file: str = "rules.csv") -> None:
    """Append rows to the rules, and set `settings` in remit.toml."""
    (session / "policies" / file).write_text((session / "policies" / file).read_text() + rows + "\n")
    if settings:
        kept = [
            line for line in (session / "remit.toml").read_text().split("\n") if line.partition(" ")[0] not in settings
        ]
        (session / "remit.toml").write_text("\n".join([settings, *kept]))


@pytest.mark.parametrize(
    ("row", "what", "fix"),
    [
        pytest.param(
            DENY.format("env == 'locl'"), "no file declares the environment 'locl'",
            "did you mean local? Or add \"locl\" to envs in remit.toml", id="an environment",
        ),
        pytest.param(
            DENY.format("'untrsted' in labels"), "no file declares the label 'untrsted'",
            "did you mean untrusted? Or declare it in adds_labels of a tool.toml or in policies/labels.toml", id="a label",
        ),
        pytest.param(
            DENY.format("'untrsted' not in labels"), "no file declares the label 'untrsted'", "did you mean untrusted?", id="an absent label",
        ),
        pytest.param(DENY.format("'lnk' in contains"), "no file declares the label 'lnk'", "did you mean link?", id="what a text contains"),
        pytest.param(
            "p, agent:trige, files.read, file:logs/**, True, deny", "no file declares the agent 'agent:trige'",
            "did you mean agent:triage? Or write agent/trige/agent.toml", id="an agent",
        ),
        pytest.param(
            "p, user:dna, files.read, file:logs/**, True, deny", "no file declares the user 'user:dna'",
            "did you mean user:dana? Or add \"user:dna\" to users in remit.toml", id="a user",
        ),
        pytest.param("g, user:dna, role:oncall-lead", "no file declares the user 'user:dna'", "did you mean user:dana?", id="a user of a role"),
        pytest.param(
            "p, role:operatr, files.read, file:logs/**, True, deny", "no file declares the role 'role:operatr'",
            "did you mean role:operator? Or write g, user:<name>, role:operatr", id="a role",
        ),
        pytest.param(
            "p, agent:triage, http.get, https://a.example/**, approved('role:oncal-lead'), allow",
            "no file declares the role 'role:oncal-lead'", "did you mean role:oncall-lead?", id="a role that approves",
        ),
        pytest.param("g, role:operatr, role:oncall-lead", "no file declares the role 'role:operatr'", "did you mean role:operator?", id="a role of a role"),
    ],
)  # fmt: skip
def test_an_undeclared_name_is_a_problem_with_its_line_and_fix(session: Path, row: str, what: str, fix: str) -> None:
    added(session, row)
    with pytest.raises(WorkspaceError) as found:
        load_workspace_and_policy(session)
    (problem,) = found.value.problems
    lines = (session / "policies/rules.csv").read_text().split("\n")
    assert (problem.file, lines[(problem.line or 0) - 1], problem.what) == ("policies/rules.csv", row, what)
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        pytest.param(DENY.format("env == 'production'"), 'envs = ["production"]', id="an environment of envs"),
        pytest.param(DENY.format("env == 'local'"), "", id="the environment of this workspace"),
        pytest.param(DENY.format("'private' in labels and 'account' in contains"), "", id="labels that every workspace has"),
        pytest.param("p, user:erin, files.read, file:logs/**, True, deny", 'users = ["user:dana", "user:erin", "user:mara"]', id="a user of users"),
        pytest.param("p, user:operator, files.read, file:logs/**, True, deny", "", id="a user of identity"),
        pytest.param("g, user:dana, role:night\np, role:night, files.read, file:logs/**, True, allow", "", id="a role that a g row gives"),
        pytest.param(
            "p, agent:triage, http.get, https://a.example/**, approved('role:break-glass'), allow", "", id="the role for emergencies",
        ),
    ],
)  # fmt: skip
def test_a_declared_name_is_accepted(session: Path, row: str, settings: str) -> None:
    added(session, row, settings)
    load_workspace_and_policy(session)


def test_any_user_may_be_named_if_every_account_is_a_user(session: Path) -> None:
    """Without `[identity]` and `users` any user is valid; with either, only the listed ones."""
    text = (session / "remit.toml").read_text()
    text = "\n".join(line for line in text.split("\n") if not line.startswith(("users", "[identity]", '"*"')))
    (session / "remit.toml").write_text(text)
    added(session, "p, user:anybody, files.read, file:logs/**, True, deny")
    load_workspace_and_policy(session)
    (session / "remit.toml").write_text(f"users = []\n{text}")
    with pytest.raises(WorkspaceError, match="user:anybody"):
        load_workspace_and_policy(session)


def test_an_undeclared_name_in_a_case_is_a_problem(session: Path) -> None:
    """Otherwise it would pass for the wrong reason."""
    from remit.analysis import check_workspace

    table = session / "policies/cases.yaml"
    row = (
        '- {note: n, agent: triage, user: operator, action: files.read, resources: ["file:logs/a"], %s, expect: allow}'
    )
    good = table.read_text()
    table.write_text(good + row % "labels: [untrusted], env: local" + "\n")
    assert check_workspace(session).errors == ()
    table.write_text(good + row % "labels: [untrsted], env: prdo" + "\n")
    found = [item.what for item in check_workspace(session).errors]
    assert found == ["no file declares the environment 'prdo'", "no file declares the label 'untrsted'"]
