"""Writes the tool of an OpenAPI document: manifest, code and cases."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Final, cast

from remit.core import Json, UsageError
from remit.core.parsing import read_text
from remit.tools.making.openapi.document import Document, read_document
from remit.tools.making.openapi.operations import Argument, Described, Operation, operations_of
from remit.tools.making.openapi.security import secrets_of
from remit.tools.making.service import LOCAL_RANGES, host_and_path, is_local
from remit.tools.making.texts import one_line, table_of, toml_value

TEMPLATE: Final = Path(__file__).parent.parent / "templates" / "openapi" / "main.py"
_BASE: Final = 'BASE = "https://api.example.com"\n'
_FIRST: Final = "def example("
_AFTER: Final = "def _part("
_WIDTH: Final = 110


def openapi_files(
    name: str, file: Path, only: Collection[str] = (), url: str = ""
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The texts of the tool by file name, and the operations that were left out, with their reasons.

    `only`: the operations that become actions; empty: all. `url`: the address of the service; "": the first of its servers with https.

    Raises:
        WorkspaceError: the document cannot be read.
        UsageError: no tool can be made of it.
    """
    document = read_document(file)
    described = operations_of(document, only)
    host, path = host_and_path(url) if url else _server(document)
    base = f"https://{host.removesuffix(':443')}{path}"
    texts = {
        "tool.toml": _manifest(name, document, described, f"{host}{path}"),
        "main.py": _code(described, base),
        "cases.yaml": _cases(name, described, base),
    }
    return texts, described.left_out


def _server(document: Document) -> tuple[str, str]:
    """The host and the path of the first server that speaks TLS."""
    servers: Json = document.root.get("servers")
    tables = [cast("Mapping[str, Json]", one) for one in _list(servers) if isinstance(one, dict)]
    url = next((str(one["url"]) for one in tables if str(one.get("url")).startswith("https://")), None)
    if url is None:
        raise UsageError("it names no server by an https URL: name it by --url https://api.example.com/v1")
    return host_and_path(url)


def _list(value: Json) -> Sequence[Json]:
    return cast("Sequence[Json]", value) if isinstance(value, list) else ()


# -- tool.toml ---------------------------------------------------------------------------------------------------------


def _manifest(name: str, document: Document, described: Described, server: str) -> str:
    info = document.root.get("info")
    title = one_line(table_of(info).get("title"), 150)
    head = [
        "#:schema ../tool.schema.json",
        f'name = "{name}"',
        'version = "0.1.0"',
        'owner = "you@example.com"',
        f"summary = {toml_value(title or f'Operations of {server}')}",
        'source = "python"',
        "",
        "[always]                          # methods, host, port and path: no other request leaves the sandbox",
        "hosts = [",
        *(f"    {toml_value(line)}," for line in _hosts(described.operations, server)),
        "]",
        *([LOCAL_RANGES] if is_local(server) else ()),
        *_secrets(name, document, server),
        "",
        "[limits]",
        'wall = "20s"',
        'output = "256KiB"',
    ]
    left_out = ["", "# Operations that are no actions:", *(f"#   {line}" for line in described.left_out)]
    actions = [line for operation in described.operations for line in _action(operation)]
    return "\n".join([*head, *(left_out if described.left_out else ()), *actions]) + "\n"


def _hosts(operations: Collection[Operation], server: str) -> Iterator[str]:
    methods: dict[str, list[str]] = {}
    for operation in operations:
        methods.setdefault(operation.pattern, []).append(operation.method)
    for pattern, found in methods.items():
        yield f"{','.join(dict.fromkeys(found))} {server}{pattern}"


def _secrets(name: str, document: Document, server: str) -> Iterator[str]:
    host = server.partition("/")[0]
    found = secrets_of(document, name)
    if found:
        yield "secrets = ["
        for secret, item in found:
            parts = {"name": secret, "host": host, "header": item.header, "value": item.value}
            yield f"    {{ {', '.join(f'{key} = {toml_value(value)}' for key, value in parts.items())} }},"
        yield "]"


def _action(operation: Operation) -> Iterator[str]:
    yield f"\n[actions.{operation.name}]"
    yield f"summary = {toml_value(operation.summary)}"
    yield f"touches = {toml_value(list(operation.touches))}"
    yield f'effect = "{operation.effect}"'
    if operation.effect == "read":
        yield 'adds_labels = ["untrusted"]       # others may have written what it returns'
    yield 'errors = ["not_found", "rejected", "unavailable"]'


# -- main.py -----------------------------------------------------------------------------------------------------------


def _code(described: Described, base: str) -> str:
    template = read_text(TEMPLATE, file=TEMPLATE.name)
    before, rest = template.split(_FIRST)
    after = _AFTER + rest.split(_AFTER)[1]
    functions = "\n\n\n".join(map(_function, described.operations))
    return f"{before.replace(_BASE, f'BASE = {base!r}' + chr(10))}{functions}\n\n\n{after}"


def _function(operation: Operation) -> str:
    ordered = sorted(operation.arguments, key=lambda item: not item.required)
    lines = [f"def {operation.name}(", *(_parameter(item) for item in ordered), ") -> Any:"]
    if not ordered:
        lines = [f"def {operation.name}() -> Any:"]
    # The characters that a path may have, `_LITERAL` of operations.py, mean nothing in a text of Python.
    path = "".join(part if isinstance(part, str) else f"{{_part({part.name})}}" for part in operation.parts)
    query = ", ".join(f"{item.wire!r}: {_sent(item)}" for item in operation.arguments if item.place == "query")
    body = "body" if any(item.place == "body" for item in operation.arguments) else "None"
    # A model reads the summary of the manifest before this text.
    text = operation.description.replace("\\", "/").replace('"', "'")
    lines += [
        *([f'    """{text}"""'] if text else ()),
        f'    return _request("{operation.method}", {"f" if "{" in path else ""}"{path}", {{{query}}}, {body})',
    ]
    return "\n".join(lines)


def _parameter(item: Argument) -> str:
    schema = item.schema if item.required else _or_null(item.schema)
    written = pformat(schema, width=_WIDTH, sort_dicts=False).replace("\n", "\n        ")
    return f"    {item.name}: Annotated[Any, WithJsonSchema({written})]{'' if item.required else ' = None'},"


def _or_null(schema: Json) -> Json:
    """The schema of an argument that need not be given."""
    parts = table_of(schema)
    described = {key: parts[key] for key in ("description",) if key in parts}
    branches: list[Json] = [schema, {"type": "null"}]
    return {"anyOf": branches, **described}


def _sent(item: Argument) -> str:
    return f"_joined({item.name})" if item.joined else item.name


# -- cases.yaml --------------------------------------------------------------------------------------------------------


def _cases(name: str, described: Described, base: str) -> str:
    """The answer of the service to each operation whose arguments are plain, and refusals."""
    rows: list[str] = []
    for operation in described.operations:
        call = f"  action: {name}.{operation.name}\n  arguments: "
        arguments = _plain_arguments(operation)
        if arguments is not None:
            path = "".join(part if isinstance(part, str) else str(arguments[part.name]) for part in operation.parts)
            row = {"request": f"{operation.method} {base}{path}", "status": 200, "body": {"name": "one"}}
            value = "null" if operation.method == "HEAD" else json.dumps(row["body"])
            setup = f"  setup: {{http: [{json.dumps(row)}]}}\n  expect: {{value: {value}}}\n"
            rows.append(
                f"- note: {operation.name} returns what the service answers\n{call}{json.dumps(arguments)}\n{setup}"
            )
        refused = {f"{operation.name} refuses an argument that it does not have": "no_such_argument"}
        refused |= {
            f"{operation.name} refuses a path in place of {part.name}": part.name
            for part in operation.parts
            if isinstance(part, Argument)
        }
        rows += [
            f"- note: {note}\n{call}{json.dumps({argument: '../other'})}\n  expect: {{error: invalid_arguments}}\n"
            for note, argument in refused.items()
        ]
    head = "# yaml-language-server: $schema=../../.remit/schemas/tool-cases.schema.json\n"
    return (
        f"{head}# No case reaches the network: setup.http has the answers. Replace them by real ones.\n\n"
        + "\n".join(rows)
    )


_PLAIN: Final[Mapping[str, Json]] = {"string": "a1", "integer": 1}


def _plain_arguments(operation: Operation) -> dict[str, Json] | None:
    """Values for the arguments that a call needs; None if one of them has limits, so that only its service knows a value."""
    arguments: dict[str, Json] = {}
    for item in operation.arguments:
        if item.required:
            schema = table_of(item.schema)
            limits = [key for key in schema if key not in ("type", "description")]
            if item.place == "body" or limits or schema.get("type") not in _PLAIN:
                return None
            arguments[item.name] = _PLAIN[schema["type"]]
    if any(item.place == "query" and item.required for item in operation.arguments):
        return None  # their order in the request is the code's
    return arguments
