"""The definition with which a run goes on: the one that its record names, whatever became of the files on disk.

A policy bundle has the files of a run's agent and tools, and names the code of each tool by its digest. The code of the tools that
the run uses, with the locks of their packages, is in the object store under that digest. So a run that waits survives a change of
the workspace. The rules, limits and settings are those on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from remit.core import UsageError, WorkspaceError
from remit.rollout.candidate import definition_folder
from remit.tracing import Objects
from remit.workspace import (
    CODE_DIGESTS,
    LIMITS,
    PRICES,
    Workspace,
    WorkspaceSession,
    load_files,
    read_code,
    read_digests,
)
from remit.workspace.manifest import LOCK, code_digest


@dataclass(frozen=True, kw_only=True)
class RecordedDefinition:
    """The definition that a run of `agent` has had until now: that of the policy bundle with the digest `bundle`, and its files.

    `changed` are the parts of it that differ on disk: files, tools whose code differs, and pins.
    """

    bundle: str
    agent: str
    workspace: Workspace
    files: Mapping[str, bytes]
    tools: tuple[str, ...]
    changed: tuple[str, ...]


def keep_code(objects: Objects, workspace: Workspace, agent: str) -> None:
    """Store the code of the agent's tools, so that its run can go on after they changed. Its digest is that of the pin.

    Raises:
        RunEnded: `unrecorded`: it cannot be stored.
        WorkspaceError: a tool's folder has a symbolic link.
    """
    for tool in workspace.tools_of(agent):
        objects.put_bundle(read_code(workspace.code(tool)))


def recorded_definition(now: Workspace, objects: Objects, bundle: str, agent: str) -> RecordedDefinition:
    """The definition of the policy bundle with that digest, compared with the workspace `now`.

    Raises:
        UsageError: an object is missing or was changed, or another version of Remit wrote the bundle.
    """
    files = objects.get_bundle(bundle)
    workspace = _workspace_of(bundle, files)
    if agent not in workspace.agents:
        raise UsageError(
            f"its definition has no agent {agent!r}: do not trust this run, and compare it with another copy"
        )
    tools = workspace.tools_of(agent)
    graphs = (side.agents[agent].graph for side in (workspace, now) if agent in side.agents)
    own = (f"agent/{agent}/", *(f"tools/{tool}/" for tool in tools), *(graph.file for graph in graphs if graph))
    paths = sorted(path for path in {*files, *now.files} if path.startswith(own))
    changed = [path for path in paths if files.get(path) != now.files.get(path)]
    for tool in tools:
        here, before = now.tools.get(tool), workspace.tools[tool]
        changed += [f"the code of {tool}"] if here is None or _code_on_disk(now, tool) != before.code else []
        changed += [f"the pin of {tool}"] if here is None or here.pin != before.pin else []
    return RecordedDefinition(
        bundle=bundle, agent=agent, workspace=workspace, files=files, tools=tools, changed=tuple(changed)
    )


def _workspace_of(bundle: str, files: Mapping[str, bytes]) -> Workspace:
    """The workspace of the files of a bundle. A worker resumes many runs of the same few bundles, so the last ones are kept.

    INVARIANT: the digest names exactly these files: `get_bundle` has compared them.
    """
    if (known := _read.get(bundle)) is not None:
        return known
    try:
        code = read_digests(files)
        named = {path: data for path, data in files.items() if path != CODE_DIGESTS}
        workspace = load_files(named, root=None, code=code)
    except WorkspaceError as failure:
        raise UsageError(f"its definition cannot be read by this version of Remit: {failure}") from failure
    while len(_read) >= MOST_READ:
        _read.pop(next(iter(_read)), None)
    _read[bundle] = workspace
    return workspace


MOST_READ: Final = 8
_read: Final[dict[str, Workspace]] = {}  # by the digest of the bundle


def _code_on_disk(now: Workspace, tool: str) -> str:
    """The digest of the code that would run: it may have changed since this process read the workspace."""
    return code_digest(read_code(now.code(tool)))


def with_definition(session: WorkspaceSession, objects: Objects, recorded: RecordedDefinition) -> WorkspaceSession:
    """The session with the agents and tools of the record. Rules, limits and settings stay those of the session.

    The bundle of such a session has the recorded files and the rules in force.

    Raises:
        UsageError: the code of a tool is missing or was changed, or its folder cannot be written.
    """
    now = session.workspace
    code = {tool: recorded.workspace.tools[tool].code for tool in recorded.tools}
    stored = {
        f"tools/{tool}/{path}": data for tool in code for path, data in _code_of(objects, tool, code[tool]).items()
    }
    stored |= {path: data for path, data in recorded.files.items() if path.startswith(f"agent/{recorded.agent}/")}
    files = {path: data for path, data in recorded.files.items() if path != CODE_DIGESTS and not _is_in_force(path)}
    name = f"{recorded.bundle.removeprefix('sha256:')}-{recorded.agent}"
    workspace = replace(
        now,
        root=definition_folder(session.traces, name, stored),
        agents=recorded.workspace.agents,
        tools=recorded.workspace.tools,
        graph_pins=recorded.workspace.graph_pins,
        files=files | {path: data for path, data in now.files.items() if _is_in_force(path)},
    )
    return replace(session, workspace=workspace, rules=session.policies)


# Files of policies/ that say something of recorded agents and tools only: a bundle with others could not be read again.
_OF_RECORD: Final = (LOCK, LIMITS, PRICES)


def _is_in_force(path: str) -> bool:
    """True for a file that every run has as it is now."""
    return path.startswith("policies/") and path not in _OF_RECORD


def _code_of(objects: Objects, tool: str, code: str) -> dict[str, bytes]:
    try:
        return objects.get_bundle(code)
    except UsageError as failure:
        raise UsageError(f"the code of tool {tool!r} that the run began with is not there: {failure}") from failure
