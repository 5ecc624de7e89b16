"""What a provider needs back with its own turn: signatures of thoughts, reasoning, encrypted reasoning.

Remit does not know these members, and does not read them. It keeps every member of an answer's message that it does not use
itself, and sends it back verbatim to the model that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from remit.core import Json
from remit.runtime.models.wire.event_stream import is_array, is_object, read_json, written
from remit.runtime.models.wire.turns import escaped

DEEPEST_STATE: Final = 32

# Members of a message or call that Remit reads, or that no server takes back.
_MESSAGE: Final = frozenset(
    {"role", "content", "tool_calls", "function_call", "refusal", "audio", "annotations", "name", "logprobs"}
)
_CALL: Final = frozenset({"index", "id", "type", "function", "name", "arguments", "custom"})
_FUNCTION: Final = frozenset({"name", "arguments", "input", "description", "parameters"})
# Texts that come whole. Other texts come in fragments, which are joined.
_WHOLE = re.compile(r"signature|encrypted|(?:^|_)(?:id|type|format|status|model|role|provider|index)$")


class ProviderState:
    """Collects the state of one turn. `model` is the model that gets it back."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._message = _Members(0)
        self._calls: dict[int, dict[str, _Members]] = {}

    def add_message(self, delta: Mapping[str, Any]) -> int:
        """Keep the members of a message or delta that are not read otherwise. Returns their size in characters.

        Raises RecursionError if they are nested deeper than `DEEPEST_STATE`.
        """
        return self._message.add(_rest(delta, _MESSAGE))

    def add_call(self, number: int, item: Mapping[str, Any]) -> int:
        """The same for call `number` of the turn."""
        function = item.get("function")
        found = {"call": _rest(item, _CALL), "function": _rest(function, _FUNCTION) if is_object(function) else {}}
        size = 0
        for part, members in found.items():
            if members:
                size += self._calls.setdefault(number, {}).setdefault(part, _Members(0)).add(members)
        return size

    def text(self) -> str:
        """The state as JSON text; "" if there is none."""
        if not self._message and not self._calls:
            return ""
        calls = {
            str(number): {part: members.plain() for part, members in parts.items()}
            for number, parts in self._calls.items()
        }
        return escaped(written({"model": self._model, "message": self._message.plain(), "calls": calls}))


class SentState:
    """The state of an earlier turn, as it is sent back. It is empty for another model than `model`, and for a text that is not one."""

    def __init__(self, text: str, model: str) -> None:
        state: Json = None
        if text:
            try:
                state = read_json(text.encode())
            except ValueError:
                state = None  # a secret was replaced in it, or it was omitted
        own: Mapping[str, Json] = state if is_object(state) and state.get("model") == model else {}
        self.message: Mapping[str, Json] = _object(own.get("message"))
        self._calls: Mapping[str, Json] = _object(own.get("calls"))

    def call(self, number: int) -> Mapping[str, Json]:
        """The members of call `number`."""
        return _object(_object(self._calls.get(str(number))).get("call"))

    def function(self, number: int) -> Mapping[str, Json]:
        """The members of the function of call `number`."""
        return _object(_object(self._calls.get(str(number))).get("function"))


def _object(value: Json) -> Mapping[str, Json]:
    return value if is_object(value) else {}


def _rest(members: Mapping[str, Any], read: frozenset[str]) -> dict[str, Json]:
    """The members that are not read. An empty one says nothing."""
    return {name: value for name, value in members.items() if name not in read and value not in (None, "", [], {})}


class _Text:
    """A text that arrives in fragments."""

    def __init__(self) -> None:
        self.fragments: list[str] = []

    def plain(self) -> str:
        return "".join(self.fragments)


class _Members:
    """An object whose members arrive in fragments."""

    def __init__(self, depth: int) -> None:
        if depth > DEEPEST_STATE:
            raise RecursionError
        self._depth = depth
        self._members: dict[str, _Part | Json] = {}

    def __bool__(self) -> bool:
        return bool(self._members)

    def add(self, members: Mapping[str, Json]) -> int:
        """Add the members of one fragment. Returns their size in characters."""
        size = 0
        for name, value in members.items():
            size += len(name) + 1
            if is_object(value):
                size += self._part(name, _Members, self._depth + 1).add(value)
            elif is_array(value):
                size += self._part(name, _Items, self._depth + 1).add(value)
            elif isinstance(value, str) and not _WHOLE.search(name):
                self._part(name, _Text).fragments.append(value)
                size += len(value)
            elif value not in (None, "") or name not in self._members:
                self._members[name] = value
                size += len(value) if isinstance(value, str) else 8
        return size

    def _part(self, name: str, kind: Callable[..., _P], *given: int) -> _P:
        part = self._members.get(name)
        if not isinstance(part, cast("type[_P]", kind)):
            part = self._members[name] = kind(*given)
        return part

    def plain(self) -> Json:
        return {name: part.plain() if isinstance(part, _PARTS) else part for name, part in self._members.items()}


class _Items:
    """A list whose items arrive in fragments. Fragments of one item have the same `index` and type."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: list[_Members | Json] = []
        self._by_index: dict[tuple[int, str], _Members] = {}

    def add(self, items: Sequence[Json]) -> int:
        size = 0
        for item in items:
            if not is_object(item):
                self._items.append(item)
                size += len(written(item))
                continue
            index = item.get("index")
            place = (index if isinstance(index, int) else -1, str(item.get("type", "")))
            members = self._by_index.get(place) if place[0] >= 0 else None
            if members is None:
                members = self._by_index[place] = _Members(self._depth + 1)
                self._items.append(members)
            size += members.add(item) + 2
        return size

    def plain(self) -> Json:
        return [item.plain() if isinstance(item, _Members) else item for item in self._items]


_Part: TypeAlias = _Text | _Members | _Items
_PARTS: Final = (_Text, _Members, _Items)
_P = TypeVar("_P", _Text, _Members, _Items)
