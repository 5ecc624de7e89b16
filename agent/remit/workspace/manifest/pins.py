"""`policies/tools.lock`: the tools that a reviewer approved, and the checks of their schemas against their manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from pydantic import ValidationError

from remit.core import FrozenModel, Json, Problem, Refusal, WorkspaceError
from remit.core.parsing import check_schema, hidden_character, parse_json, resolved, texts_of, toml_line, types_of
from remit.workspace.manifest.manifest import Action, ActionSchema, Manifest, Pin, pin_digest
from remit.workspace.manifest.touches import Template

LOCK: Final = "policies/tools.lock"
_AGAIN: Final = "review the tool and run `remit tool pin`"


class _Lock(FrozenModel):
    format: Literal[1]
    tools: dict[str, Pin]
    graphs: dict[str, str] = {}


def read_lock(text: str, *, file: str = LOCK) -> dict[str, Pin]:
    """The pins by tool.

    Raises:
        WorkspaceError: the file was not written by `remit tool pin`, or it was edited afterwards.
    """
    try:
        parse_json(text)  # refuses duplicate keys, of which pydantic would silently use the last
        lock = _Lock.model_validate_json(text)
    except Refusal as refusal:
        at = refusal.details.get("at")
        line = None if at is None else text.count("\n", 0, at) + 1
        raise WorkspaceError([Problem(file=file, line=line, what=refusal.message, fix=_AGAIN)]) from refusal
    except ValidationError as failure:
        raise WorkspaceError(
            Problem(
                file=file,
                line=_line(text, [str(part) for part in error["loc"]]),
                what=f"{'.'.join(map(str, error['loc'])) or 'the lock'}: {error['msg'].lower()}",
                fix=_AGAIN,
            )
            for error in failure.errors(include_url=False)
        ) from failure
    edited = [
        Problem(
            file=file, line=_line(text, ["tools", name]), what=f"the pin of {name!r} was edited by hand", fix=_AGAIN
        )
        for name, pin in lock.tools.items()
        if pin.digest != pin_digest(pin.manifest, pin.code, pin.schemas, pin.hidden, pin.server)
    ]
    if edited:
        raise WorkspaceError(edited)
    return lock.tools


def read_graph_pins(text: str) -> dict[str, str]:
    """The digest of the reviewed graph of each agent, from a text that `read_lock` has read."""
    return _Lock.model_validate_json(text).graphs


def write_lock(pins: Mapping[str, Pin], graphs: Mapping[str, str] | None = None) -> str:
    """The text of the file, sorted and indented, so that a review shows what changed. `graphs` are the digests of graphs by agent."""
    tools = {name: _written(pin) for name, pin in pins.items()}
    lock = {"format": 1, "tools": tools, **({"graphs": dict(graphs)} if graphs else {})}
    return json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _written(pin: Pin) -> dict[str, Json]:
    return pin.model_dump(mode="json", exclude={"server"} if pin.server is None else None)


def check_schemas(
    manifest: Manifest,
    schemas: Mapping[str, ActionSchema],
    hidden: Mapping[str, tuple[str, ...]],
    *,
    file: str,
    text: str,
) -> tuple[Problem, ...]:
    """Every contradiction between the functions of a tool and its manifest; checked when the tool is pinned.

    `file` and `text` are those of the manifest, for its lines.
    """
    return tuple(
        Problem(file=file, line=toml_line(text, *path), what=what, fix=fix)
        for path, what, fix in _schema_faults(manifest, schemas, hidden)
    )


def _schema_faults(
    manifest: Manifest, schemas: Mapping[str, ActionSchema], hidden: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    for name in sorted(set(schemas) - set(manifest.actions)):
        yield (
            ("actions",),
            f"the code has a function {name!r} that is no action of the manifest",
            f"write [actions.{name}]",
        )
    for name, action in manifest.actions.items():
        at = ("actions", name)
        if name not in schemas:
            yield at, f"the code has no function {name!r}", f"write def {name}(…) in main.py, or remove the action"
            continue
        schema = schemas[name]
        for text in (schema.description, *texts_of([schema.input, schema.output])):
            if (character := hidden_character(text, but="\n\t")) is not None:
                fix = "remove it in main.py: a model reads it and a reviewer does not see it"
                yield at, f"the texts of {name!r} have an invisible character {character}", fix
                break
        unchecked = [
            f"the {side} of {name!r}: {fault}"
            for side, part in (("arguments", schema.input), ("result", schema.output))
            for fault in check_schema(part)
        ]
        if unchecked or schema.input.get("type") != "object":
            for fault in unchecked or [f"the arguments of {name!r} are not an object"]:
                yield at, fault, "use a simpler type in main.py"
            continue
        takes_key = "idempotency_key" in hidden.get(name, ()) or action.idempotency_header
        if action.effect == "keyed" and not takes_key:
            yield (*at, "effect"), f"{name!r} has effect = 'keyed' and no key", "add the parameter idempotency_key: str"
        narrowed = any(template.form == "within" for template in action.templates)
        if narrowed and "permitted" not in hidden.get(name, ()):
            what = f"{name!r} reads what the rules permit one by one, and does not ask what that is"
            yield (
                (*at, "touches"),
                what,
                "add the parameter permitted: dict[str, Patterns], and apply it before you count",
            )
        yield from _touch_faults(at, action, schema)
        if action.probe in schemas:
            yield from _probe_faults((*at, "probe"), action, schema, schemas[action.probe])


def _probe_faults(
    at: tuple[str, ...], action: Action, schema: ActionSchema, probe: ActionSchema
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Problems of a probe. It is called with the arguments of the action and returns what the action returned, or null."""
    known: Mapping[str, Json] = schema.input.get("properties", {})
    for name in sorted(set(probe.input.get("properties", {})) - set(known)):
        what = f"the probe {action.probe!r} has a parameter {name!r}, which {action.name!r} does not have"
        yield at, what, f"use only parameters of {action.name!r}, and idempotency_key"
    if "null" in types_of(schema.output):
        what = f"{action.name!r} may return null, which a probe returns for 'not happened'"
        yield at, what, "always return a value in main.py"
    if "null" not in types_of(probe.output):
        what = f"the probe {action.probe!r} never returns null for 'not happened'"
        yield at, what, "return what the action returns, or None"


def _touch_faults(
    at: tuple[str, ...], action: Action, schema: ActionSchema
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    properties: Mapping[str, Json] = schema.input.get("properties", {})
    for number, template in enumerate(action.templates):
        here = (*at, "touches", str(number))
        if not template.argument:
            continue
        if template.argument not in properties:
            known = ", ".join(properties) or "none"
            yield (
                here,
                f"the placeholder {template.argument!r} is no argument",
                f"write an argument of {action.name!r}: {known}",
            )
            continue
        argument = properties[template.argument]
        if not _names_things_at(argument, schema.input, template, template.path):
            right = "a text" if template.form == "sql" else "a text or a list of texts"
            where = "".join(f"/{part}" for part in template.path)
            yield (
                here,
                f"argument {template.argument + where!r} names a resource and must be {right}",
                "change its type in main.py",
            )
        required = template.argument in schema.input.get("required", ())
        default = cast("Mapping[str, Json]", argument).get("default") if isinstance(argument, dict) else None
        if template.form == "set" and not required and not isinstance(default, str):
            fix = f'write {template.argument}: str = "…" in main.py, or make it required'
            yield here, f"argument {template.argument!r} names a set of files and has no default", fix


def _names_things_at(schema: Json, root: Json, template: Template, path: Sequence[str]) -> bool:
    """As `_names_things`, for the values at the path. Objects without declared properties are checked in each call."""
    if not path:
        return _names_things(schema, root, template)
    if not isinstance(schema, dict):
        return schema is False
    inner = cast("Mapping[str, Json]", schema)
    if _by_parts(inner, root, lambda part: _names_things_at(part, root, template, path)):
        return True
    first, rest = path[0], path[1:]
    match inner.get("type"):
        case "null":
            return len(path) == len(template.path)
        case "array" if first == "*" and "prefixItems" not in inner and isinstance(inner.get("items"), dict):
            return _names_things_at(inner["items"], root, template, rest)
        case "object" if first != "*":
            properties: Mapping[str, Json] = inner.get("properties", {})
            described = first in properties
            return _names_things_at(properties[first], root, template, rest) if described else not properties
        case _:
            return False


def _names_things(schema: Json, root: Json, template: Template, *, inside: bool = False) -> bool:
    """True if every value of the schema can name a resource: a text, a whole number for an id, a list of these, or null."""
    if not isinstance(schema, dict):
        return schema is False
    inner = cast("Mapping[str, Json]", schema)
    if _by_parts(inner, root, lambda part: _names_things(part, root, template, inside=inside)):
        return True
    if "enum" in inner or "const" in inner:
        return all(isinstance(choice, str) for choice in inner.get("enum", [inner.get("const")]))
    match inner.get("type"):
        case "string":
            return True
        case "integer":
            return template.numbered
        case "null":
            return not inside
        case "array":
            listed = "prefixItems" not in inner and isinstance(inner.get("items"), dict)
            fits = not inside and template.form != "sql" and listed
            return fits and _names_things(inner["items"], root, template, inside=True)
        case _:
            return False


def _by_parts(schema: Mapping[str, Json], root: Json, holds: Callable[[Json], bool]) -> bool:
    """True if `holds` is true of every value because of a `$ref`, of a part of `allOf`, or of every branch of a union."""
    every = [resolved(root, schema["$ref"])] if "$ref" in schema else []
    every += schema.get("allOf", ())
    unions = [schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema]
    return any(map(holds, every)) or any(all(map(holds, branches)) for branches in unions)


def _line(text: str, path: list[str]) -> int | None:
    """The line of the last key on the path, in JSON as `write_lock` indents it."""
    at = 0
    for key in path:
        found = text.find(f"{json.dumps(key)}:", at)
        if found < 0:
            break
        at = found
    return text.count("\n", 0, at) + 1 if path else None
