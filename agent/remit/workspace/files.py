"""The files of a workspace on disk: finds and reads them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from remit.core import Problem, UsageError, WorkspaceError
from remit.core.parsing import load_toml, read_file
from remit.policy import rule_files, unread_files
from remit.workspace.definitions import RESERVED, graph_file
from remit.workspace.file_schema import MARKER, plain_path
from remit.workspace.manifest.manifest import code_digest, is_code

_BESIDE_RULES = re.compile(r"policies/tools\.lock|policies/(?:limits|prices|content|labels)\.toml")


def find_workspace(start: Path) -> Path:
    """The workspace of the folder `start`: the nearest folder at or above it with a `remit.toml`. Raises UsageError without one."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return folder
    raise UsageError(f"no {MARKER} in {str(here)!r} or above it; create a workspace with `remit init`")


def read_code(folder: Path) -> dict[str, bytes]:
    """The files of a tool's folder that `code_digest` covers, by path relative to it.

    Raises:
        WorkspaceError: the folder has a symbolic link. Its target could change without a change of the folder, so the
            digest would not cover what runs.
    """
    files: dict[str, bytes] = {}
    links: list[Problem] = []
    for name, entry in _below(str(folder)):
        if not is_code(name):
            continue
        if entry.is_symlink():
            what, fix = "a symbolic link in the folder of a tool", "replace it by a copy of the file"
            links.append(Problem(file=f"tools/{folder.name}/{name}", what=what, fix=fix))
        elif entry.is_file():
            with open(entry.path, "rb") as file:
                files[name] = file.read()
    if links:
        raise WorkspaceError(links)
    return files


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a folder, by their paths in it. Raises OSError."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def whole_folder(folder: Path, files: Mapping[str, bytes], *, what: str) -> Path:
    """The folder, whose name is a digest of these files. It appears whole, also if two processes write it at once, and never changes.

    Raises:
        UsageError: it cannot be written; `what` says what is in it.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as place:
            making = Path(place) / folder.name
            write_files(files, making)
            with suppress(OSError):  # another process was first, and its folder has the same files
                making.rename(folder)
    except OSError as failure:
        below = f"{what} cannot be written below {str(folder.parent)!r}: {failure.strerror}"
        raise UsageError(f"{below}; free disk space, or restore write permission") from failure
    return folder


def _below(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below the folder that can be listed, by its path there. Each call reads the code of its tool: `Path` is slower."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield f"{prefix}{entry.name}", entry
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{prefix}{entry.name}/")


def stamp_of(root: Path) -> tuple[object, ...]:
    """What changes when a file of the definition does. It includes the change time (ctime), which no program can set back."""
    found: list[object] = [_stamp(root / MARKER)]
    for area in ("policies", "tools", "agent"):
        for name, entry in _below(str(root / area)):
            if not (area == "agent" and name.split("/")[0] == RESERVED) and "__pycache__" not in name:
                found.append((area, name, _stamp(entry.path)))
    return tuple(found)


def _stamp(path: Path | str) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class WorkspaceFiles:
    """The live files of a workspace, and the problems of reading them. `code` is the digest of each tool's code."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files: dict[str, bytes] = {}
        self.code: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._read(MARKER)
        self.problems.extend(unread_files(root / "policies"))
        for path in self._children("policies"):
            if _BESIDE_RULES.fullmatch(name := f"policies/{path.name}"):
                self._read(name)
        for name, _ in rule_files(root / "policies") if (root / "policies").is_dir() else ():
            self._read(name)
        for path in self._children("tools"):
            if path.is_dir() and self._has_marker(path, "tool.toml"):
                self._read(f"tools/{path.name}/tool.toml")
                self._read_code(path)
        for path in self._children("agent"):
            if path.is_dir() and path.name != RESERVED and self._has_marker(path, "agent.toml"):
                self._read(f"agent/{path.name}/agent.toml")
                self._read_named(path.name)

    def _children(self, folder: str) -> list[Path]:
        path = self._root / folder
        return sorted(path.iterdir()) if path.is_dir() else []

    def _has_marker(self, folder: Path, marker: str) -> bool:
        """True if the folder has its TOML file. A folder with other files and without that one is a problem."""
        if folder.name.startswith(".") or folder.name == "__pycache__":
            return False
        if (folder / marker).is_file():
            return True
        if any(path.is_file() and is_code(path.relative_to(folder).as_posix()) for path in folder.rglob("*")):
            file = folder.relative_to(self._root).as_posix()
            self.problems.append(
                Problem(
                    file=file, what=f"the folder has no {marker}", fix=f"write {file}/{marker}, or remove the folder"
                )
            )
        return False

    def _read(self, name: str) -> None:
        try:
            self.files[name] = read_file(self._root / name, file=name)
        except WorkspaceError as error:
            self.problems.extend(error.problems)

    def _read_code(self, folder: Path) -> None:
        try:
            self.code[folder.name] = code_digest(read_code(folder))
        except WorkspaceError as error:
            self.problems.extend(error.problems)
        except OSError as failure:
            what = f"its files cannot be read: {failure.strerror}"
            fix = "give your account permission to read them"
            self.problems.append(Problem(file=f"tools/{folder.name}", what=what, fix=fix))

    def _read_named(self, agent: str) -> None:
        """Read the prompt, the schema of the answer, the scripts of models and the graph that agent.toml names.

        `_Loading` reports what is not valid.
        """
        try:
            table: Any = load_toml(self.files[f"agent/{agent}/agent.toml"].decode(), file="")
        except (KeyError, ValueError, WorkspaceError):
            return
        answer, graph = table.get("answer"), table.get("graph")
        schema = cast("Mapping[str, Any]", answer).get("schema") if isinstance(answer, dict) else None
        own: list[Any] = [table.get("prompt"), schema, *_scripts(table)]
        every = [f"agent/{agent}/{named}" for named in own if isinstance(named, str)]
        for named in (*every, *([graph_file(graph)] if isinstance(graph, str) else [])):
            try:
                path = plain_path(named)
            except ValueError:
                continue
            if (self._root / path).is_file():
                self._read(path)


def _scripts(table: Mapping[str, Any]) -> list[str]:
    """The files of the scripted models of an agent: a run that is resumed goes on with the script that it has."""
    several = table.get("models")
    models = [table.get("model"), *(cast("list[object]", several) if isinstance(several, list) else ())]
    return [str(model).removeprefix("script:") for model in models if str(model).startswith("script:")]
