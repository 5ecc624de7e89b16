"""Finds what tool.toml grants and no call can have: programs that are not installed, secrets without a value, ceilings that nothing uses."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator

from remit.core import Finding, Level, UsageError, WorkspaceError
from remit.core.parsing import toml_line
from remit.guardrails import Secrets
from remit.sandbox.packages import find_environment
from remit.tools.source_check import MAIN
from remit.workspace import Workspace
from remit.workspace.manifest import Manifest


def check_grants(workspace: Workspace, name: str) -> Iterator[Finding]:
    """The findings about the manifest of a tool, beside those that keep it from loading."""
    manifest = workspace.tools[name].manifest
    file = f"tools/{name}/tool.toml"
    text = workspace.files[file].decode()

    def finding(level: Level, at: tuple[str, ...], what: str, fix: str) -> Finding:
        return Finding(level=level, code="grant", file=file, line=toml_line(text, *at), what=what, fix=fix)

    for number, program in enumerate(manifest.programs):
        if shutil.which(program) is None:
            what = f"the program {program!r} is not installed here, so each call that starts it fails"
            yield finding("warning", ("always", "programs", str(number)), what, "install it, or correct its name")
    for number, variable in enumerate(manifest.env):
        if variable not in os.environ:
            what = f"the variable {variable} is not set here, so the tool does not get it"
            yield finding("note", ("always", "env", str(number)), what, "set it where Remit runs, or remove the line")
    for secret in _unset(workspace, manifest):
        what = f"the secret {secret!r} has no value here, so no agent with this tool starts"
        yield finding("note", ("always", "secrets"), what, f"run `remit secret set {secret}`")
    yield from (
        finding(
            "note", ("at_most", key), f"no action uses 'at_most.{key}'", "remove it, or write what uses it in touches"
        )
        for key in _unused(manifest)
    )


def check_packages(workspace: Workspace, name: str) -> Iterator[Finding]:
    """The findings about the files of a tool: its main.py, and the lock of its packages."""
    manifest, folder = workspace.tools[name].manifest, workspace.code(name)
    if manifest.source == "host" and not _importable(workspace, module := manifest.host.partition(":")[0]):
        what, fix = f"there is no module {module!r} for it", f"write {module.partition('.')[0]}.py beside remit.toml"
        yield Finding(level="warning", code="source", file=f"tools/{name}/tool.toml", what=what, fix=fix)
    if manifest.source != "python" or not manifest.actions:
        return
    if not (folder / MAIN).is_file():
        what, fix = (
            f"tool {name!r} has no {MAIN}",
            f"write def {next(iter(manifest.actions))}(…) in tools/{name}/{MAIN}",
        )
        yield Finding(level="error", code="source", file=f"tools/{name}/{MAIN}", what=what, fix=fix)
        return
    try:
        find_environment(folder)
    except WorkspaceError as error:
        for one in error.problems:
            yield Finding(level="error", code="source", file=one.file, line=one.line, what=one.what, fix=one.fix or "")


def _importable(workspace: Workspace, module: str) -> bool:
    """True if the module, or the package that it is in, is in the workspace or installed; nothing is imported."""
    assert workspace.root is not None
    first = module.partition(".")[0]
    if (workspace.root / first).is_dir() or (workspace.root / f"{first}.py").is_file():
        return True
    try:
        return importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False


def _unset(workspace: Workspace, manifest: Manifest) -> list[str]:
    assert workspace.root is not None
    try:
        kept = Secrets(workspace.root, workspace.settings.secrets)
        return [
            name for name in manifest.secrets if name not in manifest.own_secrets and kept.source(name) == "missing"
        ]
    except UsageError:  # a store that cannot be read is reported by the commands that need it
        return []


def _unused(manifest: Manifest) -> Iterator[str]:
    """The keys of `[at_most]` that have lines, and that no action's touches can use; none while an action is not decided."""
    if manifest.undecided:
        return
    touched = {(one.kind, one.access) for action in manifest.actions.values() for one in action.templates}
    if manifest.read and ("file", "read") not in touched:
        yield "read"
    if manifest.write and ("file", "write") not in touched:
        yield "write"
    if manifest.stores and not any(kind == "store" for kind, _ in touched):
        yield "stores"
    if manifest.url_hosts and not any(action.methods for action in manifest.actions.values()):
        yield "hosts"
