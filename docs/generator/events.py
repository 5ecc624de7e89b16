"""The page of events: each type with its fields, from the models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from generator.markdown import code, prose, table
from generator.schemas import DIALECT, text_of
from generator.settings import sections, shown_type
from remit.core.events import EVENT, AnyEvent, Recorded
from remit.core.events.event import Event

EVENTS: tuple[type[Event], ...] = get_args(get_args(AnyEvent)[0])


def pages() -> dict[str, str]:
    """The page and the JSON Schema."""
    schema: Any = EVENT.json_schema(mode="serialization")
    return {
        "reference/events.md": _INTRODUCTION + "".join(_sections()),
        "reference/schemas/event.schema.json": text_of({"$schema": DIALECT, **schema}),
    }


def type_of(event: type[Event]) -> str:
    """The type of an event: `run.started`."""
    return str(event.model_fields["type"].default)


def comments_of(model: type[BaseModel]) -> dict[str, str]:
    """What the source says of a field, at the end of its line."""
    source = inspect.getsource(model)
    return dict(re.findall(r"^    (\w+): [^#\n]*?  # (.+)$", source, re.MULTILINE))


_INTRODUCTION = """# Events

The record of a run is a list of these events. An event is written once and never changed. Times are Unix nanoseconds. `step` is the
turn of the model and `index` the call in it, both from 0; `attempt` is the attempt of the call, from 1. Every event has these three
fields, and `type`; a table lists them only where they are always there. JSON Schema:
[event.schema.json](schemas/event.schema.json).

"""


def _sections() -> Iterator[str]:
    yield table(("event", "records"), ((f"[{code(type_of(one))}](#{_anchor(one)})", _line(one)) for one in EVENTS))
    schema: Any = TypeAdapter[Any](list[AnyEvent]).json_schema(mode="serialization")
    for event in EVENTS:
        own = schema["$defs"][event.__name__]
        yield f"## {code(type_of(event))}\n\n{prose(inspect.getdoc(event) or '')}"
        yield _fields(event, own)
    yield "## Values in events\n\n"
    yield from sections(schema, "###", but=[event.__name__ for event in EVENTS])
    yield f"## The hash chain\n\n{prose(inspect.getdoc(Recorded) or '')}"
    yield _fields(Recorded, Recorded.model_json_schema())


def _fields(model: type[BaseModel], schema: Any) -> str:
    comments = comments_of(model)
    rows: list[tuple[str, str, str, str]] = []
    for name, field in model.model_fields.items():
        if issubclass(model, Event) and (name == "type" or (name in Event.model_fields and not field.is_required())):
            continue
        kind = "an event" if name == "event" else shown_type(schema["properties"][name])
        needed = "always" if field.is_required() else "" if field.default is None else _default(field.default)
        rows.append((code(name), kind, needed, comments.get(name, "")))
    return table(("field", "type", "default", "meaning"), rows)


def _default(value: Any) -> str:
    return code(repr(value)) if isinstance(value, str | bool | int | float) and value != "" else ""


def _line(event: type[Event]) -> str:
    first = (inspect.getdoc(event) or "").split("\n\n")[0].removeprefix("Records ")
    return re.split(r"(?<=\w)\. ", " ".join(first.split()))[0].removesuffix(".")


def _anchor(event: type[Event]) -> str:
    return type_of(event).replace(".", "")
