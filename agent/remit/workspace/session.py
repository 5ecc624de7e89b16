"""An open workspace: its files, its policy, its journal and its traces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import remit.journal
from remit.core import Problem, RunEnded, WorkspaceError
from remit.core.events import PolicyPublished
from remit.core.parsing import digest
from remit.policy import Policy, is_rules, load_policy, read_folder
from remit.storage import Store, open_store
from remit.workspace.bundle import vocabulary
from remit.workspace.definitions import Settings, Workspace
from remit.workspace.files import WorkspaceFiles, find_workspace, whole_folder
from remit.workspace.loader import load_workspace

if TYPE_CHECKING:  # who only reads the files does not load the database
    from remit.journal import Journal


JOURNAL: Final = Path("traces") / "journal.db"
PUBLISHED: Final = "published"  # the folder below traces/ of rules that were published


@dataclass(frozen=True, kw_only=True)
class WorkspaceSession:
    """An open workspace, as every command that runs, decides or records uses it.

    `root` is the folder of its journal, its traces and its working folders. `workspace` was read from there, or from another folder
    with a definition of its own, as in an evaluation. `rules` is the folder of the rules in force, None: that of the workspace.
    `problem` is why no new run starts: the files have changed since, and are not valid.
    """

    workspace: Workspace
    policy: Policy
    journal: Journal
    root: Path
    rules: Path | None = None
    problem: WorkspaceError | None = None

    @property
    def traces(self) -> Path:
        return self.root / "traces"

    @property
    def storage(self) -> Store | None:
        """The storage that all machines share; None if remit.toml names none."""
        return open_storage(self.workspace.settings)

    @property
    def policies(self) -> Path:
        """The folder of the rules that are in force."""
        return self.rules or (self.workspace.root or self.root) / "policies"


class _Kept:
    """What a process that executes one command after another keeps of the last one."""

    def __init__(self) -> None:
        self.loaded: tuple[Workspace, Policy] | None = None
        self._journal: Journal | None = None
        self._opened: tuple[object, ...] = ()  # by which process, with which settings, which file

    def load(self, root: Path) -> tuple[Workspace, Policy]:
        """The workspace and its policy; those of the last time, if no file that was read has changed."""
        if self.loaded is None or not _is_unchanged(self.loaded[0], root):
            self.loaded = load_workspace_and_policy(root)
        return self.loaded

    def journal(self, root: Path, settings: Settings) -> Journal:
        """The journal of the last time, if this process opened it, with the same settings, and no other file is in its place."""
        process = os.getpid()
        if self._journal is None or self._opened != (process, settings, _file_of(root, settings)):
            if self._journal is not None and self._opened[0] == process:  # that of another process is not ours to close
                self._journal.close()
            self._journal = open_journal_of(root, settings)
            self._opened = process, settings, _file_of(root, settings)
        return self._journal


_kept: _Kept | None = None


def keep_sessions() -> None:
    """From now on, what `open_session` loads is kept in this process and its forks, for the next one of the same files.

    For a process that executes commands of one workspace, one after another.
    """
    global _kept
    _kept = _kept or _Kept()


def open_session(start: Path | None = None) -> WorkspaceSession:
    """Open the workspace of the folder `start`. Raises WorkspaceError with every problem of every file."""
    root = find_workspace(start or Path.cwd())
    if _kept is not None:
        workspace, policy = _kept.load(root)
        journal = _kept.journal(root, workspace.settings)
    else:
        workspace, policy = load_workspace_and_policy(root)
        journal = open_journal_of(root, workspace.settings)
    return with_rules_in_force(WorkspaceSession(workspace=workspace, policy=policy, journal=journal, root=root))


def _is_unchanged(workspace: Workspace, root: Path) -> bool:
    """True if the files on disk are those from which the workspace was loaded, byte for byte."""
    found = WorkspaceFiles(root)
    return (
        workspace.root == root
        and not found.problems
        and found.files == workspace.files
        and found.code == {name: tool.code for name, tool in workspace.tools.items()}
        and all((root / agent.seed).is_dir() for agent in workspace.agents.values() if agent.seed)
    )


def _file_of(root: Path, settings: Settings) -> tuple[int, int] | None:
    """Which file the journal is; None in a database, or if there is none."""
    try:
        found = None if settings.journal else (root / JOURNAL).stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def open_journal_of(root: Path, settings: Settings) -> Journal:
    """Open the journal of the workspace in the folder `root`."""
    (root / "traces").mkdir(mode=0o700, exist_ok=True)
    location = settings.journal or root / JOURNAL
    group, copies = settings.journal_group, open_storage(settings)
    journal = remit.journal.open_journal(location, tenant=settings.tenant, group=group, copies=copies)
    if copies is not None:  # a hold or a revoked key must not be forgotten with a database that was put back
        try:
            remit.journal.bring_back(journal, runs=False)
        except BaseException:
            journal.close()
            raise
    return journal


def open_storage(settings: Settings) -> Store | None:
    """The storage that remit.toml names; None without one. Raises UsageError if it needs a package that is missing."""
    table = settings.storage
    return open_store(table.url, part=settings.tenant, endpoint=table.endpoint, region=table.region)


def load_workspace_and_policy(root: Path) -> tuple[Workspace, Policy]:
    """The workspace and its policy. Raises WorkspaceError with the problems of both.

    INVARIANT: the policy is loaded from the bytes from which the workspace was read. A run records these files and the digest
    of this policy; reading the files twice could see an edit in between (threat E11).
    """
    problems: list[Problem] = []
    workspace: Workspace | None = None
    policy: Policy | None = None
    try:
        workspace = load_workspace(root)
    except WorkspaceError as error:
        problems.extend(error.problems)
    try:
        # Without a workspace there is no vocabulary, but the rules are still checked, so that all problems are reported.
        policy = load_policy(workspace.files, vocabulary(workspace)) if workspace else load_policy(policy_files(root))
    except WorkspaceError as error:
        problems.extend(error.problems)
    if workspace is None or policy is None:
        raise WorkspaceError(problems)
    return workspace, policy


def policy_files(root: Path, folder: str = "policies") -> Mapping[str, bytes]:
    """The Casbin model and the rules of a policy folder, with the names that they have in a workspace."""
    return read_folder(root / folder)


# -- rules that were published --


def published_rules(journal: Journal) -> PolicyPublished | None:
    """The event that published the rules in force; None if each process has those of its own files.

    Raises RunEnded `unrecorded` if the event is missing.
    """
    if not (key := journal.published()):
        return None
    recorded = journal.get(remit.journal.WORKSPACE_RUN, key)
    if recorded is None or not isinstance(recorded.event, PolicyPublished):
        raise RunEnded(
            "unrecorded", "the rules that were published are missing in the journal", fix="publish them again"
        )
    return recorded.event


def with_rules_in_force(session: WorkspaceSession) -> WorkspaceSession:
    """The session with the rules that were published, or with those of its own files if none are.

    A session with rules of its own, as those of an evaluation, keeps them.

    INVARIANT: a process that cannot have the published rules gets no others: it decides nothing.

    Raises:
        WorkspaceError: this process cannot load them, for instance because they name a tool that it does not have.
        UsageError: they cannot be written below `traces/`.
    """
    if not _follows(session):
        return session
    published = published_rules(session.journal)
    rules = (session.root if published is None else _folder_of(session.traces, published)) / "policies"
    if rules == session.policies:
        return session
    files = read_folder(rules)
    try:
        policy = load_policy(files, vocabulary(session.workspace))
    except WorkspaceError as failure:
        whose = "of its own files" if published is None else f"that {published.by.subject} published"
        what = f"the rules {whose} cannot be loaded here"
        fix = "bring the files of this workspace up to date, or publish other rules"
        raise WorkspaceError([Problem(file="policies", what=what, fix=fix), *failure.problems]) from failure
    kept = {path: data for path, data in session.workspace.files.items() if not is_rules(path)}
    return replace(session, workspace=replace(session.workspace, files={**kept, **files}), policy=policy, rules=rules)


def _follows(session: WorkspaceSession) -> bool:
    return session.policies == session.root / "policies" or session.policies.is_relative_to(session.traces / PUBLISHED)


def _folder_of(traces: Path, published: PolicyPublished) -> Path:
    name = digest(published.files).removeprefix("sha256:")
    files = {path: text.encode() for path, text in published.files.items()}
    return whole_folder(traces / PUBLISHED / name, files, what="the published rules")
