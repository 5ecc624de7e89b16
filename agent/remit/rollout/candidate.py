"""A candidate: the files of a whole workspace definition, with the code of its tools, by digest in the object store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from remit.policy import Policy, is_rules, load_policy
from remit.tracing import objects_of
from remit.workspace import (
    LIMITS,
    MARKER,
    PRICES,
    Workspace,
    WorkspaceSession,
    load_files,
    policy_files,
    read_code,
    vocabulary,
    whole_folder,
)
from remit.workspace.manifest import code_digest

FOLDER: Final = "definitions"  # below traces/: the files of candidates, so that their tools can run
# Files that no candidate replaces: all runs share what they say, and an operator who changes them means every run.
OF_ALL_RUNS: Final = (MARKER, LIMITS, PRICES, *(f"policies/{name}.toml" for name in ("content", "labels")))


@dataclass(frozen=True, kw_only=True)
class CandidateDefinition:
    """The workspace of a candidate, and its rules. The rules are apart, because they can be taken back while a run goes on.

    `workspace` has the rules on disk, which are `on_disk`; `policy` are those of the candidate and `rules` their files.
    """

    workspace: Workspace
    on_disk: Policy
    policy: Policy
    rules: Mapping[str, bytes]


def files_of_definition(workspace: Workspace) -> dict[str, bytes]:
    """Every file that the definition needs to run: those of its policy bundle, and the code of its tools."""
    files = dict(workspace.files)
    assert workspace.root is not None
    for name in workspace.tools:
        files |= {f"tools/{name}/{path}": data for path, data in read_code(workspace.code(name)).items()}
    return files


def files_in_force(session: WorkspaceSession, digest: str) -> dict[str, bytes]:
    """The files of the stored definition of that digest, with the files on disk that are the same for all runs.

    Raises:
        UsageError: an object is missing or was changed.
    """
    files = objects_of(session).get_bundle(digest)
    kept = {path: data for path, data in files.items() if path not in OF_ALL_RUNS}
    return {**kept, **{path: data for path, data in session.workspace.files.items() if path in OF_ALL_RUNS}}


def open_candidate(session: WorkspaceSession, digest: str) -> CandidateDefinition:
    """The stored definition of that digest, with its files below `traces/definitions/`.

    Raises:
        UsageError: an object is missing or was changed, or the folder cannot be written.
        WorkspaceError: its files are not valid, or the rules on disk are not valid with them.
    """
    files = files_in_force(session, digest)
    folder = definition_folder(session.traces, digest.removeprefix("sha256:"), files)
    # INVARIANT: the digests are those of the files that will run. A file that was changed since then has no pin.
    code = {name: code_digest(read_code(folder / "tools" / name)) for name in _tools_of(files)}
    on_disk = policy_files(session.policies.parent)
    named = {path: data for path, data in files.items() if not _is_code(path) and not is_rules(path)}
    workspace = replace(load_files({**named, **on_disk}, root=None, code=code), root=folder)
    words = vocabulary(workspace)
    rules = {path: data for path, data in files.items() if is_rules(path)}
    return CandidateDefinition(
        workspace=workspace, on_disk=load_policy(on_disk, words), policy=load_policy(rules, words), rules=rules
    )


def _tools_of(files: Iterable[str]) -> list[str]:
    return sorted({path.split("/")[1] for path in files if path.startswith("tools/")})


def _is_code(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "tools" and parts[2:] != ["tool.toml"]


def definition_folder(traces: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """The folder with the code and the scripts of a definition. It appears whole, also if two processes write it at once.

    `name` is the hex digest of its bundle, alone or before a hyphen.

    Raises:
        UsageError: it cannot be written.
    """
    return whole_folder(traces / FOLDER / name, files, what=f"the files of definition {name!r}")


def remove_unused_definitions(traces: Path, used: Container[str], *, older_s: float) -> None:
    """Remove each folder of a definition whose bundle is not `used`, and that was not made in the last `older_s` seconds."""
    folder = traces / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        bundle = f"sha256:{path.name.partition('-')[0]}"
        if bundle not in used and path.stat().st_mtime < time.time() - older_s:
            shutil.rmtree(path, ignore_errors=True)
