"""Every file below policies/ is read, declared not in force, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.errors import WorkspaceError
from remit.policy import engine as policy
from remit.policy import reload
from remit.policy.folder import read_folder, unread_files
from remit.policy.reload import PolicyWatcher
from remit.workspace.session import load_workspace_and_policy
from support import ROOT

DENY = "p, agent:triage, *, **, True, deny\n"
MODEL = (ROOT / "policies" / "model.conf").read_bytes()


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        pytest.param("rules.cvs", "name it rules.csv, or remove it", id="a misspelled suffix"),
        pytest.param("deny.CSV", "name it deny.csv, or remove it", id="a suffix in capitals"),
        pytest.param("rules.csv~", "remove the copy", id="an editor's backup"),
        pytest.param("rules.csv.orig", "remove the copy", id="a leftover of a merge"),
        pytest.param("labels.tmol", "name it labels.toml, or remove it", id="a misspelled table"),
        pytest.param("other.conf", "remove it; policies/ may contain", id="a second model"),
        pytest.param("notes.txt", "remove it; policies/ may contain", id="a text"),
        pytest.param(".rules.csv", "name it rules.csv, or remove it", id="hidden rules"),
        pytest.param("NOT_IN_FORCE", "remove it: it has an effect only in a folder below policies/", id="a marker for all rules"),
        pytest.param("teams/billing.csv", "move it to policies/, or write the reason why it is not in force in policies/teams/NOT_IN_FORCE", id="rules in a folder"),
        pytest.param("teams/a/b.csv", "move it to policies/, or write the reason why it is not in force in policies/teams/a/NOT_IN_FORCE", id="rules in a folder of a folder"),
    ],
)  # fmt: skip
def test_a_file_that_nothing_reads_is_an_error_with_its_path(session: Path, name: str, fix: str) -> None:
    """A deny in it would have no effect."""
    path = session / "policies" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(DENY)
    with pytest.raises(WorkspaceError) as found:
        load_workspace_and_policy(session)
    (problem,) = found.value.problems
    assert problem.file == f"policies/{name}"
    assert problem.what == "nothing reads this file, so it is not in force"
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    "name",
    ["more.csv", "NOTES.md", "limits.toml", "prices.toml", ".gitkeep", ".rules.csv.swp", ".DS_Store", "open/more.csv"],
)
def test_a_file_that_is_read_or_cannot_be_mistaken_for_rules_is_accepted(session: Path, name: str) -> None:
    """Files in a folder with NOT_IN_FORCE are accepted too."""
    (session / "policies" / name).write_text("")
    load_workspace_and_policy(session)
    assert list(unread_files(session / "policies")) == []


def test_an_empty_not_in_force_file_is_an_error(session: Path) -> None:
    (session / "policies/open/NOT_IN_FORCE").write_text(" \n")
    (problem,) = unread_files(session / "policies")
    assert (problem.file, problem.what) == ("policies/open/NOT_IN_FORCE", "the file gives no reason")


def test_the_shipped_folder_has_no_file_that_nothing_reads() -> None:
    assert list(unread_files(ROOT / "policies")) == []


def test_an_edit_beside_an_unread_file_is_in_force_once_that_file_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.conf").write_bytes(MODEL)
    (tmp_path / "rules.csv").write_text("p, agent:a, a.b, **, True, allow\n")
    now = [0.0]
    monkeypatch.setattr(reload, "SETTLED_S", 0.0)
    files = read_folder(tmp_path)
    watcher = PolicyWatcher(tmp_path, policy.load_policy(files), files, clock=lambda: now[0])
    watcher.current()
    (tmp_path / "deny.cvs").write_text(DENY)
    (tmp_path / "rules.csv").write_text("p, agent:a, a.b, file:x, True, allow\n")
    for _ in range(3):
        now[0] += 1
        watcher.current()
    assert "policies/deny.cvs" in str(watcher.problem)
    assert watcher.current().rules[0].text == "p, agent:a, a.b, **, True, allow"
    (tmp_path / "deny.cvs").rename(tmp_path / "deny.csv")
    for _ in range(3):
        now[0] += 1
        watcher.current()
    assert watcher.problem is None
    assert [rule.effect for rule in watcher.current().rules] == ["deny", "allow"]
