"""Reads the files of either side of a comparison: from a folder, or from a git revision (`main`, `HEAD~1`, `git:v1`)."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import UsageError
from remit.core.parsing import read_file
from remit.policy import IN_FORCE
from remit.policy.language import Vocabulary, team_of
from remit.workspace import MARKER, RESERVED, Workspace, load_files, load_workspace, policy_files, vocabulary
from remit.workspace.manifest import code_digest, is_code

GIT: Final = "git:"
_AREAS: Final = ("policies", "tools", "agent", MARKER)
_LINK: Final = "120000"  # git's mode of a symbolic link
GIT_TIMEOUT: Final = 30.0  # seconds for one git command


@dataclass(frozen=True)
class PolicySource:
    """The files of a workspace, or of its policies alone, by relative path. `root` is None for a git revision."""

    label: str
    files: Mapping[str, bytes]
    root: Path | None

    @property
    def whole(self) -> bool:
        """True if this is a whole workspace, not only rules."""
        return MARKER in self.files

    @cached_property
    def workspace(self) -> Workspace:
        """The whole workspace.

        Raises:
            WorkspaceError: with every problem, except in the rules.
        """
        if self.root is not None:
            return load_workspace(self.root)
        code: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        for path, data in self.files.items():
            parts = PurePosixPath(path).parts
            if parts[0] == "tools" and len(parts) > 2 and is_code(name := "/".join(parts[2:])):
                code[parts[1]][name] = data
        digests = {tool: code_digest(files) for tool, files in code.items()}
        return load_files(
            {path: data for path, data in self.files.items() if _is_parsed(path, data)}, root=None, code=digests
        )

    def rule_set(self, known: Vocabulary | None = None) -> RuleSet:
        """Read its rules. `known` are the actions to assume if this is not a whole workspace.

        Raises:
            WorkspaceError: with every problem.
        """
        return read_rule_set(self.label, self.files, vocabulary(self.workspace) if self.whole else known)


def open_source(text: str, root: Path | None) -> PolicySource:
    """Open a folder, or else a git revision of the repository around `root`. `git:REV` and `REV:` always mean a revision.

    Raises:
        UsageError: nothing has that name, or it contains no rules.
    """
    is_revision = text.startswith(GIT) or text.endswith(":")
    if not is_revision and Path(text).is_dir():
        source = _folder(Path(text))
    else:
        source = _revision(text.removeprefix(GIT).removesuffix(":"), root or Path.cwd())
    if not any(path.startswith("policies/") for path in source.files):
        raise UsageError(f"{text!r} contains no policies: name a workspace, a policies folder, or git:REV")
    return source


def working_tree(root: Path) -> PolicySource:
    """The workspace with its files of now."""
    return _folder(root)


def _folder(folder: Path) -> PolicySource:
    if (folder / "policies").is_dir():
        files = dict(policy_files(folder))
        if (folder / MARKER).is_file():
            files[MARKER] = read_file(folder / MARKER, file=MARKER)
        return PolicySource(str(folder), files, folder)
    whole = folder.resolve()
    return PolicySource(str(folder), policy_files(whole.parent, whole.name), folder)


def _revision(revision: str, root: Path) -> PolicySource:
    if not revision or revision.startswith("-"):
        raise UsageError(f"{revision!r} is not a git revision: write git:REV, for example git:HEAD~1")
    try:
        named = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except UsageError as error:
        raise UsageError(f"{revision!r} is neither a folder nor a git revision: {error}") from None
    commit = named.decode().strip()
    listed = _git(root, "ls-tree", "-r", "-z", commit, "--", *_AREAS)
    object_of: dict[str, str] = {}
    for entry in listed.split(b"\0"):
        if not entry:
            continue
        head, _, name = entry.partition(b"\t")
        mode, kind, number = head.decode().split()
        path = name.decode(errors="surrogateescape")
        if kind == "blob" and mode != _LINK and _is_workspace_file(path):
            object_of[path] = number
    for path in [
        path for path in object_of if (team := team_of(path)) and f"policies/{team}/team.toml" not in object_of
    ]:
        del object_of[path]  # as on disk: a folder of rules that is not a team's is not in force
    return PolicySource(
        f"git:{revision}", dict(zip(object_of, _blobs(root, tuple(object_of.values())), strict=True)), None
    )


def _is_workspace_file(path: str) -> bool:
    """True if the file can be part of a workspace's rules, manifests, agents or tool code."""
    parts = PurePosixPath(path).parts
    if parts[0] == "agent":
        return len(parts) > 2 and parts[1] != RESERVED
    if parts[0] == "policies":
        return len(parts) <= 3 and (path.endswith(IN_FORCE) or path == "policies/tools.lock")
    return path == MARKER or (parts[0] == "tools" and len(parts) > 2)


def _is_parsed(path: str, data: bytes) -> bool:
    """True if loading the workspace parses the file. Code of tools, and seed files of agents, are only read by runs."""
    if path.startswith("agent/"):
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True
    return not path.startswith("tools/") or path.endswith("/tool.toml")


def _blobs(root: Path, numbers: tuple[str, ...]) -> Iterator[bytes]:
    """Yield the contents of those git objects, in their order."""
    output = _git(root, "cat-file", "--batch", given="".join(f"{one}\n" for one in numbers).encode())
    at = 0
    for _ in numbers:
        line, _, _ = output[at:].partition(b"\n")
        size = int(line.split()[2])
        at += len(line) + 1
        yield output[at : at + size]
        at += size + 1


def _git(root: Path, *words: str, given: bytes = b"") -> bytes:
    program = shutil.which("git")
    if program is None:
        raise UsageError("git is not installed, and a revision was named: name a folder instead")
    done = subprocess.run(
        [program, "-C", str(root), *words], input=given, capture_output=True, timeout=GIT_TIMEOUT, check=False
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"git {words[0]} failed in {str(root)!r}: {lines[0] if lines else 'there is no such revision'}"
        )
    return done.stdout
