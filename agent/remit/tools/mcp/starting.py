"""From the command line of an MCP server, as its documentation gives it, to the files of a tool that start it from locked packages.

uvx mcp-server-time                                         main.py with the package in its `# /// script` block
npx -y @modelcontextprotocol/server-filesystem FOLDER       package.json with the package
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from remit.core import Json, Refusal, UsageError
from remit.core.parsing import parse_json, read_text
from remit.sandbox.packages import Environment, lock_environment, make_environment

FILES: Final = "{files}"
_PYTHON: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:@|==)?([A-Za-z0-9.+!-]*)")
_NODE: Final = re.compile(r"((?:@[a-z0-9._~-]+/)?[a-z0-9._~-]+)(?:@([A-Za-z0-9.^~+-]+))?")
_ENTRY: Final = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_SHOWN: Final = "uvx PACKAGE [ARGUMENT…] or npx PACKAGE [ARGUMENT…]"


@dataclass(frozen=True, kw_only=True)
class Started:
    """What starts a server: `texts` are files of the tool, `command` is that of `[server]`, `programs` and `env` are what it needs."""

    package: str
    texts: Mapping[str, str]
    command: tuple[str, ...]
    programs: tuple[str, ...] = ()
    node: bool = False
    env: Mapping[str, str] = field(default_factory=dict[str, str])


def started(words: Sequence[str], folder: Path) -> Started:
    """Write what declares the package into the folder, lock it, install it, and find what starts the server.

    Raises:
        UsageError: the command line is none of these.
        WorkspaceError: there is no such package, or no wheel of it.
        RunEnded: `sandbox_unavailable`: uv or npm is missing, or no index answers.
    """
    first, *rest = words or [""]
    if first not in ("uvx", "npx"):
        raise UsageError(f"{first!r} does not start a server from a package: write {_SHOWN}")
    more: list[str] = []
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag == "--with" and first == "uvx" and rest:
            more.append(rest.pop(0))
        elif flag not in ("-y", "--yes", "--"):
            raise UsageError(f"the option {flag!r} of {first} is not known here: write {_SHOWN}")
    if not rest:
        raise UsageError(f"{first} names no package: write {_SHOWN}")
    package, *arguments = rest
    placed = [FILES if argument == "." else argument for argument in arguments]
    return _python(package, more, placed, folder) if first == "uvx" else _node(package, placed, folder)


def name_of_server(words: Sequence[str]) -> str:
    """A name for the tool of that server, from its package or host: `time` of `mcp-server-time`; `server` if nothing of it is left."""
    if words and "://" in words[0]:
        return name_of_server(("", (urlsplit(words[0]).hostname or "").removeprefix("www.").replace(".", "-")))
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] == "--with" else 1]
    scope, _, own = (rest[0] if rest else "").lower().removeprefix("@").rpartition("/")
    for part in (re.split(r"@|==", own)[0], scope):
        kept = [word for word in re.split(r"[^a-z0-9]+", part) if word not in ("", "mcp", "server")]
        if kept and kept[0][0].isalpha():
            return "_".join(kept)[:31].strip("_")
    return "server"


def _environment(folder: Path) -> Environment:
    lock_environment(folder)
    made = make_environment(folder)
    assert made is not None  # the folder declares a package
    return made


def _python(package: str, more: Sequence[str], arguments: Sequence[str], folder: Path) -> Started:
    match = _PYTHON.fullmatch(package)
    if match is None:
        raise UsageError(f"{package!r} is not the name of a package")
    name, version = match[1], match[2]
    required = [f"{name}=={version}" if version and version != "latest" else name, *more]
    head = f'# /// script\n# requires-python = ">=3.11"\n# dependencies = {json.dumps(required)}\n# ///\n'
    (folder / "main.py").write_text(head, encoding="utf-8")
    module, function = _entry(name, Path(_environment(folder).site))
    text = (
        f'{head}"""Starts the MCP server of the package {name}."""\n\nfrom {module} import {function}\n\n{function}()\n'
    )
    (folder / "main.py").write_text(text, encoding="utf-8")
    lock = (folder / "main.py.lock").read_text(encoding="utf-8")
    command = ("python", "./main.py", *arguments)
    return Started(package=name, texts={"main.py": text, "main.py.lock": lock}, command=command)


def _entry(name: str, site: Path) -> tuple[str, str]:
    """The module and the function of the script that a Python package installs."""
    searched = re.sub(r"[-_.]+", "_", name).lower()
    found = [path for path in site.glob("*.dist-info") if path.name.lower().startswith(f"{searched}-")]
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    if found and (found[0] / "entry_points.txt").is_file():
        parser.read_string(read_text(found[0] / "entry_points.txt", file="entry_points.txt"))
    scripts = dict(parser["console_scripts"]) if "console_scripts" in parser else {}
    chosen = scripts.get(name.lower()) or (next(iter(scripts.values())) if len(scripts) == 1 else "")
    entry = _ENTRY.fullmatch(chosen.strip())
    if entry is None:
        raise UsageError(
            f"the package {name!r} has no script that starts a server: write main.py and tool.toml yourself"
        )
    return entry[1], entry[2]


def _node(package: str, arguments: Sequence[str], folder: Path) -> Started:
    match = _NODE.fullmatch(package)
    if match is None:
        raise UsageError(f"{package!r} is not the name of a package")
    name, version = match[1], match[2] or "latest"
    declared = json.dumps({"private": True, "dependencies": {name: version}}, indent=2) + "\n"
    (folder / "package.json").write_text(declared, encoding="utf-8")
    site = Path(_environment(folder).site)
    lock = (folder / "package-lock.json").read_text(encoding="utf-8")
    command = ("node", f"{{packages}}/node_modules/{name}/{_bin(name, site)}", *arguments)
    texts = {"package.json": declared, "package-lock.json": lock}
    return Started(package=name, texts=texts, command=command, programs=("node",), node=True)


def _bin(name: str, site: Path) -> str:
    """The file of the script that a Node package installs, relative to the package."""
    try:
        described: Json = parse_json(read_text(site / "node_modules" / name / "package.json", file="package.json"))
        bins = cast("Mapping[str, Json]", described).get("bin")
    except Refusal:
        bins = None
    if isinstance(bins, dict):
        scripts = cast("dict[str, Json]", bins)
        bins = scripts.get(name.rpartition("/")[2]) or (next(iter(scripts.values())) if scripts else None)
    if not isinstance(bins, str) or ".." in bins.split("/"):
        raise UsageError(
            f"the package {name!r} has no script that starts a server: write package.json and tool.toml yourself"
        )
    return bins.removeprefix("./")
