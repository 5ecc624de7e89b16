"""The keys of a `tool.toml` with `source = "mcp"`: what starts the server, and the tools of the server that are actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Protocol, TypeAlias, cast
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field

from remit.core import Json, Problem, Refusal
from remit.core.parsing import DEFAULT_PORT, SCHEMES, SERVER_KIND, Matching, TomlTable, canonical_url, invalid
from remit.sandbox.egress import parse_host
from remit.workspace.manifest.sections.network import SecretTable, Variable
from remit.workspace.manifest.touches import Template

PYTHON: Final = "python"  # in a command: the interpreter that runs tools
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = ("files", "packages")
_RESOURCE: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[^{}]*(?:\{[a-z][a-z0-9_]*\}[^{}]*)*")
# Neither `.` nor `..`, which a server may resolve, and nothing that a server may decode twice or take for `/`.
_WITHIN_ITS_PLACE: Final = r"^(\.{0,2}[^.\\%][^\\%]*|\.{3}[^\\%]*)$"
_LONGEST_PART: Final = 1_000  # characters of an argument in the address of a resource
_Report: TypeAlias = Callable[[tuple[str, ...], str, str], Problem]

ServerTool = Annotated[
    str,
    Matching(r"[!-~]{1,128}", "a tool of a server", "write the name that the server lists, at most 128 characters"),
]


def resource_arguments(tool: str) -> tuple[str, ...] | None:
    """The arguments of the address of a resource; None if `tool` is the name of a tool, which contains no `://`."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(tool))) if _RESOURCE.fullmatch(tool) else None


def resource_input(names: Sequence[str]) -> dict[str, Json]:
    """The JSON Schema of these arguments: texts that are part of an address."""
    text: Json = {"type": "string", "minLength": 1, "maxLength": _LONGEST_PART, "pattern": _WITHIN_ITS_PLACE}
    return {
        "type": "object",
        "properties": dict.fromkeys(names, text),
        "required": list(names),
        "additionalProperties": False,
    }


def resource_address(tool: str, arguments: Mapping[str, Json]) -> str:
    """The address with its arguments. Each of them stays within its place: whatever has a meaning in an address is encoded."""
    return _PLACEHOLDER.sub(lambda match: quote(str(arguments[match[1]]), safe=""), tool)


Part = Annotated[
    str, Matching(r"[^\x00-\x1f]{1,1000}", "a part of a command", "write one argument, without line breaks")
]


def _server_url(value: str) -> str:
    scheme = value.partition(":")[0]
    try:
        plain = scheme in SCHEMES and canonical_url(scheme, value).address == value
    except Refusal:
        plain = False
    if not plain:
        raise invalid(f"is {value!r}, which is no plain URL", 'write it in full: "https://mcp.example.com/mcp"')
    return value


ServerUrl = Annotated[str, AfterValidator(_server_url)]


class _Always(Protocol):
    @property
    def hosts(self) -> list[str]: ...
    @property
    def ranges(self) -> list[str]: ...
    @property
    def secrets(self) -> list[SecretTable]: ...
    @property
    def env(self) -> list[str]: ...
    @property
    def programs(self) -> list[str]: ...
    @property
    def proc(self) -> bool: ...


class ServerTable(TomlTable):
    """What starts an MCP server that speaks on its standard input and output, once for a run; or where one runs already."""

    command: list[Part] = Field(
        default=[],
        description='What starts it: ["python", "./main.py"], ["node", "{packages}/node_modules/NAME/index.js", "{files}"]; '
        "{files} is the folder with the files of a call, {packages} that of the locked packages, ./ the folder of the tool",
    )
    url: ServerUrl | None = Field(
        default=None,
        description='In place of the command, for a server that runs elsewhere: "https://mcp.example.com/mcp"; its host stands in '
        "[always] too",
    )
    env: dict[Variable, Part] = Field(
        default={}, description='Environment variables: { MEMORY_FILE = "{files}/memory.json" }'
    )


class _Action(Protocol):
    tool: str | None
    cache: bool
    idempotency_header: str | None


def filled(part: str, values: Mapping[str, str], own: str) -> str:
    """A part of the command with its placeholders replaced; one that begins with `./` is a file of the folder `own`."""
    text = _PLACEHOLDER.sub(lambda match: values[match[1]], part)
    return f"{own}/{part[2:]}" if part.startswith("./") else text


def at_url(document: Mapping[str, Json]) -> bool:
    """True if the manifest is that of a server that runs elsewhere."""
    server = document.get("server")
    return isinstance(server, dict) and "url" in server


def server_rules(
    document: Mapping[str, Json],
    server: ServerTable | None,
    always: _Always,
    report: _Report,
) -> Iterator[Problem]:
    """The problems between the keys of an MCP server. `server` is None if the key is missing, or not valid by itself."""
    if document.get("source") != "mcp":
        if "server" in document:
            yield report(("server",), "[server] is only for source = 'mcp'", "remove it")
        return
    if "server" not in document:
        yield report(
            ("source",),
            "the table [server] is missing",
            'write [server] with command = ["python", "./main.py"], or with url',
        )
    elif server is not None and server.url is not None:
        yield from _url_rules(server, server.url, document, always, report)
    elif server is not None:
        yield from _command_rules(server, always.programs, report)
    if document.get("life") == "call":
        yield report(("life",), "a server serves the calls of a run", "remove it")
    if document.get("trust") == "none":
        fix = "remove it: a server lives longer than a call, so each call knows what earlier ones of its run were given"
        yield report(("trust",), "trust = 'none' and source = 'mcp' exclude each other", fix)
    for number, secret in enumerate(always.secrets):
        if secret.exposed:
            fix = "write host, header and value: the proxy adds the secret, and `env` gets a text that stands for it"
            at = ("always", "secrets", str(number))
            yield report(at, "a server is started before a call is recorded, so it gets no secret", fix)


def _url_rules(
    server: ServerTable, url: str, document: Mapping[str, Json], always: _Always, report: _Report
) -> Iterator[Problem]:
    """The problems of a server that runs elsewhere: nothing is started for it, and it gets no files."""
    for key in ("command", "env"):
        if getattr(server, key):
            yield report(("server", key), f"'{key}' of a server that runs at a URL", "remove it, or the URL")
    for key in ("env", "programs", "proc"):
        if getattr(always, key):
            what = f"'always.{key}' has no effect for a server that runs at a URL"
            yield report(("always", key), what, "remove it")
    at_most = document.get("at_most")
    for key in ("read", "write", "stores"):
        if isinstance(at_most, dict) and key in cast("dict[str, Json]", at_most):
            yield report(("at_most", key), "a server that runs at a URL gets no files and no stores", "remove it")
    parts = urlsplit(url)
    port, path = parts.port or DEFAULT_PORT[parts.scheme], parts.path or "/"
    name = parts.hostname or ""
    lines = [parse_host(line) for line in always.hosts]
    if not any(line.covers(name, port) and line.allows("POST", path) for line in lines):
        fix = f'write hosts = ["GET,POST {name}:{port}{path}"] in [always]'
        yield report(("server", "url"), f"no line of 'always.hosts' allows POST to {url}", fix)
    if parts.scheme == "http" and always.secrets:
        yield report(("server", "url"), "a secret is not sent without encryption", "write https, or remove the secret")
    if parts.scheme == "http" and not always.ranges:
        fix = "write https, or name the private range of its address in 'always.ranges'"
        yield report(("server", "url"), f"{url} is not encrypted, and not within a private range", fix)


def _command_rules(server: ServerTable, programs: Sequence[str], report: _Report) -> Iterator[Problem]:
    if not server.command:
        yield report(("server", "command"), "'command' is empty", 'write ["python", "./main.py"]')
        return
    first = server.command[0]
    if first != PYTHON and first not in programs and not first.startswith("{packages}/"):
        fix = f'write programs = ["{first}"] in [always]'
        yield report(("server", "command", "0"), f"the program {first!r} is not in 'always.programs'", fix)
    parts = [(("command", str(number)), part) for number, part in enumerate(server.command)]
    parts += [(("env", name), value) for name, value in server.env.items()]
    for at, part in parts:
        if ".." in part.split("/") or not set(_PLACEHOLDER.findall(part)) <= set(_KNOWN):
            yield report(
                ("server", *at),
                f"{part!r} has '..', or a placeholder that is neither {{files}} nor {{packages}}",
                "correct it",
            )


def server_action_rules(
    source: str,
    at: tuple[str, ...],
    action: _Action,
    templates: Sequence[Template],
    report: _Report,
    *,
    elsewhere: bool,
) -> Iterator[Problem]:
    """The problems of one action of an MCP server."""
    if source != "mcp":
        if action.tool is not None:
            yield report((*at, "tool"), "'tool' is only for source = 'mcp'", "remove it")
        return
    # INVARIANT: a resource is read only if what was decided names each part of its address that a model chooses.
    for name in resource_arguments(action.tool or "") or ():
        if all(template.argument != name or template.path for template in templates):
            fix = f'write touches = ["use memo:{{{name}}}"], with a kind by which rules can name it'
            yield report((*at, "tool"), f"no line of 'touches' names {{{name}}} of the address of the resource", fix)
    # INVARIANT: rules see that the arguments of the call leave this machine (`leaves_system`).
    if elsewhere and not any(template.kind == SERVER_KIND for template in templates):
        fix = 'write touches = ["use mcp:NAME"], with a name of the server by which rules can name it'
        yield report(at, "no line of 'touches' names the server that runs at a URL", fix)
    if action.cache:
        yield report(
            (*at, "cache"), "the answer of a server does not follow from arguments and files alone", "remove it"
        )
    for number, template in enumerate(templates):
        here = (*at, "touches", str(number))
        if template.kind == "store" and template.access == "write":
            fix = 'name the file that it changes: "write file:memory.json"'
            yield report(here, "a server gets no store to write", fix)
        if template.form in ("each", "within"):
            yield report(
                here, "a server does not learn what the rules permit one by one", "name the resources by an argument"
            )
