"""What a tool's `main.py` asks for (PEP 723), and what its lock holds. Read strictly: nothing is run to find out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from remit.core import Json, Problem, WorkspaceError
from remit.core.parsing import load_toml, read_file

SCRIPT: Final = "main.py"
LOCK: Final = "main.py.lock"
OLDEST_PYDANTIC: Final = "2.12"  # a tool's types are read with its own pydantic where it has one

_BEGIN: Final = "# /// script"
_END: Final = "# ///"
# Settings of uv that say where packages come from and which; those that write, run or build something are not among them.
_SETTINGS: Final = frozenset(
    (
        *("index", "index-url", "extra-index-url", "index-strategy", "sources"),
        *("environments", "required-environments", "prerelease", "resolution", "fork-strategy", "exclude-newer"),
        *("constraint-dependencies", "override-dependencies", "exclude-dependencies"),
    )
)
_ORIGINS: Final = ("registry", "url")


@dataclass(frozen=True, kw_only=True)
class DeclaredPackages:
    """What one tool asks for; `line` is where it does, in main.py."""

    tool: str
    line: int | None = None
    dependencies: tuple[str, ...] = ()

    def error(self, what: str, fix: str) -> WorkspaceError:
        return WorkspaceError([Problem(file=f"tools/{self.tool}/{SCRIPT}", line=self.line, what=what, fix=fix)])


def declared_packages(code: Path) -> DeclaredPackages:
    """The one block of main.py, read strictly."""
    nothing = DeclaredPackages(tool=code.name)
    if not (code / SCRIPT).exists():  # a command tool has none
        return nothing
    try:
        text = read_file(code / SCRIPT, file=f"tools/{code.name}/{SCRIPT}").decode().replace("\r\n", "\n")
    except UnicodeDecodeError:  # such bytes do not import either
        return nothing
    blocks = _blocks(text)
    if not blocks:
        return nothing
    declared = DeclaredPackages(tool=code.name, line=blocks[0][0])
    if len(blocks) > 1:
        raise declared.error("it has two `# /// script` blocks", "keep one")
    try:
        table: Json = load_toml(blocks[0][1], file=SCRIPT)
    except WorkspaceError as failure:
        raise declared.error(f"its `# /// script` block: {failure.problems[0].what}", "correct it") from failure
    _check_settings(declared, table)
    return DeclaredPackages(tool=declared.tool, line=declared.line, dependencies=_dependencies(declared, table))


def _dependencies(declared: DeclaredPackages, table: Mapping[str, Json]) -> tuple[str, ...]:
    value = table.get("dependencies", [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in cast("list[object]", value)):
        raise declared.error("'dependencies' is no list of texts", 'write dependencies = ["pandas>=2"]')
    python = table.get("requires-python", "")
    try:
        fits = isinstance(python, str) and SpecifierSet(python).contains(_python_version(), prereleases=True)
    except InvalidSpecifier as failure:
        raise declared.error("'requires-python' cannot be read", 'write requires-python = ">=3.11"') from failure
    if not fits:
        what = f"it needs Python {python}, and Remit runs tools with {_python_version()}"
        raise declared.error(what, "run Remit with that Python, or change requires-python")
    return tuple(cast("list[str]", value))


def _check_settings(declared: DeclaredPackages, table: Mapping[str, Json]) -> None:
    tools: Json = table.get("tool", {})
    settings: Json = cast("Mapping[str, Json]", tools).get("uv", {}) if isinstance(tools, dict) else None
    if not isinstance(settings, dict):
        raise declared.error("[tool.uv] is no table", "write [tool.uv] on a line of its own, or remove it")
    if unknown := sorted(set(cast("Mapping[str, Json]", settings)) - _SETTINGS):
        raise declared.error(
            f"[tool.uv] sets {', '.join(unknown)}, which a tool may not",
            f"remove it; it may set {', '.join(sorted(_SETTINGS))}",
        )


def _blocks(text: str) -> list[tuple[int, str]]:
    """The line and the TOML of each block. What PEP 723 says a block is, and nothing looser: two readers must not see two lists.

    A block ends at the last `# ///` of the comment lines that follow its beginning; each line is looked at once.
    """
    lines, found, at = text.split("\n"), list[tuple[int, str]](), 0
    while at < len(lines):
        if lines[at] != _BEGIN:
            at += 1
            continue
        after, end = at + 1, 0
        while after < len(lines) and (lines[after] == "#" or lines[after].startswith("# ")):
            if lines[after] == _END and after > at + 1:
                end = after
            after += 1
        if end:
            found.append((at + 1, "".join(f"{line[2:]}\n" for line in lines[at + 1 : end])))
        at = end + 1 if end else after
    return found


def locked_versions(code: Path, data: bytes) -> dict[str, str]:
    """The versions by name, where every file of every package is held by its hash and none is somebody's folder."""
    declared = DeclaredPackages(tool=code.name)
    try:
        packages = cast("list[dict[str, Json]]", load_toml(data.decode(), file=LOCK)["package"])
        versions: dict[str, str] = {}
        for package in packages:
            name, version = package["name"], package["version"]
            if not set(package["source"]) & set(_ORIGINS):
                what = f"{LOCK} takes {name!r} from {next(iter(package['source']))!r}, which is no wheel"
                raise declared.error(what, "name a released version in dependencies")
            if not all("hash" in wheel for wheel in package.get("wheels", [])):
                raise declared.error(f"{LOCK} holds {name!r} by no hash", "take it from an index that gives hashes")
            if name == "pydantic" and Version(version) < Version(OLDEST_PYDANTIC):
                what = f"{LOCK} holds pydantic {version}, too old to read a tool's types with"
                raise declared.error(what, f'write "pydantic>={OLDEST_PYDANTIC}" in dependencies')
            # One for each range of Pythons and each system that it was locked for.
            versions[name] = f"{versions[name]} or {version}" if name in versions else version
    except (WorkspaceError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as failure:
        if isinstance(failure, WorkspaceError) and failure.problems[0].file != LOCK:
            raise  # what is wrong with it is output already
        raise declared.error(f"{LOCK} cannot be read", f"remove it and run `remit tool env {code.name}`") from failure
    return versions


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))
