"""`remit tool import mcp`: start a server confined, without network and files, list its tools, and write a manifest for it.

What a server says of itself makes its manifest stricter, never laxer. Whether a name of an argument means a file, and what a text may
do, a person decides: the guess stands on a line that begins with `# decide:`, and an action with such a line does not load.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from remit.core import Json, UsageError
from remit.core.parsing import DEFAULT_PORT, hidden_character
from remit.guardrails import Secrets
from remit.sandbox import Sandbox
from remit.tools.making import check_name, write_tool
from remit.tools.mcp.listing import listed_server
from remit.tools.mcp.starting import Started, started
from remit.workspace.manifest import MARK, ServerPin, parse_manifest

_FILE: Final = re.compile(
    r"(?:.*_)?(?:path|paths|file|files|filename|filepath|dir|directory|folder|source|destination|repo|repository)"
)
_URL: Final = re.compile(r"(?:.*_)?(?:url|uri|link|href)s?")
_FREE: Final = re.compile(r"(?:.*_)?(?:query|sql|code|command|script|function|expression|cmd|statement)")
_ENDS: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_MEMORY: Final = {True: "1GiB", False: "512MiB"}  # Node reserves more than it uses


@dataclass(frozen=True, kw_only=True)
class ImportedServer:
    """The texts of the tool by file, and how many lines a person has to decide."""

    texts: Mapping[str, str]
    actions: int
    undecided: int


async def import_server(
    root: Path,
    name: str,
    words: Sequence[str],
    sandbox: Sandbox,
    *,
    programs: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> ImportedServer:
    """Write the tool NAME for the server that the command line starts. It may start `programs`, and has the variables of `env`.

    Raises:
        UsageError: the name is taken or not valid, or the command line starts no package.
        WorkspaceError: the package cannot be installed, or the server does not start.
        RunEnded: `sandbox_unavailable`.
    """
    check_name(root, name)
    with tempfile.TemporaryDirectory(prefix="remit-import-") as made:
        folder = Path(made, name)
        folder.mkdir()  # noqa: ASYNC240 - nothing else runs in this loop yet
        folder.parent.chmod(0o755)
        found = started(words, folder)
        start = replace(found, programs=(*found.programs, *programs), env=env or {})
        head = _head(name, start)
        alone = parse_manifest(f'{head}[actions.none_yet]\nsummary = "none"\n', file=f"tools/{name}/tool.toml")
        server = await listed_server(folder, alone, sandbox)
    return _written(root, name, manifest_of(name, start, server), start.texts, server)


async def import_remote(root: Path, name: str, place: Elsewhere, sandbox: Sandbox) -> ImportedServer:
    """Write the tool NAME for the server at that place.

    Raises:
        UsageError: the name is taken or not valid, or the value of the secret is not set.
        WorkspaceError: the URL is no plain one, or there is no MCP server.
    """
    check_name(root, name)
    if not urlsplit(place.url).path:
        place = replace(place, url=f"{place.url}/")
    alone = parse_manifest(
        f'{_head(name, place)}[actions.none_yet]\nsummary = "none"\ntouches = ["use mcp:{place.host}"]\n',
        file=f"tools/{name}/tool.toml",
    )
    values = Secrets(root).values(alone.secrets)
    with tempfile.TemporaryDirectory(prefix="remit-import-") as made:
        server = await listed_server(Path(made), alone, sandbox, values)
    return _written(root, name, manifest_of(name, place, server), {}, server)


def _written(root: Path, name: str, text: str, texts: Mapping[str, str], server: ServerPin) -> ImportedServer:
    texts = {"tool.toml": text, **texts}
    write_tool(root, name, texts)
    return ImportedServer(texts=texts, actions=len(server.tools), undecided=text.count(f"\n{MARK}"))


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A server that runs already. `secret` is the name of its token, "" without one; with `per_user`, each user has one of their own.

    `ranges` has its address if that is private.
    """

    url: str
    secret: str = ""
    per_user: bool = False
    ranges: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


def manifest_of(name: str, start: Started | Elsewhere, server: ServerPin) -> str:
    """The text of tool.toml for the tools of that server."""
    host = start.host if isinstance(start, Elsewhere) else ""
    return f"{_head(name, start)}{'' if host else _at_most(server)}{''.join(_actions(server, host))}"


def _head(name: str, start: Started | Elsewhere) -> str:
    package = start.url if isinstance(start, Elsewhere) else start.package
    return (
        f'#:schema ../tool.schema.json\nname = "{name}"\nversion = "0.1.0"\nowner = "you@example.com"\n'
        f'summary = {_quoted(f"The MCP server {package}")}\nsource = "mcp"\n\n[server]\n'
        f"{_remote_head(start) if isinstance(start, Elsewhere) else _local_head(start)}"
    )


def _remote_head(place: Elsewhere) -> str:
    parts = urlsplit(place.url)
    try:
        host = f"{parts.hostname}:{parts.port or DEFAULT_PORT[parts.scheme]}"
    except (KeyError, ValueError):
        raise UsageError(f"{place.url!r} is no URL: write https://mcp.example.com/mcp") from None
    ranges = f"ranges = [{', '.join(map(_quoted, place.ranges))}]\n" if place.ranges else ""
    own = "per_user = true\n" if place.per_user else ""
    secret = (
        f'\n[[always.secrets]]\nname = {_quoted(place.secret)}\nhost = "{host}"\nheader = "Authorization"\n'
        f'value = "Bearer {{{place.secret}}}"\n{own}'
    )
    return (
        f"url = {_quoted(place.url)}\n\n[always]\nhosts = [{_quoted(f'GET,POST {host}{parts.path}')}]\n{ranges}"
        f'{secret if place.secret else ""}\n[limits]\nwall = "30s"\noutput = "256KiB"\n\n'
    )


def _local_head(start: Started) -> str:
    parts = ", ".join(map(_quoted, start.command))
    variables = "".join(f"{key} = {_quoted(value)}, " for key, value in start.env.items()).removesuffix(", ")
    env = f"env = {{ {variables} }}\n" if variables else ""
    programs = f"\n[always]\nprograms = [{', '.join(map(_quoted, start.programs))}]\n" if start.programs else ""
    return (
        f"command = [{parts}]\n{env}"
        f'{programs}\n[limits]\nwall = "30s"\ncpu = "20s"\nmemory = "{_MEMORY[start.node]}"\noutput = "256KiB"\n\n'
    )


def _at_most(server: ServerPin) -> str:
    """What all of its actions may use together, as far as their arguments name it."""
    lines: list[str] = []
    kinds = [(kind, _reads(tool)) for tool in server.tools.values() for _, kind in _named(tool)]
    if any(kind == "file" for kind, _ in kinds):
        lines.append(f'{MARK} read = ["docs/**"]')
    if ("file", False) in kinds:
        lines.append(f'{MARK} write = ["out/**"]')
    if any(kind == "url" for kind, _ in kinds):
        lines.append(f'{MARK} hosts = ["www.example.com:443"]')
    return "[at_most]\n" + "\n".join(lines) + "\n\n" if lines else ""


def _actions(server: ServerPin, host: str) -> Iterator[str]:
    taken: set[str] = set()
    for tool_name in sorted(server.tools):
        name = _name(tool_name, taken)
        taken.add(name)
        yield _action(name, tool_name, server.tools[tool_name], host)


def _action(name: str, tool_name: str, tool: Mapping[str, Json], host: str) -> str:
    """The table of one action. `host` is where a server elsewhere is: it gets no file and reaches what it wants; "" for one here."""
    named = [] if host else list(_named(tool))
    reads = _reads(tool)
    lines = [f"[actions.{name}]", *([] if name == tool_name else [f"tool = {_quoted(tool_name)}"])]
    lines.append(f"summary = {_quoted(_summary(tool, name))}")
    texts = [argument for argument, kind in named if kind == "text"]
    resources = [_touch(argument, kind, reads=reads) for argument, kind in named if kind != "text"]
    resources += [f"use service:{name}"] if texts else []
    if host:
        lines.append(f"touches = [{_quoted(f'use mcp:{host}')}]")
    if resources:
        why = f"  # what the text in {', '.join(map(repr, texts))} can do" if texts else ""
        lines.append(f"{MARK} touches = [{', '.join(map(_quoted, resources))}]{why}")
    if any(kind == "url" for _, kind in named):
        lines.append(f'{MARK} methods = ["GET"]')
    if reads and not named and not host:
        # Without files to write and without hosts, nothing that it does leaves its sandbox, whatever the server says.
        lines += ['effect = "read"', 'errors = ["is_error"]']
    elif reads:
        lines += [f'{MARK} effect = "read"', 'errors = ["is_error"]']
    else:
        lines.append('effect = "once"')
    return "\n".join(lines) + "\n\n"


def _named(tool: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """The arguments that seem to name something, each with "file", "url" or "text"."""
    schema = cast("Mapping[str, Json]", tool["inputSchema"])
    for argument, described in _object(schema.get("properties")).items():
        fields = _object(described)
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|-", "_", argument).lower()
        if fields.get("type") in ("integer", "number", "boolean") or "enum" in fields:
            continue
        if _URL.fullmatch(snake) or fields.get("format") in ("uri", "url"):
            yield argument, "url"
        elif _FILE.fullmatch(snake):
            yield argument, "file"
        elif _FREE.fullmatch(snake):
            yield argument, "text"


def _object(value: Json) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", value) if isinstance(value, dict) else dict[str, Json]()


def _touch(argument: str, kind: str, *, reads: bool) -> str:
    if kind == "url":
        return f"use url:{{{argument}}}"
    return f"{'read' if reads else 'write'} file:{{{argument}}}"


def _reads(tool: Mapping[str, Json]) -> bool:
    """True if the server says that the tool only reads, and nothing else that contradicts it."""
    hints = _object(tool.get("annotations"))
    return hints.get("readOnlyHint") is True and hints.get("destructiveHint") is not True


def _name(tool_name: str, taken: set[str]) -> str:
    """The name of an action: the one of the tool, as far as an action may have it."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", tool_name)
    text = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:31].strip("_")
    text = (
        text if _ENDS.fullmatch(text) and text not in ("remit", "none") else f"tool_{text}".strip("_")[:31].strip("_")
    )
    number, name = 1, text
    while name in taken:
        number += 1
        name = f"{text[:27].strip('_')}_{number}"
    return name


def _summary(tool: Mapping[str, Json], name: str) -> str:
    """The first sentence of the description, of at most 200 characters, without characters that nobody sees."""
    description = tool.get("description")
    first = next((line.strip() for line in str(description or "").splitlines() if line.strip()), "")
    sentence = re.split(r"(?<=[.!?])\s", first, maxsplit=1)[0].rstrip(".")[:200].strip()
    clean = "".join(" " if hidden_character(character) else character for character in sentence).strip()
    return clean or name.replace("_", " ")


def _quoted(text: str) -> str:
    """A basic string of TOML. https://toml.io/en/v1.0.0#string"""
    if any(ord(character) < 32 for character in text):
        raise UsageError(f"{text!r} has a control character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # What a reader does not see is written by its number, also in a comment.
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped) + '"'
