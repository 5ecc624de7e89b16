"""An open workspace: its files, its rules, its journal and its traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remit.core import Problem, WorkspaceError
from remit.journal import Journal
from remit.policy import Policy, load_policy, read_folder
from remit.workspace.bundle import vocabulary
from remit.workspace.definitions import Workspace
from remit.workspace.files import find_workspace
from remit.workspace.loader import load_workspace


@dataclass(frozen=True, kw_only=True)
class WorkspaceSession:
    """What every command that acts works on."""

    workspace: Workspace
    policy: Policy
    journal: Journal
    root: Path

    @property
    def traces(self) -> Path:
        return self.root / "traces"


def open_session(start: Path | None = None) -> WorkspaceSession:
    """The workspace around `start`, with every problem of every room reported at once."""
    root = find_workspace(start or Path.cwd())
    found, rules = load_workspace_and_policy(root)
    (root / "traces").mkdir(mode=0o700, exist_ok=True)
    return WorkspaceSession(workspace=found, policy=rules, journal=Journal(root / "traces" / "journal.db"), root=root)


def load_workspace_and_policy(root: Path) -> tuple[Workspace, Policy]:
    """All rooms of the workspace, or a WorkspaceError with the problems of all of them.

    INVARIANT: the rules are those of the files that the workspace was read from, for a run records these and the digest of
    those: a second reading could see an edit in between (threats E11).
    """
    problems: list[Problem] = []
    found: Workspace | None = None
    rules: Policy | None = None
    try:
        found = load_workspace(root)
    except WorkspaceError as error:
        problems.extend(error.problems)
    try:
        rules = load_policy(found.files, vocabulary(found)) if found else load_policy(policy_files(root))
    except WorkspaceError as error:
        problems.extend(error.problems)
    if found is None or rules is None:
        raise WorkspaceError(problems)
    return found, rules


def policy_files(root: Path, folder: str = "policies") -> Mapping[str, bytes]:
    """The model and the rules in a policy folder, named as in a workspace wherever the folder lies."""
    return read_folder(root / folder)
