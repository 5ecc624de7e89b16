"""The OpenAPI 3.1 document of a table of routes, from the same pydantic types that parse bodies and write answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from remit import __version__
from remit.core import Json
from remit.server.http.answers import STATUS, ServiceError
from remit.server.http.route import Route

# What every route can answer, and what every route with a principal can answer too.
EVERYWHERE: Final = ("invalid_request", "method_not_allowed", "misdirected", "internal", "unavailable", "timeout")
AUTHENTICATED: Final = ("unauthenticated", "forbidden", "unrecorded")
OF_BODIES: Final = ("too_large", "unsupported_media_type")
_PARAMETER: Final = re.compile(r"\{([a-z]+)\}")
_REFS: Final = "#/components/schemas/{model}"
_Schema: TypeAlias = dict[str, Any]


def openapi(routes: Sequence[Route]) -> Json:
    """The document. Raises nothing: the table is part of the program."""
    schemas, named = _schemas(routes)
    paths: dict[str, _Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Remit",
            "version": __version__,
            "description": "A policy broker and sandbox for the tool calls of AI agents.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of an issuer, or an API key"}
            },
        },
    }


def codes_of(route: Route) -> tuple[str, ...]:
    """Every code that the route answers with, once."""
    found = [*EVERYWHERE, *route.codes]
    if route.public is None:
        found += AUTHENTICATED
    if route.body is not None:
        found += OF_BODIES
    if _PARAMETER.search(route.path):
        found.append("not_found")
    return tuple(dict.fromkeys(found))


def _schemas(routes: Iterable[Route]) -> tuple[_Schema, dict[tuple[Any, JsonSchemaMode], _Schema]]:
    """The schemas of all types, and where each type is among them."""
    expected: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {}
    for route in routes:
        for kind, mode in ((route.body, "validation"), (route.answer, "serialization")):
            if kind is not None:
                expected[kind, mode] = TypeAdapter(kind)  # type: ignore[index]  # the mode is one of the two
    expected[ServiceError, "serialization"] = TypeAdapter(ServiceError)
    keys: list[tuple[tuple[Any, JsonSchemaMode], JsonSchemaMode, TypeAdapter[Any]]] = [
        (key, key[1], adapter) for key, adapter in expected.items()
    ]
    found, definitions = TypeAdapter.json_schemas(keys, ref_template=_REFS, schema_generator=GenerateJsonSchema)
    return definitions["$defs"], {key: schema for (key, _), schema in found.items()}


def _operation(route: Route, named: dict[tuple[Any, JsonSchemaMode], _Schema]) -> _Schema:
    operation: _Schema = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "responses": _responses(route, named),
        "security": [] if route.public is not None else [{"bearer": []}],
    }
    if route.act is not None:
        operation["description"] = f"The rules must allow `{route.act}` on `{route.resource}`."
    if parameters := [*_parameters(route)]:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": named[route.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[a-z]+", route.path.removeprefix("/v1"))
    return "_".join([route.method.lower(), *words])


def _parameters(route: Route) -> Iterable[_Schema]:
    for name in _PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    if route.query is not None:
        yield from _query_parameters(route.query)
    if route.idempotent:
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"}
        what = "A repeated request with the same key and body starts nothing twice."
        yield {"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema, "description": what}


def _query_parameters(model: type[BaseModel]) -> Iterable[_Schema]:
    schema = model.model_json_schema(ref_template=_REFS)
    for name, field in schema.get("properties", {}).items():
        described: _Schema = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": field,
        }
        if "description" in field:
            described["description"] = field["description"]
        yield described


def _responses(route: Route, named: dict[tuple[Any, JsonSchemaMode], _Schema]) -> _Schema:
    value = named.get((route.answer, "serialization"), {})
    whole = value if route.raw else _succeeded(value)
    responses: _Schema = {
        str(status): {"description": route.summary, "content": {route.media: {"schema": whole}}}
        for status in dict.fromkeys((route.status, *route.statuses))
    }
    if route.streams:
        stream = {
            "schema": {
                "type": "string",
                "description": "Server-sent events: id is the number of the event, data an event",
            }
        }
        responses["200"]["content"]["text/event-stream"] = stream
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, codes in sorted(by_status.items()):
        failed: _Schema = {"type": "object"} if route.rpc else _failed(codes)
        failure = {"description": ", ".join(codes), "content": {"application/json": {"schema": failed}}}
        responses.setdefault(str(status), failure)
    return responses


def _succeeded(value: _Schema) -> _Schema:
    return {
        "type": "object",
        "required": ["ok", "value"],
        "properties": {"ok": {"const": True}, "value": value},
        "additionalProperties": False,
    }


def _failed(codes: Sequence[str]) -> _Schema:
    error = {"allOf": [{"$ref": _REFS.format(model="ServiceError")}, {"properties": {"code": {"enum": list(codes)}}}]}
    return {
        "type": "object",
        "required": ["ok", "error"],
        "properties": {"ok": {"const": False}, "error": error, "run": {"type": "string"}},
    }
