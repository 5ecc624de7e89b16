"""Permission settings of Claude Code (`settings.json`) as rules of one agent.

Source: https://docs.claude.com/en/docs/claude-code/settings (permissions allow, ask, deny). A denial wins over a question, and a question
over a permission; so a question becomes a rule that asks, and one that denies until a person has approved.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from remit.analysis.importing.names import checked_pattern
from remit.analysis.importing.outcome import LONGEST, MOST_ROWS, Imported, ImportedRow, Unreadable, allow_row, deny_row
from remit.core import Json, UsageError
from remit.core.parsing import load_json
from remit.policy.language import ROLE

List: TypeAlias = Literal["allow", "ask", "deny"]

_LISTS: Final[tuple[List, ...]] = ("deny", "ask", "allow")
_RULE: Final = re.compile(r"([A-Za-z0-9_.*-]+)(?:\((.*)\))?", re.ASCII | re.DOTALL)
_MCP: Final = re.compile(r"mcp__([a-z][a-z0-9_]{0,30}?)(?:__(\*|[a-z][a-z0-9_]{0,30}))?", re.ASCII)
_WILDCARD: Final = re.compile(r"[*?\[\]{}!\\]|^\.\.$")
_SERVER: Final = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)
_AROUND: Final = ("hooks", "sandbox")  # settings beside the permissions that may refuse a call
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.ASCII)
_READS: Final = ("files.read", "files.list", "files.search")  # what a denied Read must not reach by another way
_FILES: Final[Mapping[str, str]] = {
    "Read": "files.read",
    "Edit": "files.write",
    "Write": "files.write",
    "MultiEdit": "files.write",
    "NotebookEdit": "files.write",
    "Glob": "files.list",
    "LS": "files.list",
    "Grep": "files.search",
}


@dataclass(frozen=True, kw_only=True)
class _Meaning:
    """What a rule is about: actions and patterns, and what is not exact about it. `denied` are the actions, if it denies or asks."""

    actions: Sequence[str]
    patterns: Sequence[str]
    loose: str = ""
    denied: Sequence[str] = field(default_factory=tuple[str, ...])


def import_claude_code(
    text: str,
    *,
    file: str = "settings.json",
    agent: str = "agent:claude",
    approver: str = "role:approver",
    project: Path | None = None,
) -> Imported:
    """The rules that stand for the permissions in the text of a settings file, for that agent.

    `project` is the folder that the settings are for. Without it, a denial of a path outside denies every file: it may be one above.

    A rule for a shell line has no counterpart: a program is a tool of its own here, with arguments that rules can read.

    Raises:
        UsageError: the text is not such a file, or `approver` is not a role.
    """
    if not ROLE.fullmatch(approver):
        raise UsageError(f"{approver!r} is not a role: write role:<name>")
    if len(text) > MOST_ROWS * 100:
        raise UsageError("the settings are too large")
    try:
        settings = load_json(text)
    except ValueError as problem:
        raise UsageError(f"{file} is not JSON: {problem}") from None
    settings = cast("dict[str, Json]", settings) if isinstance(settings, dict) else {}
    permissions = settings.get("permissions")
    if not isinstance(permissions, dict):
        raise UsageError(f"{file} has no permissions; write {{'permissions': {{'allow': […]}}}}")
    given = cast("dict[str, Json]", permissions)
    around = [_not_imported(key, value) for key, value in settings.items() if key in _AROUND and value]
    found = [*_rules(given, _Writer(agent=agent, approver=approver, project=project)), *_others(given), *around]
    if len(found) > MOST_ROWS:
        raise UsageError(f"{file} has more than {MOST_ROWS} permissions")
    lines = _lines_of(text)
    return Imported(file=file, rows=tuple(replace(row, line=lines.get(_key(row.text), 1)) for row in found))


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """For whom the rules are, who approves, and the folder of the settings."""

    agent: str
    approver: str
    project: Path | None


def _rules(permissions: Mapping[str, Json], writer: _Writer) -> Iterator[ImportedRow]:
    for name in _LISTS:
        entries = permissions.get(name, [])
        if not isinstance(entries, list):
            raise UsageError(f"permissions.{name} is not a list")
        for entry in cast("Sequence[object]", entries):
            if not isinstance(entry, str) or len(entry) > LONGEST:
                raise UsageError(f"permissions.{name} has an entry that is not a rule: {str(entry)[:100]!r}")
            yield _row(name, entry, writer)


def _row(name: List, entry: str, writer: _Writer) -> ImportedRow:
    text, agent, approver = f"{name} {entry}", writer.agent, writer.approver
    try:
        meaning = _meaning(entry, narrow=name == "allow", project=writer.project)
    except Unreadable as problem:
        return ImportedRow(line=0, text=text, status="refused", why=str(problem))
    approved = f"approved('{approver}')"
    # A question about more than the settings ask allows nothing of its own.
    allows = {"allow": "True", "ask": "" if meaning.loose else approved}.get(name)
    denies = {"deny": "True", "ask": f"not {approved}"}.get(name)
    denied = meaning.denied or meaning.actions
    rules = [
        *(allow_row(agent, one, to, allows) for one in meaning.actions for to in meaning.patterns if allows),
        *(deny_row(agent, one, to, denies) for one in denied for to in meaning.patterns if denies),
    ]
    if name == "ask":
        loose = f"{meaning.loose}, and allows none: " if meaning.loose else ""
        why = f"{loose}a person with {approver} approves"
        return ImportedRow(line=0, text=text, status="asks", why=why, rules=tuple(rules))
    status: Literal["kept", "narrowed"] = "narrowed" if meaning.loose else "kept"
    return ImportedRow(line=0, text=text, status=status, why=meaning.loose, rules=tuple(rules))


def _others(permissions: Mapping[str, Json]) -> Iterator[ImportedRow]:
    """Every other setting: none of them allows anything here."""
    for key, value in permissions.items():
        if key in _LISTS or (key, value) == ("defaultMode", "default"):
            continue
        text = f"{key} {json.dumps(value, ensure_ascii=False)[:200]}"
        yield ImportedRow(line=0, text=text, status="refused", why="only rules allow something here")


def _not_imported(key: str, value: Json) -> ImportedRow:
    text = f"{key} {json.dumps(value, ensure_ascii=False)[:200]}"
    why = "it may refuse calls, and has no counterpart: write a rule for what it refuses"
    return ImportedRow(line=0, text=text, status="refused", why=why)


def _key(text: str) -> str:
    """The text of the file that a row is about: the rule, or the name of another setting."""
    first, _, rest = text.partition(" ")
    return rest if first in _LISTS else first


def _lines_of(text: str) -> dict[str, int]:
    """For each JSON text of the file, the line on which it first stands."""
    found: dict[str, int] = {}
    line, at = 1, 0
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"', text):
        line += text.count("\n", at, match.start())
        at = match.start()
        found.setdefault(match[1], line)
    return found


def _meaning(entry: str, *, narrow: bool, project: Path | None) -> _Meaning:
    match = _RULE.fullmatch(entry)
    if match is None:
        raise Unreadable("it is not a rule: write Tool or Tool(what)")
    tool, what = match[1], match[2]
    if tool in _FILES:
        return _files(tool, what, narrow=narrow, project=project)
    if tool == "WebFetch":
        return _web(what, narrow=narrow)
    if tool.startswith("mcp__") or "*" in tool:
        return _mcp(tool, what, narrow=narrow)
    if tool == "Bash":
        raise Unreadable("a shell line is not an action here: wrap the program as a tool, and allow its actions")
    raise Unreadable(f"{tool} has no counterpart: no rule allows it")


def _mcp(tool: str, what: str | None, *, narrow: bool) -> _Meaning:
    """A tool of a server, or all of them. What is not named exactly is denied with the other tools of its server."""
    named = _MCP.fullmatch(tool)
    if named is not None and what is None:
        return _Meaning(actions=[f"{named[1]}.{named[2] or '*'}"], patterns=["**"])
    server = tool.removeprefix("mcp__").partition("__")[0] if tool.startswith("mcp__") else "*"
    if narrow or not ("*" in server or _SERVER.fullmatch(server)):
        raise Unreadable("no tool here has such a name: write mcp__SERVER or mcp__SERVER__TOOL, in lower case")
    if "*" in server:
        return _Meaning(actions=["*"], patterns=["**"], loose="it is for every action here")
    return _Meaning(actions=[f"{server}.*"], patterns=["**"], loose=f"it is for every tool of {server} here")


def _files(tool: str, what: str | None, *, narrow: bool, project: Path | None) -> _Meaning:
    action = _FILES[tool]
    denied = _READS if tool == "Read" else ()
    if what is None:
        loose = "files of the workspace only" if narrow else ""
        return _Meaning(actions=[action], patterns=["file:**"], loose=loose, denied=denied)
    if what.startswith(("//", "~")):
        if narrow or not _may_reach(what, project):
            raise Unreadable("it is outside of the workspace, where no file can be named")
        loose = "it is for every file here: the workspace may be below that path"
        return _Meaning(actions=[action], patterns=["file:**"], loose=loose, denied=denied)
    try:
        patterns = list(dict.fromkeys(checked_pattern(f"file:{one}") for one in _patterns(what, narrow=narrow)))
        loose = ""
    except Unreadable as problem:
        if narrow:
            raise
        patterns, loose = ["file:**"], f"it denies every file: {problem}"
    if narrow and tool == "Read":
        loose = "it is for files.read only; folders are listed and searched by rules of their own"
    if narrow and "/" not in what:
        loose = loose or "it is for this folder only"
    return _Meaning(actions=[action], patterns=patterns, loose=loose, denied=denied)


def _may_reach(what: str, project: Path | None) -> bool:
    """True if a path outside of the project may be one above, or in it: it is read up to its first wildcard."""
    if project is None or not what.startswith(("//", "~/")):
        return True
    path = Path(what[1:]) if what.startswith("//") else Path.home() / what[2:]
    parts = list(takewhile(lambda part: not _WILDCARD.search(part), path.parts))
    below = Path(*parts)
    pairs = [(below, project), (Path(os.path.realpath(below)), Path(os.path.realpath(project)))]
    return any(one.is_relative_to(two) or two.is_relative_to(one) for one, two in pairs)


def _patterns(what: str, *, narrow: bool) -> list[str]:
    """The paths of a rule, which are written as in .gitignore; if not `narrow`, all that it may mean."""
    path = what.removeprefix("./").removeprefix("/")
    if what.startswith("!") or any(character in what for character in "?[]{}\\"):
        raise Unreadable(f"{what!r} has wildcards other than * and **")
    if path.endswith("/"):
        path += "**"
    below = [path] if path.endswith("**") else [path, f"{path}/**"]
    if narrow:
        return [path]
    if "/" in what.removesuffix("/"):
        return below
    return below if path.startswith("**") else [f"**/{one}" for one in below]


def _web(what: str | None, *, narrow: bool) -> _Meaning:
    action = "http.get" if narrow else "http.*"
    if what is None:
        loose = "by https only" if narrow else ""
        return _Meaning(
            actions=[action], patterns=["https://**"] if narrow else ["https://**", "http://**"], loose=loose
        )
    host = what.removeprefix("domain:").lower()
    if not what.startswith("domain:") or not _HOST.fullmatch(host):
        if narrow:
            raise Unreadable(f"{what!r} is not domain:HOST")
        return _Meaning(actions=[action], patterns=["https://**", "http://**"], loose="it denies every host")
    if narrow:
        return _Meaning(actions=[action], patterns=[f"https://{host}/**"], loose="by https only, at the usual port")
    hosts = (host, f"*.{host.removeprefix('*.')}")
    patterns = [f"{scheme}://{one}{port}/**" for scheme in ("https", "http") for one in hosts for port in ("", ":*")]
    return _Meaning(actions=[action], patterns=[*dict.fromkeys(patterns)])
