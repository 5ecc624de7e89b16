"""A run for somebody who may not see what it was about: shapes stay, values are replaced.

What stays is what an event's own type says cannot be anybody's data: one of a closed set of words, a number that Remit counted,
and the few texts in `KEPT`, which are configuration. Everything else, and every text that a later version adds, becomes a
placeholder; equal values become equal placeholders, under a key that nobody keeps. The copy is a chain of its own, under
another run's id, and says of itself that its content was replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel

from remit.core import Call, Json, MissingApproval, ProposedCall, Subjects, Succeeded
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    AttemptEnded,
    CallAnswered,
    ModelRequested,
    ModelResponded,
    Recorded,
    RunStarted,
)
from remit.core.parsing import load_json
from remit.journal import OWN_DETAILS, Chain, ChainLink, link
from remit.workspace import Bundle

_Model = TypeVar("_Model", bound=BaseModel)

# Texts that are configuration: of a model, a version, an environment, an action, a role, a label, an agent.
KEPT: Final[dict[type[BaseModel], frozenset[str]]] = {
    RunStarted: frozenset({"model", "env", "version", "actions"}),
    ModelRequested: frozenset({"model"}),
    ModelResponded: frozenset({"response_model", "finish"}),
    Call: frozenset({"action"}),
    Subjects: frozenset({"agent"}),
    MissingApproval: frozenset({"role"}),
    ApprovalGranted: frozenset({"role"}),
    AttemptEnded: frozenset({"labels"}),
    Succeeded: frozenset({"labels"}),
    CallAnswered: frozenset({"labels_removed"}),
}
# Texts that stay where a manifest has that very word: a model may ask for an action by any name, and a tool fail with any.
DECLARED: Final[dict[type[BaseModel], frozenset[str]]] = {
    ProposedCall: frozenset({"name"}),
    AttemptEnded: frozenset({"error"}),
}
# Names that Remit itself puts into an error's details and into the facts of a decision.
OURS: Final = OWN_DETAILS | {"rules", "resources", "at"}
# What may stand before the colon of a text that is no resource of a tool.
PREFIXES: Final = frozenset({"http", "https", "file", "store", "none", "user", "agent", "role", "probe", "sha256"})


@dataclass(frozen=True, kw_only=True)
class KeptWords:
    """The words of the tools that a run stood on: names of their arguments and of members of their results, the names of
    their actions and errors, the kinds of their resources."""

    members: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()


def declared(books: Iterable[Bundle]) -> KeptWords:
    """The words of those rulebooks' pinned tools."""
    tools = [tool for book in books for tool in book.workspace.tools.values() if tool.pin is not None]
    schemas = [schema for tool in tools for schema in (tool.pin.schemas.values() if tool.pin else ())]
    actions = [(tool.manifest.name, action) for tool in tools for action in tool.manifest.actions.values()]
    return KeptWords(
        members=frozenset(
            name for schema in schemas for side in (schema.input, schema.output) for name in _names(side)
        ),
        words=frozenset(f"{tool}__{action.name}" for tool, action in actions)
        | {error for _, action in actions for error in action.errors},
        kinds=frozenset(template.kind for _, action in actions for template in action.templates),
    )


def anonymized(records: Sequence[Recorded], words: KeptWords, *, run: str) -> Chain:
    """The run as `run`, with every value replaced."""
    shaping = _Shaping(words, records[0].run, run)
    links: list[ChainLink] = []
    for item in records:
        if item.event is None:
            continue
        event = shaping.event(item.event)
        prev = links[-1].hash if links else ""
        links.append(link(run, len(links), item.at, prev, event, secrets.token_hex(16)))
    return Chain(run=run, links=tuple(links), head=(links[-1].seq, links[-1].hash))


def _names(schema: Json) -> Iterator[str]:
    """The members that a JSON Schema names, at any depth."""
    if isinstance(schema, dict):
        members = cast("dict[str, Json]", schema)
        yield from properties if isinstance(properties := members.get("properties"), dict) else ()
        for member in members.values():
            yield from _names(member)
    elif isinstance(schema, list):
        for member in cast("Sequence[Json]", schema):
            yield from _names(member)


@cache
def _closed(kind: type[BaseModel], name: str) -> frozenset[object]:
    """The words that a field may hold, where its type is a closed set."""
    return frozenset(_literals(kind.model_fields[name].annotation))


def _literals(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from _literals(part)


class _Shaping:
    """Placeholders of one export."""

    def __init__(self, words: KeptWords, run: str, new: str) -> None:
        self._members = words.members | OURS
        self._words, self._kinds = words.words, words.kinds | PREFIXES
        self._run, self._new = run, new
        self._key = secrets.token_bytes(32)

    def event(self, event: AnyEvent) -> AnyEvent:
        shaped = self._model(event)
        return shaped.model_copy(update={"content": "anonymized"}) if isinstance(shaped, RunStarted) else shaped

    def _model(self, model: _Model) -> _Model:
        fields = type(model).model_fields
        return model.model_copy(update={name: self._field(model, name, getattr(model, name)) for name in fields})

    def _field(self, model: BaseModel, name: str, value: object) -> object:
        if isinstance(value, BaseModel):
            return self._model(value)
        if isinstance(value, tuple):
            return tuple(self._field(model, name, item) for item in cast("tuple[object, ...]", value))
        if isinstance(value, dict) or type(model).model_fields[name].annotation is Json:  # whatever a tool returned
            return self._data(value)
        if not isinstance(value, str):
            return value
        if isinstance(model, ProposedCall) and name == "arguments":
            return self._raw(value)
        return self._said(type(model), name, value)

    def _said(self, kind: type[BaseModel], name: str, text: str) -> str:
        """The text of one field of an event."""
        if text == self._run:
            return self._new
        if name == "rulebook":
            return ""  # the copy carries none
        stays = name in KEPT.get(kind, ()) or text in _closed(kind, name)
        stays = stays or (name in DECLARED.get(kind, ()) and text in self._words)
        return text if stays else self._text(text)

    def _raw(self, text: str) -> str:
        """JSON text with its values replaced; a placeholder where it is no JSON."""
        try:
            return json.dumps(self._data(load_json(text)), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            return self._text(text)

    def _data(self, value: Json) -> Json:
        if isinstance(value, dict):
            members = cast("dict[str, Json]", value)
            return {key if key in self._members else self._text(key): self._data(item) for key, item in members.items()}
        if isinstance(value, list):
            return [self._data(item) for item in cast("Sequence[Json]", value)]
        if isinstance(value, bool):
            return False
        if isinstance(value, int | float):
            return type(value)(0)
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        """`file:docs/a.md` keeps its kind and depth; any other text keeps its length."""
        if not text:
            return ""
        kind, colon, rest = text.partition(":")
        if colon and kind in self._kinds and not any(char.isspace() for char in text):
            return f"{kind}:{'/'.join(self._mark(part) for part in rest.split('/'))}"
        return f"[{self._mark(text)} {len(text)}]"

    def _mark(self, text: str) -> str:
        return text if text in ("", "*", "**") else hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:8]
