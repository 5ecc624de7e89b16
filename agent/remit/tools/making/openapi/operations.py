"""The operations of an OpenAPI document that can become actions, and why others cannot."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast

from remit.core import Effect, Json, UsageError, near_names
from remit.core.parsing import check_schema, hidden_character, texts_of
from remit.tools.making.guesses import RESERVED_KINDS
from remit.tools.making.openapi.document import Document, Unfit
from remit.tools.making.openapi.schemas import Schemas
from remit.tools.making.openapi.security import unsupported_schemes
from remit.tools.making.texts import name_of, one_line

MOST: Final = 100  # actions of one tool
MOST_ARGUMENTS: Final = 40
_METHODS: Final = ("get", "head", "put", "post", "patch", "delete")
_EFFECTS: Final[Mapping[str, Effect]] = {"GET": "read", "HEAD": "read", "PUT": "idempotent"}
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~:@,=+$!-]*")
_PARAMETER: Final = re.compile(r"\{([^{}/]{1,100})\}")
_HIDDEN: Final = ("idempotency_key", "resources", "permitted")  # parameters that Remit fills in
Place: TypeAlias = Literal["path", "query", "body"]


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of an action. `wire`: its name in the request. `joined`: a list is sent as one text with commas."""

    name: str
    wire: str
    place: Place
    required: bool
    schema: Json
    joined: bool = False
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One action. `parts` are those of its path: a text, or the argument that stands there."""

    name: str
    method: str
    path: str
    parts: tuple[str | Argument, ...]
    summary: str
    description: str
    arguments: tuple[Argument, ...]

    @property
    def effect(self) -> Effect:
        return _EFFECTS.get(self.method, "once")

    @property
    def pattern(self) -> str:
        """The path as a pattern of `hosts`."""
        return "".join(part if isinstance(part, str) else "*" for part in self.parts)

    @property
    def touches(self) -> tuple[str, ...]:
        """The resource of each argument in the path; of an operation without one, the collection that it is about."""
        named = tuple(f"use {part.kind}:{{{part.name}}}" for part in self.parts if isinstance(part, Argument))
        fixed = [part for part in self.path.split("/") if part]
        return named or (f"use collection:{name_of(fixed[-1] if fixed else 'all', prefix='path')}",)


@dataclass(frozen=True, kw_only=True)
class Described:
    """The operations that become actions. `left_out`: those that cannot, with the reason."""

    operations: tuple[Operation, ...]
    left_out: tuple[str, ...]


def operations_of(document: Document, only: Collection[str] = ()) -> Described:
    """The operations of the document; of those, `only` the named ones, if any are named.

    Raises:
        UsageError: there are none, more than a tool may have, or not the named ones.
    """
    found: dict[str, Operation] = {}
    left_out: list[str] = []
    unknown = dict.fromkeys(only)
    for method, path, node, shared in _all(document):
        name = name_of(str(node.get("operationId") or f"{method} {path}"), found, prefix="call")
        unknown.pop(name, None)
        if only and name not in only:
            found.setdefault(name, _SKIPPED)
            continue
        try:
            found[name] = _operation(document, name, (method.upper(), path), node, shared)
        except Unfit as reason:
            left_out.append(f"{name} ({method.upper()} {one_line(path, 100)}): {reason}")
            found[name] = _SKIPPED
    if unknown:
        near = near_names(next(iter(unknown)), found)
        raise UsageError(
            f"it has no operation {next(iter(unknown))!r}: name one of {', '.join(near or list(found)[:20])}"
        )
    operations = tuple(operation for operation in found.values() if operation is not _SKIPPED)
    if len(operations) > MOST:
        fix = "name those that the agent needs by --only"
        raise UsageError(f"it has {len(operations)} operations, and a tool has at most {MOST} actions: {fix}")
    if not operations:
        reasons = "".join(f"\n    {line}" for line in left_out[:10])
        raise UsageError(f"none of its operations can become an action{reasons or ': it has no paths'}")
    return Described(operations=operations, left_out=tuple(left_out))


_SKIPPED: Final = Operation(name="", method="", path="", parts=(), summary="", description="", arguments=())


def _all(document: Document) -> Iterator[tuple[str, str, Mapping[str, Json], Json]]:
    """Each operation, with its method, its path, and the parameters that its path shares."""
    paths = document.root.get("paths", {})
    if not isinstance(paths, dict):
        raise UsageError("its 'paths' are no object")
    for path, item in cast("Mapping[str, Json]", paths).items():
        try:
            table = document.table(item)
            nodes = [(method, document.table(table[method])) for method in _METHODS if method in table]
        except Unfit as reason:
            raise UsageError(f"its path {one_line(path, 100)!r} cannot be read: {reason}") from reason
        yield from ((method, path, node, table.get("parameters")) for method, node in nodes)


def _operation(document: Document, name: str, at: tuple[str, str], node: Mapping[str, Json], shared: Json) -> Operation:
    method, path = at
    if reason := unsupported_schemes(document, node):
        raise Unfit(reason)
    schemas = Schemas(document)
    parameters = {
        (str(item.get("in")), str(item.get("name"))): item
        for item in (*document.tables(shared), *document.tables(node.get("parameters")))
    }
    arguments: dict[str, Argument] = {}
    for (place, wire), item in parameters.items():
        made = _argument(schemas, place, wire, item, arguments)
        if made is not None:
            arguments[made.name] = made
    if "requestBody" in node:
        arguments["body"] = _body(document, schemas, document.table(node["requestBody"]))
    if len(arguments) > MOST_ARGUMENTS:
        raise Unfit(f"it has more than {MOST_ARGUMENTS} arguments")
    parts = tuple(_parts(path, arguments))
    _check_arguments(arguments.values())
    summary = one_line(node.get("summary"), 200).rstrip(".") or one_line(node.get("description"), 200).rstrip(".")
    return Operation(
        name=name,
        method=method,
        path=path,
        parts=parts,
        summary=summary or f"{method} {one_line(path, 150)}",
        description=one_line(node.get("description"), 1000),
        arguments=tuple(
            next((part for part in parts if isinstance(part, Argument) and part.name == item.name), item)
            for item in arguments.values()
        ),
    )


def _argument(
    schemas: Schemas, place: str, wire: str, node: Mapping[str, Json], known: Collection[str]
) -> Argument | None:
    """The argument for one parameter; None for one that a call can do without and that has no place in an action."""
    required = node.get("required") is True or place == "path"
    if place not in ("path", "query"):
        if required:
            raise Unfit(f"it needs the {place} parameter {one_line(wire, 60)!r}, which the tool cannot send")
        return None
    schema = schemas.strict(node.get("schema", {"type": "string"}))
    kinds = _types(schema)
    if "object" in kinds or node.get("style", "simple" if place == "path" else "form") not in ("simple", "form"):
        if required:
            raise Unfit(f"its parameter {one_line(wire, 60)!r} has a form that the tool cannot send")
        return None
    if place == "path" and not kinds <= {"string", "integer"}:
        raise Unfit(f"its path parameter {one_line(wire, 60)!r} is no text and no whole number")
    if (text := one_line(node.get("description"), 300)) and isinstance(schema, dict):
        schema = {**cast("dict[str, Json]", schema), "description": text}
    return Argument(
        name=name_of(wire, (*known, *_HIDDEN, "body"), prefix="value"),
        wire=wire,
        place=cast("Place", place),
        required=required,
        schema=schema,
        joined="array" in kinds and node.get("explode") is False,
    )


def _types(schema: Json) -> set[str]:
    """The JSON types that the schema names; "object" among them if it may be anything."""
    if not isinstance(schema, dict):
        return {"object"}
    parts = cast("Mapping[str, Json]", schema)
    for key in ("anyOf", "oneOf"):
        if key in parts:
            return {kind for part in cast("Sequence[Json]", parts[key]) for kind in _types(part)}
    named = parts.get("type")
    if named is None:
        return {"string"} if "enum" in parts and all(isinstance(item, str) for item in parts["enum"]) else {"object"}
    return set(cast("Sequence[str]", named)) if isinstance(named, list) else {str(named)}


def _body(document: Document, schemas: Schemas, node: Mapping[str, Json]) -> Argument:
    content = document.table(node.get("content", {}))
    kind = next((kind for kind in content if kind.partition(";")[0].strip() == "application/json"), None)
    if kind is None:
        raise Unfit(f"its body is {one_line(next(iter(content), 'nothing'), 60)}, and no JSON")
    schema = schemas.strict(document.table(content[kind]).get("schema", {}))
    return Argument(name="body", wire="body", place="body", required=node.get("required") is True, schema=schema)


def _parts(path: str, arguments: Mapping[str, Argument]) -> Iterator[str | Argument]:
    """The path in parts; each parameter gets the kind of resource that the part before it names."""
    by_wire = {item.wire: item for item in arguments.values() if item.place == "path"}
    before, end = "", 0
    for match in _PARAMETER.finditer(path):
        literal = path[end : match.start()]
        yield _literal(literal)
        before = next((part for part in reversed(literal.split("/")) if part), before)
        found = by_wire.pop(match[1], None)
        if found is None:
            raise Unfit(f"its path has {{{match[1]}}}, which is not described")
        yield replace(found, kind=_kind(before or found.wire))
        before, end = "", match.end()
    yield _literal(path[end:])
    if by_wire:
        raise Unfit(f"its path parameter {one_line(next(iter(by_wire)), 60)!r} is not in its path")


def _literal(text: str) -> str:
    if not all(map(_LITERAL.fullmatch, text.split("/"))) or any(part in (".", "..") for part in text.split("/")):
        raise Unfit("its path has characters that no line of 'hosts' can have")
    return text


def _kind(text: str) -> str:
    """The kind of a resource: `issue` for the item after `/issues/`."""
    words = name_of(text, prefix="item")
    if words.endswith("ies") and len(words) > 4:
        words = f"{words[:-3]}y"
    elif words.endswith("s") and not words.endswith(("ss", "us", "is")) and len(words) > 2:
        words = words[:-1]
    return f"{words[:26]}_item" if words in RESERVED_KINDS else words


def _check_arguments(arguments: Collection[Argument]) -> None:
    """Raise Unfit if Remit could not validate the arguments."""
    faults = check_schema({"type": "object", "properties": {item.name: item.schema for item in arguments}})
    if faults:
        raise Unfit(one_line(faults[0], 200))
    if any(hidden_character(text, but="\n\t") for text in texts_of([item.schema for item in arguments])):
        raise Unfit("a schema of it has an invisible character, which a reviewer would not see")
