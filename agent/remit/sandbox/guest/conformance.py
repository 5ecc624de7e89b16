"""Describes functions by JSON Schemas, and tries examples on their types and signatures, without calling them.

Standard library only (and pydantic, for the tool's own types). It runs where the tool was imported, so what it reports is
for the author of the tool, and is never a reason to allow anything.
"""

from __future__ import annotations

import inspect
import json
import time
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import decoding
else:
    try:
        from remit.sandbox.guest import decoding  # in the process of the broker, for host tools
    except ImportError:
        import decoding

# What a function that returns bytes gives: one block with an image or a file.
CONTENT: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
SECONDS = 3.0  # for all examples of one function; a validator may be slow
_LONGEST = 500  # characters of a message
_HIDDEN: dict[str, Any] = {"idempotency_key": "example", "resources": [], "permitted": {}}

# Errors of pydantic that a JSON Schema could have said: a wrong type (`int_type`), one of these, or a bound.
_STRUCTURE = frozenset(
    {
        "bool_parsing",
        "enum",
        "extra_forbidden",
        "float_parsing",
        "int_parsing",
        "invalid_key",
        "is_instance_of",
        "literal_error",
        "missing",
        "missing_argument",
        "none_required",
        "unexpected_keyword_argument",
        "union_tag_invalid",
        "union_tag_not_found",
    }
)
_BOUNDS = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "too_long",
        "too_short",
    }
)
# What in a schema of pydantic changes a value before its bounds are compared.
_CHANGES = ("function-", "'strip_whitespace': True", "'to_lower': True", "'to_upper': True")


def described(function: Callable[..., Any]) -> dict[str, Any]:
    """The `description`, `input`, `output` and `hidden` of a function; only `problem` if it cannot be an action."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above
    from pydantic.errors import PydanticUserError  # noqa: PLC0415
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415
    from pydantic_core import SchemaError  # noqa: PLC0415

    class Untitled(GenerateJsonSchema):
        """Without titles of fields, which would only repeat the names."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    try:
        hints = typing.get_type_hints(function, include_extras=True)
        shown: list[str] = []
        hidden: list[str] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if not decoding.is_named(parameter):
                return {"problem": f"parameter {name!r} cannot be passed by name"}
            if name not in hints:
                return {"problem": f"parameter {name!r} has no type"}
            (hidden if name in decoding.HIDDEN else shown).append(name)
        if "return" not in hints:
            return {"problem": "it has no return type"}
        schema = decoding.model_of(function, shown).model_json_schema(schema_generator=Untitled)
        schema.pop("title", None)
        result, returned = CONTENT, decoding.collected(function, hints["return"])
        if returned is not bytes:  # as Action.encode asks: what a generator yields is a list in each case
            result = TypeAdapter(returned).json_schema(mode="serialization", schema_generator=Untitled)
    except (PydanticUserError, TypeError, NameError) as failure:
        return {"problem": _text_of(failure).splitlines()[0]}
    except SchemaError as failure:  # its last line says what is wrong, the others where
        return {"problem": f"a type cannot be built: {_text_of(failure).strip().splitlines()[-1].strip()}"}
    described = {"description": inspect.getdoc(function) or "", "input": schema, "output": result, "hidden": hidden}
    try:
        return typing.cast("dict[str, Any]", json.loads(json.dumps(described, allow_nan=False)))
    except ValueError:
        return {"problem": "a default is not a finite number, which JSON cannot represent"}


def describe(module: types.ModuleType) -> dict[str, Any]:
    """The schemas of every public function of main.py; only `problem` for one that cannot be an action."""
    return {name: described(getattr(module, name)) for name in decoding.public(module)}


def of_module(module: Any, examples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What became of the examples of each function of main.py, by its name; see `tried`."""
    return {name: tried(decoding.action(module, name), **given) for name, given in examples.items()}


def tried(
    called: decoding.Action, arguments: Sequence[Mapping[str, Any]], results: Sequence[Any]
) -> dict[str, list[dict[str, Any]]]:
    """What became of each example: {} for arguments with which the function could be called, `value` for a result as JSON data.

    Otherwise `kind` and `message`. `words`: the types refuse the example for a reason that a JSON Schema cannot say, such as a
    validator of the author; `type`: for another reason; `crash`: a validator raised something else; `signature`: the function
    does not take what was decoded; `result`: the result could not be written as JSON. Shorter lists if the time was used up.
    """
    until = time.monotonic() + SECONDS
    outcomes: dict[str, list[dict[str, Any]]] = {"arguments": [], "results": []}
    for kind, examples, attempt in (("arguments", arguments, _argument), ("results", results, _result)):
        for example in examples:
            if time.monotonic() > until:
                break
            outcomes[kind].append(attempt(called, example))
    return outcomes


def _argument(called: decoding.Action, example: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(called.function)
    hidden = {name: value for name, value in _HIDDEN.items() if name in signature.parameters}
    try:
        decoded = called.decode({**example, **hidden})
    except Exception as refused:  # noqa: BLE001 - a validator of the author may raise anything
        return {"kind": _kind(refused.__cause__ or refused, called), "message": _text_of(refused)}
    try:
        signature.bind(**decoded.arguments)
    except TypeError as failure:
        return {"kind": "signature", "message": _text_of(failure)}
    return {}


def _kind(failure: BaseException, called: decoding.Action) -> str:
    errors = getattr(failure, "errors", None)
    if not callable(errors):
        # Here a validator has no grant, so it may fail where it reads a file or asks a host.
        return "words" if isinstance(failure, (ValueError, AssertionError, OSError)) else "crash"
    if "'type': 'json'" in called.types:  # JSON Schema does not look into a text
        return "words"
    changed = any(word in called.types for word in _CHANGES)
    kinds = [_kind_of(error, changed=changed) for error in typing.cast("list[dict[str, Any]]", errors())]
    return "words" if "words" in kinds else "type"


def _kind_of(error: Mapping[str, Any], *, changed: bool) -> str:
    """`type` if the JSON Schema of the value could have said what is wrong with it."""
    name = error["type"]
    if error["loc"] and error["loc"][-1] == "[key]":  # JSON Schema has no types of keys
        return "words"
    if name in _BOUNDS:
        of_text = isinstance(error["input"], str) and not name.startswith("string")  # a number written as text
        return "words" if changed or of_text else "type"
    return "type" if name.endswith("_type") or name in _STRUCTURE else "words"


def _result(called: decoding.Action, example: Any) -> dict[str, Any]:
    """The example as a value of the return type, as JSON data."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - 60 ms, and only a pin needs it

    hint = typing.get_type_hints(called.function, include_extras=True).get("return", Any)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = TypeAdapter(hint).validate_json(json.dumps(example))
        except Exception as failure:  # noqa: BLE001 - as above; the schema of a result may differ from what its type accepts
            return {"kind": "words", "message": _text_of(failure)}
        try:
            written = called.encode(value)
            json.dumps(written, allow_nan=False)
        except Exception as failure:  # noqa: BLE001 - so may a serializer
            return {"kind": "result", "message": _text_of(failure)}
    return {"value": written}


def _text_of(failure: BaseException) -> str:
    try:
        return f"{failure}".encode("utf-8", "replace").decode()[:_LONGEST]
    except Exception:  # noqa: BLE001 - an exception of the author may have any text
        return type(failure).__name__
