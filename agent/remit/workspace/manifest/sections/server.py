"""The keys of a `tool.toml` with `source = "mcp"`: what starts the server, and the tools of the server that are actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Protocol, TypeAlias

from pydantic import Field

from remit.core import Json, Problem
from remit.core.parsing import Matching, TomlTable
from remit.workspace.manifest.sections.network import SecretTable, Variable
from remit.workspace.manifest.touches import Template

PYTHON: Final = "python"  # in a command: the interpreter that runs tools
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = ("files", "packages")
_Report: TypeAlias = Callable[[tuple[str, ...], str, str], Problem]

ServerTool = Annotated[
    str,
    Matching(r"[!-~]{1,128}", "a tool of a server", "write the name that the server lists, at most 128 characters"),
]
Part = Annotated[
    str, Matching(r"[^\x00-\x1f]{1,1000}", "a part of a command", "write one argument, without line breaks")
]


class ServerTable(TomlTable):
    """What starts an MCP server that speaks on its standard input and output. It is started once for a run."""

    command: list[Part] = Field(
        description='What starts it: ["python", "./main.py"], ["node", "{packages}/node_modules/NAME/index.js", "{files}"]; '
        "{files} is the folder with the files of a call, {packages} that of the locked packages, ./ the folder of the tool"
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


def server_rules(
    document: Mapping[str, Json],
    server: ServerTable | None,
    secrets: Sequence[SecretTable],
    programs: Sequence[str],
    report: _Report,
) -> Iterator[Problem]:
    """The problems between the keys of an MCP server. `server` is None if the key is missing, or not valid by itself."""
    if document.get("source") != "mcp":
        if "server" in document:
            yield report(("server",), "[server] is only for source = 'mcp'", "remove it")
        return
    if "server" not in document:
        yield report(
            ("source",), "the table [server] is missing", 'write [server] with command = ["python", "./main.py"]'
        )
    elif server is not None:
        yield from _command_rules(server, programs, report)
    if document.get("life") == "call":
        yield report(("life",), "a server serves the calls of a run", "remove it")
    if document.get("trust") == "none":
        fix = "remove it: a server lives longer than a call, so each call knows what earlier ones of its run were given"
        yield report(("trust",), "trust = 'none' and source = 'mcp' exclude each other", fix)
    for number, secret in enumerate(secrets):
        if secret.exposed:
            fix = "write host, header and value: the proxy adds the secret, and `env` gets a text that stands for it"
            at = ("always", "secrets", str(number))
            yield report(at, "a server is started before a call is recorded, so it gets no secret", fix)


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
    source: str, at: tuple[str, ...], action: _Action, templates: Sequence[Template], report: _Report
) -> Iterator[Problem]:
    """The problems of one action of an MCP server."""
    if source != "mcp":
        if action.tool is not None:
            yield report((*at, "tool"), "'tool' is only for source = 'mcp'", "remove it")
        return
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
