"""Makes a copy of a run without its data, for example for a vendor: the structure stays, values become placeholders.

Kept are values that cannot be data by the type of the event's field: a value of a closed set, a number that Remit counted,
and the few texts in `KEPT`, which are configuration. Everything else becomes a placeholder, also every text field that a
later version adds. Equal values get equal placeholders, by a key that is not stored. The copy has its own run id and its
own hash chain, and its `content` is "anonymized".
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
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    ModelSettings,
    Observation,
    Recorded,
    RunStarted,
)
from remit.core.parsing import load_json
from remit.journal import OWN_DETAILS, Chain, ChainLink, link
from remit.workspace import Bundle

_Model = TypeVar("_Model", bound=BaseModel)

# Texts that are configuration: of a model, a version, an environment, an action, a role, a label, an agent.
KEPT: Final[dict[type[BaseModel], frozenset[str]]] = {
    RunStarted: frozenset({"model", "fallbacks", "env", "version", "actions"}),
    Observation: frozenset({"enforce"}),
    ModelRequested: frozenset({"model"}),
    ModelSettings: frozenset({"reasoning_effort"}),
    ModelFailed: frozenset({"model"}),
    ModelResponded: frozenset({"response_model", "finish"}),
    Call: frozenset({"action"}),
    Subjects: frozenset({"agent"}),
    MissingApproval: frozenset({"role"}),
    ApprovalGranted: frozenset({"role"}),
    AttemptBegun: frozenset({"given"}),
    AttemptEnded: frozenset({"labels"}),
    Succeeded: frozenset({"labels"}),
    CallAnswered: frozenset({"labels", "labels_removed"}),
}
# Texts that are kept only if a manifest declares that name: a model can propose any name, a tool can report any error.
DECLARED: Final[dict[type[BaseModel], frozenset[str]]] = {
    ProposedCall: frozenset({"name"}),
    AttemptEnded: frozenset({"error"}),
}
# Member names that Remit itself uses in the details of an error and in the facts of a decision.
OWN_NAMES: Final = OWN_DETAILS | {"rules", "resources", "at"}
# Prefixes of texts with a colon that are not resources of a tool.
PREFIXES: Final = frozenset(
    {"http", "https", "file", "store", "none", "user", "agent", "service", "role", "probe", "sha256"}
)


@dataclass(frozen=True, kw_only=True)
class KeptWords:
    """The declared names of a run's tools, which are kept.

    `members` are argument names and member names of results, `words` the names of actions and errors, `kinds` the kinds of
    resources.
    """

    members: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()


def declared_words(bundles: Iterable[Bundle]) -> KeptWords:
    """The declared names of the pinned tools in these policy bundles."""
    tools = [tool for bundle in bundles for tool in bundle.workspace.tools.values() if tool.pin is not None]
    schemas = [schema for tool in tools for schema in (tool.pin.schemas.values() if tool.pin else ())]
    actions = [(tool.manifest.name, action) for tool in tools for action in tool.manifest.actions.values()]
    return KeptWords(
        members=frozenset(
            name for schema in schemas for side in (schema.input, schema.output) for name in _member_names(side)
        ),
        words=frozenset(f"{tool}__{action.name}" for tool, action in actions)
        | {error for _, action in actions for error in action.errors},
        kinds=frozenset(template.kind for _, action in actions for template in action.templates),
    )


def anonymize_run(records: Sequence[Recorded], words: KeptWords, *, run: str) -> Chain:
    """A copy of the run with the id `run`, with every value replaced that is not kept."""
    anonymizer = _Anonymizer(words, records[0].run, run)
    links: list[ChainLink] = []
    for item in records:
        if item.event is None:
            continue
        event = anonymizer.event(item.event)
        prev = links[-1].hash if links else ""
        links.append(link(run, len(links), item.at, prev, event, secrets.token_hex(16)))
    return Chain(run=run, links=tuple(links), head=(links[-1].seq, links[-1].hash))


def _member_names(schema: Json) -> Iterator[str]:
    """The member names in a JSON Schema, at any depth."""
    if isinstance(schema, dict):
        members = cast("dict[str, Json]", schema)
        yield from properties if isinstance(properties := members.get("properties"), dict) else ()
        for member in members.values():
            yield from _member_names(member)
    elif isinstance(schema, list):
        for member in cast("Sequence[Json]", schema):
            yield from _member_names(member)


@cache
def _allowed_values(kind: type[BaseModel], name: str) -> frozenset[object]:
    """The values that a field may hold, if its type is a closed set; else empty."""
    return frozenset(_literals(kind.model_fields[name].annotation))


def _literals(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from _literals(part)


class _Anonymizer:
    """Replaces the values of one run; equal values get equal placeholders within one export only."""

    def __init__(self, words: KeptWords, run: str, new: str) -> None:
        self._members = words.members | OWN_NAMES
        self._words, self._kinds = words.words, words.kinds | PREFIXES
        self._run, self._new = run, new
        self._key = secrets.token_bytes(32)

    def event(self, event: AnyEvent) -> AnyEvent:
        copy = self._model(event)
        return copy.model_copy(update={"content": "anonymized"}) if isinstance(copy, RunStarted) else copy

    def _model(self, model: _Model) -> _Model:
        fields = type(model).model_fields
        return model.model_copy(update={name: self._field(model, name, getattr(model, name)) for name in fields})

    def _field(self, model: BaseModel, name: str, value: object) -> object:
        if isinstance(value, BaseModel):
            return self._model(value)
        if isinstance(value, tuple):
            return tuple(self._field(model, name, item) for item in cast("tuple[object, ...]", value))
        if (
            isinstance(value, dict) or type(model).model_fields[name].annotation is Json
        ):  # any JSON, for example a result
            return self._data(value)
        if not isinstance(value, str):
            return value
        if isinstance(model, ProposedCall) and name == "arguments":
            return self._raw(value)
        return self._text_field(type(model), name, value)

    def _text_field(self, kind: type[BaseModel], name: str, text: str) -> str:
        """The text of one field of an event, or its placeholder."""
        if text == self._run:
            return self._new
        if name == "bundle":
            return ""  # the copy has no policy bundle
        is_kept = name in KEPT.get(kind, ()) or text in _allowed_values(kind, name)
        is_kept = is_kept or (name in DECLARED.get(kind, ()) and text in self._words)
        return text if is_kept else self._text(text)

    def _raw(self, text: str) -> str:
        """JSON text with its values replaced; one placeholder if it is not valid JSON."""
        try:
            return json.dumps(self._data(load_json(text)), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            return self._text(text)

    def _data(self, value: Json) -> Json:
        """Any JSON, or a member of a dict of models."""
        if isinstance(value, BaseModel):
            return cast("Json", self._model(value))
        if isinstance(value, dict):
            members = cast("dict[str, Json]", value)
            return {key if key in self._members else self._text(key): self._data(item) for key, item in members.items()}
        if isinstance(value, list | tuple):  # a member of a dict of tuples, too
            items = [self._data(item) for item in cast("Sequence[Json]", value)]
            return cast("Json", tuple(items)) if isinstance(value, tuple) else items
        if isinstance(value, bool):
            return False
        if isinstance(value, int | float):
            return type(value)(0)
        return None if value is None else self._text(str(value))

    def _text(self, text: str) -> str:
        """The placeholder of a text: `file:docs/a.md` keeps its kind and depth, any other text its length."""
        if not text:
            return ""
        kind, colon, rest = text.partition(":")
        if colon and kind in self._kinds and not any(char.isspace() for char in text):
            return f"{kind}:{'/'.join(self._mark(part) for part in rest.split('/'))}"
        return f"[{self._mark(text)} {len(text)}]"

    def _mark(self, text: str) -> str:
        return text if text in ("", "*", "**") else hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:8]
