"""Reads which packages a tool's `main.py` declares (PEP 723), and which its lock file has. No code is run for that."""

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
OLDEST_PYDANTIC: Final = "2.12"  # a tool with a pydantic of its own has its types read with that one

_BEGIN: Final = "# /// script"
_END: Final = "# ///"
# The settings of uv that a tool may use: they choose packages and their sources. None of them writes, runs or builds
# anything.
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
    """The packages that one tool declares; `line` is the line of the declaration in main.py."""

    tool: str
    line: int | None = None
    dependencies: tuple[str, ...] = ()

    def error(self, what: str, fix: str) -> WorkspaceError:
        """A problem with the declaration, at its line."""
        return WorkspaceError([Problem(file=f"tools/{self.tool}/{SCRIPT}", line=self.line, what=what, fix=fix)])


def declared_packages(code: Path) -> DeclaredPackages:
    """The packages that main.py declares in its one `# /// script` block; none if it has no block.

    Raises:
        WorkspaceError: the block cannot be read, or sets what a tool may not.
    """
    nothing = DeclaredPackages(tool=code.name)
    if not (code / SCRIPT).exists():  # a command tool has none
        return nothing
    try:
        text = read_file(code / SCRIPT, file=f"tools/{code.name}/{SCRIPT}").decode().replace("\r\n", "\n")
    except UnicodeDecodeError:  # Python cannot import it either, which is reported elsewhere
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
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[object]", value)):
        raise declared.error("'dependencies' is not a list of strings", 'write dependencies = ["pandas>=2"]')
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
        raise declared.error("[tool.uv] is not a table", "write [tool.uv] on a line of its own, or remove it")
    if unknown := sorted(set(cast("Mapping[str, Json]", settings)) - _SETTINGS):
        raise declared.error(
            f"[tool.uv] sets {', '.join(unknown)}, which a tool may not",
            f"remove it; it may set {', '.join(sorted(_SETTINGS))}",
        )


def _blocks(text: str) -> list[tuple[int, str]]:
    """The line and the TOML of each block, exactly as PEP 723 defines it: uv and Remit must read the same list.

    A block ends at the last `# ///` in the comment lines after its beginning. Each line is read once, so the time is
    linear.
    """
    lines, blocks, at = text.split("\n"), list[tuple[int, str]](), 0
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
            blocks.append((at + 1, "".join(f"{line[2:]}\n" for line in lines[at + 1 : end])))
        at = end + 1 if end else after
    return blocks


def locked_versions(code: Path, data: bytes) -> dict[str, str]:
    """The locked versions by name.

    Raises:
        WorkspaceError: a file of a package has no hash, or a package does not come from a registry or a URL.
    """
    declared = DeclaredPackages(tool=code.name)
    try:
        packages = cast("list[dict[str, Json]]", load_toml(data.decode(), file=LOCK)["package"])
        versions: dict[str, str] = {}
        for package in packages:
            name, version = package["name"], package["version"]
            if not set(package["source"]) & set(_ORIGINS):
                what = f"{LOCK} takes {name!r} from {next(iter(package['source']))!r}, which is not a wheel"
                raise declared.error(what, "name a released version in dependencies")
            if not all("hash" in wheel for wheel in package.get("wheels", [])):
                raise declared.error(f"{LOCK} has no hash for {name!r}", "take it from an index that has hashes")
            if name == "pydantic" and Version(version) < Version(OLDEST_PYDANTIC):
                what = f"{LOCK} has pydantic {version}, which is too old to read a tool's types"
                raise declared.error(what, f'write "pydantic>={OLDEST_PYDANTIC}" in dependencies')
            # A lock for several systems or ranges of Python can have several versions of one package.
            versions[name] = f"{versions[name]} or {version}" if name in versions else version
    except (WorkspaceError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as failure:
        if isinstance(failure, WorkspaceError) and failure.problems[0].file != LOCK:
            raise  # this problem already names the package
        raise declared.error(
            f"{LOCK} cannot be read", f"remove {LOCK} and run `remit tool env {code.name}`"
        ) from failure
    return versions


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))
