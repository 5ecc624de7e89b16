"""Decodes the arguments of a call into the types of its function, and its result into JSON.

Standard library only, and pydantic where a type needs it (60 ms to import). All annotations of a function are one pydantic
model: `described` of conformance.py publishes its JSON Schema, and `Action.decode` validates with it. So both mean the same.
"""

from __future__ import annotations

import base64
import enum
import inspect
import json
import re
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

HIDDEN = ("idempotency_key", "resources", "permitted")  # parameters that the broker fills in; no model sees them
_LONGEST, _MOST = 2_000, 3  # characters of a message, and reasons in one
_DEEPEST = 8
_PLAIN = (str, int, bool, None, type(None), list, dict, Any)
# What in a schema of pydantic runs code of an author.
_CODE = re.compile(r"'function-|'post_init': (?:True|')|'custom_init': True|'(?:default_factory|missing)': <")


class NotEncoded(Exception):
    """JSON has nothing for a value that the function returned."""


class Refused(Exception):
    """The annotations of the function do not accept the arguments.

    The text is the author's. `argument` is the path to the value, "" if the cause is no single argument.
    """

    def __init__(self, message: str, argument: str = "") -> None:
        self.argument = argument
        super().__init__(message)


@dataclass(frozen=True)
class Decoded:
    """The arguments of one call in the types of the function. `model` holds them all; None if nothing needed a conversion."""

    arguments: dict[str, Any]
    model: Any = None


class Action:
    """One function, with validators of arguments and result. With a parameter without a type, or of any name, it gets them as they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        hints = typing.get_type_hints(function, include_extras=True)
        returned = collected(function, hints.pop("return", Any))
        parameters = inspect.signature(function).parameters
        typed = all(name in hints and is_named(parameter) for name, parameter in parameters.items())
        self._names = list(parameters)
        self._floats = [name for name, hint in hints.items() if _is_float(hint)]
        plain = all(_is_plain(hint) or _is_float(hint) for hint in hints.values()) and not any(
            _is_field(parameter.default) for parameter in parameters.values()
        )
        self._model: Any = None if plain or not typed else model_of(function, self._names)
        fields = () if self._model is None else self._model.model_fields.values()
        # The default of these is None, which their types need not accept.
        self._without = [item.alias for item in fields if item.default is None]
        self._is_content = returned is bytes
        self._out_of: Any = None if self._is_content or _is_plain(returned, floats=True) else _adapter(returned)
        self._examples: list[tuple[Any, str]] = []

    @property
    def runs_code(self) -> bool:
        """True if decoding runs more than this file: pydantic, and whatever the author gave it."""
        return self._model is not None

    def decode(self, arguments: Mapping[str, Any]) -> Decoded:
        """The arguments in the types of the function.

        Raises:
            Refused: an annotation does not accept them.
        """
        given = dict(arguments)
        if self._model is None:
            for name in self._floats:
                if type(given.get(name)) is int:
                    given[name] = float(given[name])
            return Decoded(given)
        for name in self._without:
            if name in given and given[name] is None:
                del given[name]
        made = validated(self._model, lambda: self._model.__pydantic_validator__.validate_json(json.dumps(given)))
        return Decoded({name: getattr(made, f"argument_{at}") for at, name in enumerate(self._names)}, made)

    def as_json(self, decoded: Decoded, names: typing.Collection[str]) -> dict[str, Any] | None:
        """Those of the decoded arguments as JSON, by name, without those that JSON cannot represent; None: all are as given."""
        if decoded.model is None:
            return None
        values: dict[str, Any] = {}
        for at, name in enumerate(self._names):
            published = self._model.model_fields[f"argument_{at}"].alias or name
            if published in names:
                with suppress(Exception), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    shown = decoded.model.model_dump(mode="json", by_alias=True, include={f"argument_{at}"})
                    json.dumps(shown, allow_nan=False)
                    values[published] = next(iter(shown.values()))
        return values

    def call(self, decoded: Decoded, gathered: Callable[[Any], Any] = list) -> Any:
        """Call the function; return its result as JSON data. `gathered` makes a list of what a generator yields."""
        result = self.function(**decoded.arguments)
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            result = gathered(result)
        if inspect.iscoroutine(result):
            import asyncio  # noqa: PLC0415 - 25 ms, and few tools need it

            result = asyncio.run(result)
        return self.encode(result)

    def encode(self, result: Any) -> Any:
        """A value that the function returned, as JSON data. Raises NotEncoded if its type has no JSON for it."""
        if self._is_content and isinstance(result, bytes):
            return content_blocks(result)
        if self._out_of is None:
            return result
        try:
            return self._out_of.dump_python(result, mode="json", by_alias=True)
        except (TypeError, ValueError) as failure:  # bytes that are no text, or a value of another type
            raise NotEncoded(f"the result is not JSON: {type(failure).__name__}: {_text_of(failure)}") from failure

    @property
    def types(self) -> str:
        """The types of the arguments, as pydantic writes them; "" if nothing needs a conversion."""
        return "" if self._model is None else repr(self._model.__pydantic_core_schema__)

    def warm(self) -> None:
        """Run the validators once on an example, so that a call does not have to copy the memory that they touch.

        Code of an author is not run: it may do anything, and this is not a call.
        """
        if not self._examples:
            self._examples = [_example_of(item) for item in (self._model, self._out_of) if item is not None]
        for validator, example in self._examples:
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if example:
                    made = validator.validate_json(example)
                    json.dumps(validator.dump_python(made, mode="json", by_alias=True))


_IMAGES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))


def content_blocks(data: bytes) -> list[dict[str, str]]:
    """Bytes as the block of an image, or else of a file, as LangChain writes one."""
    image = next((kind for magic, kind in _IMAGES if data.startswith(magic)), "")
    image = "" if image == "webp" and data[8:12] != b"WEBP" else image
    named = ("image", f"image/{image}") if image else ("file", "application/octet-stream")
    return [{"type": named[0], "base64": base64.b64encode(data).decode(), "mime_type": named[1]}]


# ---- the functions of main.py ---------------------------------------------------------------------------------------


_actions: dict[str, Action] = {}


def action(module: types.ModuleType, name: str) -> Action:
    """The action of that name, built at its first use. Raises what its types raise."""
    if name not in _actions:
        function = getattr(module, name, None)
        if not callable(function):
            raise AttributeError(f"main.py has no function {name!r}")
        _actions[name] = Action(function)
    return _actions[name]


def _rehearsal() -> dict[str, str]:
    return {"text": "é"}


REHEARSAL = types.ModuleType("rehearsal")
REHEARSAL.rehearsal = _rehearsal  # type: ignore[attr-defined]


def forget(name: str) -> None:
    """Forget an action that is not the tool's: that of the rehearsal."""
    _actions.pop(name, None)


def actions() -> list[Action]:
    """The actions that were built so far."""
    return list(_actions.values())


def public(module: types.ModuleType) -> list[str]:
    """The functions that main.py itself defines, without those that begin with an underscore."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


# ---- types -----------------------------------------------------------------------------------------------------------


def model_of(function: Callable[..., Any], names: list[str]) -> Any:
    """A pydantic model with a field for each of these parameters, whose alias is its name: it may be `model_config` or `_x`."""
    from pydantic import create_model  # noqa: PLC0415 - 60 ms, so only where a type needs it

    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    published = {f"argument_{at}": name for at, name in enumerate(names)}
    fields: dict[str, Any] = {
        field: (_by_value(hints[name]), _default(parameters[name], hints[name])) for field, name in published.items()
    }

    def alias(field: str) -> str:
        return published.get(field, field)

    config: Any = {"extra": "forbid", "alias_generator": alias}
    return create_model(function.__name__, __config__=config, **fields)


def _default(parameter: inspect.Parameter, hint: Any) -> Any:
    """The default of a parameter: its own, or that of `Annotated[…, Field(default=…)]`; `...` if it has none."""
    if parameter.default is not parameter.empty:
        return parameter.default
    of_fields = (
        item.default for item in getattr(hint, "__metadata__", ()) if _is_field(item) and not item.is_required()
    )
    # pydantic finds a factory by itself; a default would hide it.
    return next((default for default in of_fields if type(default).__name__ != "PydanticUndefinedType"), ...)


def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above

    return TypeAdapter(hint)


def collected(function: Callable[..., Any], hint: Any) -> Any:
    """The type of the result: of a generator, the list of what it yields."""
    generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return list[(typing.get_args(hint) or (Any,))[0]] if generates else hint  # type: ignore[misc]


def is_named(parameter: inspect.Parameter) -> bool:
    """True if the parameter can be passed by its name."""
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _is_field(default: Any) -> bool:
    """True for a default such as `Field(ge=1)`, which is an annotation. Its type is known by name, without pydantic."""
    return type(default).__name__ == "FieldInfo"


def _by_value(hint: Any) -> Any:
    """The type, with each literal of enum members also accepting their values, which its schema publishes."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        members = {part.value: part for part in parts if isinstance(part, enum.Enum)}
        return _member(hint, members) if members else hint
    if origin is typing.Annotated:
        return cast("Any", typing.Annotated)[(_by_value(parts[0]), *parts[1:])]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_by_value, parts))]  # noqa: UP007 - the parts are known at run time only
    if origin in (list, dict, set, frozenset, tuple):
        return types.GenericAlias(cast("type", origin), tuple(map(_by_value, parts)))
    return hint


def _member(hint: Any, members: Mapping[Any, Any]) -> Any:
    from pydantic import BeforeValidator  # noqa: PLC0415 - as above

    def member(value: Any) -> Any:
        return members.get(value, value) if isinstance(value, (str, int)) else value

    return typing.Annotated[hint, BeforeValidator(member)]


def _is_float(hint: Any) -> bool:
    return hint is float or (typing.get_origin(hint) in (typing.Union, types.UnionType) and _only_float(hint))


def _only_float(hint: Any) -> bool:
    return set(typing.get_args(hint)) == {float, type(None)}


def _is_plain(hint: Any, *, floats: bool = False, seen: tuple[Any, ...] = ()) -> bool:
    """True if each JSON value that the type accepts is already a value of the type, and no annotation has more to say.

    `floats`: a whole number counts as a `float`, too. `seen` are the types around it.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return all(isinstance(item, str) for item in parts[1:]) and _is_plain(parts[0], floats=floats, seen=seen)
    if origin is typing.Literal:
        return all(type(value) in (str, int, bool, type(None)) for value in parts)
    if typing.is_typeddict(hint):
        members = typing.get_type_hints(hint, include_extras=True).values()
        inside = (*seen, hint)
        return hint in seen or (
            not hasattr(hint, "__pydantic_config__")
            and all(_is_plain(part, floats=floats, seen=inside) for part in members)
        )
    if origin is dict and parts[0] is not str:
        return False
    if origin in (list, dict, typing.Union, types.UnionType, typing.Required, typing.NotRequired):
        return all(_is_plain(part, floats=floats, seen=seen) for part in parts)
    return hint in _PLAIN or (floats and hint is float)


# ---- refusals --------------------------------------------------------------------------------------------------------


def validated(model: Any, validate: Callable[[], Any]) -> Any:
    """What `validate` returns: an instance of the model.

    Raises:
        Refused: a validator raised anything at all.
    """
    try:
        return validate()
    except MemoryError:
        raise
    except BaseException as failure:
        raise _refused(failure, model) from failure


def _refused(failure: BaseException, model: Any) -> Refused:
    """The refusal for whatever a validator raised: the author's sentence, without the value and without pydantic's frame."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    if not isinstance(failure, ValidationError):
        text = _text_of(failure)
        return Refused(f"{type(failure).__name__}: {text}" if text else type(failure).__name__)
    known = _names_in(model)
    reasons: list[str] = []
    places: list[str] = []
    for error in failure.errors(include_url=False, include_input=False)[:_MOST]:
        raised = error.get("ctx", {}).get("error")
        text = _text_of(raised) if isinstance(raised, Exception) else ""
        # Other parts of the place are keys that the model wrote, or names of pydantic's own.
        place = ".".join(str(part) for part in error["loc"] if isinstance(part, int) or part in known)
        places.append(place)
        reasons.append(f"{place}: {text or error['msg']}" if place else text or error["msg"])
    return Refused("; ".join(dict.fromkeys(reasons))[:_LONGEST], places[0])


def _names_in(model: Any) -> set[str]:
    """The names of all properties in the schema of the model."""
    names = {item.alias for item in model.model_fields.values() if item.alias}
    with suppress(Exception):
        schema = model.model_json_schema(by_alias=True)
        for part in (schema, *schema.get("$defs", {}).values()):
            names |= set(part.get("properties", {}))
    return names


def _text_of(failure: BaseException) -> str:
    try:
        return str(failure).encode("utf-8", "replace").decode()[:_LONGEST]
    except Exception:  # noqa: BLE001 - a tool's own __str__ may raise anything
        return ""


# ---- examples --------------------------------------------------------------------------------------------------------


def _example_of(typed: Any) -> tuple[Any, str]:
    """A validator, and JSON text that it accepts; "" if none was found, or if it would run code of an author."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above

    adapter: Any = TypeAdapter(typed) if isinstance(typed, type) else typed
    with suppress(Exception):
        if not _CODE.search(repr(adapter.core_schema)):
            schema = adapter.json_schema(by_alias=True)
            example = json.dumps(_example(schema, schema.get("$defs", {}), 0))
            adapter.validate_json(example)
            return adapter, example
    return adapter, ""


def _example(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError
    if "$ref" in schema:
        return _example(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth + 1)
    for choices in (schema.get("anyOf"), schema.get("allOf"), schema.get("oneOf")):
        if choices:
            return _example(choices[0], definitions, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _example(part, definitions, depth + 1) for key, part in schema.get("properties", {}).items()}
        case "array":
            items = schema.get("items")
            return [_example(items, definitions, depth + 1)] if items else []
        case "string":
            return "2026-01-02" if schema.get("format") == "date" else "x" * schema.get("minLength", 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return None
