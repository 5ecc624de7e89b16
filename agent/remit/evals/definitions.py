"""Definitions of an agent: that on disk, and the variants of it that an evaluation compares.

A definition is a set of files: everything that a run of the workspace uses, with the code of its tools. So it is changed in memory,
stored by digest like every bundle, and written as a folder of its own, from which its runs read: an edit of the workspace does not
change an evaluation that goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, cast

from remit.core import FrozenModel, Json, UsageError
from remit.core.events import Variant
from remit.core.parsing import digest, load_toml, read_file
from remit.policy import is_cases, is_rules, load_policy, read_case_tables, read_folder
from remit.rollout import files_of_definition
from remit.tracing import Objects
from remit.workspace import (
    MARKER,
    Agent,
    Workspace,
    WorkspaceSession,
    load_files,
    load_workspace,
    vocabulary,
    write_files,
)
from remit.workspace.manifest import LOCK, code_digest

ON_DISK: Final = "disk"  # the name of the variant without changes

Files = Mapping[str, bytes]


class Changes(FrozenModel):
    """How a variant differs from the definition on disk. None, or empty: not at all.

    `prompt` is a file, `policy` a policy folder or a workspace, `tools` the folder `tools` of a workspace. `settings` are those of the
    model, by name.
    """

    model: str | None = None
    prompt: Path | None = None
    policy: Path | None = None
    tools: Path | None = None
    settings: Mapping[str, Json] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each change."""
        named = {"model": self.model, "prompt": self.prompt, "policy": self.policy, "tools": self.tools}
        given = tuple(f"{key} {value}" for key, value in named.items() if value is not None)
        return (*given, *(f"{key}={json.dumps(value)}" for key, value in self.settings.items()))

    def apply(self, workspace: Workspace, agent: str) -> dict[str, bytes]:
        """The files of the definition on disk, with these changes.

        Raises:
            UsageError: a file or a folder is missing.
            WorkspaceError: the other workspace is not valid.
        """
        changed = _files(workspace)
        if self.policy is not None:
            changed = _with_policy(changed, self.policy)
        if self.tools is not None:
            changed = _with_tools(changed, self.tools)
        file = f"agent/{agent}/agent.toml"
        document = load_toml(changed[file].decode(), file=file)
        if self.prompt is not None:
            if not self.prompt.is_file():
                raise UsageError(f"there is no prompt {str(self.prompt)!r}: name a file")
            changed[f"agent/{agent}/{document['prompt']}"] = read_file(self.prompt, file=str(self.prompt))
        if self.model is not None:
            changed |= _script(workspace, agent, self.model)
            document = {key: value for key, value in document.items() if key not in ("models", "base_urls")}
            document["model"] = self.model
        if self.settings:
            document["model_settings"] = {**document.get("model_settings", {}), **self.settings}
        if self.model is not None or self.settings:
            changed[file] = "".join(f"{key} = {_toml(value)}\n" for key, value in document.items()).encode()
        return changed


def matrix(
    models: Sequence[str] = (),
    prompts: Sequence[Path] = (),
    policies: Sequence[Path] = (),
    tools: Sequence[Path] = (),
    settings: Sequence[Mapping[str, Json]] = (),
) -> tuple[Changes, ...]:
    """Every combination of these alternatives, after the definition on disk. An empty sequence leaves that part as it is."""
    parts = product(models or (None,), prompts or (None,), policies or (None,), tools or (None,), settings or ({},))
    every = (
        Changes(model=model, prompt=prompt, policy=policy, tools=its_tools, settings=given)
        for model, prompt, policy, its_tools, given in parts
    )
    return tuple({changes.lines: changes for changes in (Changes(), *every)}.values())


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A variant whose files are written: the session in which its runs are driven."""

    variant: Variant
    session: WorkspaceSession = field(repr=False)


def store_variant(session: WorkspaceSession, agent: str, changes: Changes, objects: Objects) -> Variant:
    """Check the definition with these changes, and store its files.

    Raises:
        UsageError: a file or a folder of the changes is missing.
        WorkspaceError: the definition is not valid.
    """
    files = changes.apply(session.workspace, agent)
    workspace = _loaded(files)
    return Variant(
        name=", ".join(changes.lines) or ON_DISK,
        model=workspace.agents[agent].model,
        bundle=objects.put_bundle(files),
        agent_digest=agent_digest(workspace.agents[agent]),
        policy_digest=load_policy(workspace.files, vocabulary(workspace)).digest,
        changes=changes.lines,
    )


def agent_digest(agent: Agent) -> str:
    """The digest of what `agent.toml` and its prompt say: it stays the same when other parts of the workspace change."""
    return digest(agent.model_dump(mode="json", exclude_defaults=True))


def open_definition(session: WorkspaceSession, variant: Variant, objects: Objects, folder: Path) -> Definition:
    """Write the definition of a variant as the new folder `folder`, and load it. Its runs are recorded in the workspace of `session`.

    Raises:
        UsageError: a file of it is missing in the object store.
        WorkspaceError: with every problem of every file.
    """
    files = objects.get_bundle(variant.bundle)
    write_files(files, folder)
    workspace = replace(_loaded(files), root=folder)
    policy = load_policy(workspace.files, vocabulary(workspace))
    opened = WorkspaceSession(workspace=workspace, policy=policy, journal=session.journal, root=session.root)
    return Definition(variant=variant, session=opened)


def _loaded(files: Files) -> Workspace:
    """The workspace of a definition, without its folder."""
    code: dict[str, dict[str, bytes]] = {
        path.split("/")[1]: {} for path in files if path.startswith("tools/") and path.endswith("/tool.toml")
    }
    read: dict[str, bytes] = {}
    for path, data in files.items():
        area, _, rest = path.partition("/")
        tool, _, name = rest.partition("/")
        if area == "tools" and tool in code and name != "tool.toml":
            code[tool][name] = data
        elif not is_cases(path):
            read[path] = data
    return load_files(read, root=None, code={tool: code_digest(its) for tool, its in code.items()})


def _with_policy(files: Files, folder: Path) -> dict[str, bytes]:
    folder = folder / "policies" if (folder / MARKER).is_file() else folder
    if not folder.is_dir():
        raise UsageError(f"there is no policy folder {str(folder)!r}: name a workspace, or its folder `policies`")
    kept = {path: data for path, data in files.items() if not is_rules(path) and not is_cases(path)}
    return {**kept, **read_folder(folder), **_cases(folder)}


def _with_tools(files: Files, folder: Path) -> dict[str, bytes]:
    if folder.name != "tools" or not (folder.parent / MARKER).is_file():
        raise UsageError(
            f"{str(folder)!r} is not the folder `tools` of a workspace: its pins are in `policies` beside it"
        )
    other = _files(load_workspace(folder.parent.resolve()))
    kept = {path: data for path, data in files.items() if not path.startswith("tools/") and path != LOCK}
    return kept | {path: data for path, data in other.items() if path.startswith("tools/") or path == LOCK}


def _files(workspace: Workspace) -> dict[str, bytes]:
    """Every file of the definition of a workspace on disk, with its policy cases: rules are checked with them."""
    assert workspace.root is not None
    return files_of_definition(workspace) | _cases(workspace.root / "policies")


def _script(workspace: Workspace, agent: str, model: str) -> dict[str, bytes]:
    """The file of a scripted model, beside agent.toml; of another model, none."""
    kind, _, script = model.partition(":")
    path = f"agent/{agent}/{script}"
    assert workspace.root is not None
    return {path: read_file(workspace.root / path, file=path)} if kind == "script" else {}


def _cases(folder: Path) -> dict[str, bytes]:
    return {table.file: table.text.encode() for table in read_case_tables(folder) if table.text}


def _toml(value: Any) -> str:
    """A value as TOML in one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(_toml, cast('Sequence[Any]', value)))}]"
        case dict():
            pairs = cast("dict[str, Any]", value).items()
            return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in pairs)}}}"
        case _:
            return str(value)
