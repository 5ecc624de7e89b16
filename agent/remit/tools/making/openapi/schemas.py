"""Schemas of an OpenAPI document as JSON Schema 2020-12 that Remit validates: without references, and closed.

Objects with declared properties accept no others. A schema that Remit cannot check exactly is refused, and never weakened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from remit.core import Json
from remit.tools.making.openapi.document import Document, Unfit
from remit.tools.making.texts import one_line

MOST: Final = 2000  # schemas of one operation
DEEPEST: Final = 24
_LONGEST: Final = 300  # characters of a description

_COPIED: Final = frozenset(
    (
        *("type", "enum", "const", "format", "pattern", "multipleOf", "uniqueItems"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    )
)
_IGNORED: Final = frozenset(
    (
        *("title", "default", "example", "examples", "xml", "externalDocs", "deprecated", "writeOnly"),
        *("discriminator", "$comment", "nullable", "readOnly", "contentMediaType", "contentEncoding"),
    )
)
_COMBINING: Final = ("anyOf", "oneOf", "allOf")
_STRUCTURE: Final = frozenset((*_COMBINING, "properties", "required", "items", "additionalProperties", "description"))
_MERGED: Final = frozenset(("type", "properties", "required", "description", "additionalProperties"))


class Schemas:
    """Converts the schemas of one operation, of which there may be a bounded number."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MOST

    def strict(self, node: Json, names: tuple[str, ...] = ()) -> Json:
        """The schema without references. `names` are the references that led here.

        Raises:
            Unfit: it is recursive, too large, or has a keyword that Remit does not check.
        """
        self._left -= 1
        if self._left < 0 or len(names) > DEEPEST:
            raise Unfit(f"its schemas are too large: more than {MOST}, or deeper than {DEEPEST}")
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise Unfit("a schema of it is no object")
        schema = cast("Mapping[str, Json]", node)
        if "$ref" not in schema:
            return self._converted(schema, (*names, ""))
        reference = schema["$ref"]
        if reference in names:
            raise Unfit(f"its schema {str(reference).rpartition('/')[2]!r} contains itself")
        return self.strict(self._document.target(reference), (*names, str(reference)))

    def _converted(self, schema: Mapping[str, Json], names: tuple[str, ...]) -> Json:
        unknown = [
            key
            for key in schema
            if key not in _COPIED and key not in _IGNORED and key not in _STRUCTURE and not key.startswith("x-")
        ]
        if unknown:
            raise Unfit(f"a schema of it has the keyword {unknown[0]!r}, which Remit does not check")
        made: dict[str, Any] = {key: schema[key] for key in schema if key in _COPIED}
        if text := one_line(schema.get("description"), _LONGEST):
            made["description"] = text
        if "items" in schema:
            made["items"] = self.strict(schema["items"], names)
        for key in _COMBINING:
            if key in schema:
                made[key] = [self.strict(part, names) for part in _list(schema[key])]
        self._properties(schema, made, names)
        if self._document.old:
            _modernise(schema, made)
        return _merged(made)

    def _properties(self, schema: Mapping[str, Json], made: dict[str, Any], names: tuple[str, ...]) -> None:
        if "additionalProperties" in schema:
            made["additionalProperties"] = self.strict(schema["additionalProperties"], names)
        if "properties" in schema:
            properties = schema["properties"]
            if not isinstance(properties, dict):
                raise Unfit("the properties of a schema of it are no object")
            parts = cast("Mapping[str, Json]", properties)
            # What the service alone writes is no argument.
            given = {name: part for name, part in parts.items() if not _is_read_only(part)}
            made["properties"] = {name: self.strict(part, names) for name, part in given.items()}
            made.setdefault("additionalProperties", False)
        if "required" in schema:
            dropped = set(schema.get("properties", {})) - set(made.get("properties", {}))
            made["required"] = [name for name in _list(schema["required"]) if name not in dropped]


def _is_read_only(schema: Json) -> bool:
    return isinstance(schema, dict) and cast("Mapping[str, Json]", schema).get("readOnly") is True


def _list(value: Json) -> Sequence[Json]:
    if not isinstance(value, list):
        raise Unfit("a part of a schema of it is no list")
    return cast("Sequence[Json]", value)


def _modernise(schema: Mapping[str, Json], made: dict[str, Any]) -> None:
    """Rewrite what OpenAPI 3.0 has of its own: `nullable`, and exclusive limits as true or false."""
    for key, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(made.get(key), bool):
            exclusive = made.pop(key)
            if exclusive and limit in made:
                made[key] = made.pop(limit)
    if schema.get("nullable") is True:
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        if "enum" in made and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]


def _merged(schema: dict[str, Any]) -> Json:
    """Objects that `allOf` puts together as one object: closed apart, each would refuse the properties of the others."""
    parts = schema.get("allOf")
    if parts is None:
        return schema
    every = [*parts, {key: value for key, value in schema.items() if key != "allOf"}]
    if len(every) == 2 and set(every[1]) <= {"description"}:
        return {**every[0], **every[1]} if isinstance(every[0], dict) else schema
    if not all(_is_plain_object(part) for part in every):
        raise Unfit("a schema of it puts together by 'allOf' what are no plain objects")
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in every:
        for name, inner in part.get("properties", {}).items():
            if properties.setdefault(name, inner) != inner:
                raise Unfit(f"two parts of a schema of it describe {name!r} differently")
        required += part.get("required", ())
    described = [part["description"] for part in reversed(every) if "description" in part]
    return {
        "type": "object",
        **({"description": described[0]} if described else {}),
        "properties": properties,
        **({"required": list(dict.fromkeys(required))} if required else {}),
        "additionalProperties": False,
    }


def _is_plain_object(schema: Json) -> bool:
    if not isinstance(schema, dict):
        return False
    parts = cast("Mapping[str, Json]", schema)
    open_to = parts.get("additionalProperties", False)
    return set(parts) <= _MERGED and parts.get("type", "object") == "object" and open_to is False
