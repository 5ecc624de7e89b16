"""The arguments of a decided call: nothing can change them, and they are compared by value and type.

Python treats `1`, `1.0` and `True` as equal, and a list with two owners changes for both. So the decided arguments are kept
as JSON texts, every reader gets its own copy, and two values are equal only if their types are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from remit.core.calls import Json
from remit.core.errors import Refusal

DEEPEST_VALUE: Final = 200  # levels; more than any decided argument has, and Python's stack ends near 1,000
_PLAIN: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of one call, which never change: each name with its value as JSON text."""

    texts: tuple[tuple[str, str], ...]

    @staticmethod
    def of(arguments: Mapping[str, Json]) -> Arguments:
        """Keep these arguments. Raises Refusal `invalid_arguments` if a value, or a value inside one, is not a JSON value."""
        return Arguments(texts=tuple((name, _written(value)) for name, value in arguments.items()))

    def copy(self) -> dict[str, Json]:
        """The arguments as new objects, which only the caller has."""
        return {name: json.loads(text) for name, text in self.texts}

    def differences(self, given: Mapping[str, Json], *, ignored: Iterable[str] = ()) -> list[str]:
        """How `given` differs from these arguments, one phrase for each name; `ignored` names may be added."""
        return [*self._changed(given), *self._added(given, frozenset(ignored))]

    def _changed(self, given: Mapping[str, Json]) -> Iterator[str]:
        for name, text in self.texts:
            if name not in given:
                yield f"{name!r} was removed"
            elif not _same(text, given[name]):
                yield f"{name!r} was changed"

    def _added(self, given: Mapping[str, Json], ignored: frozenset[str]) -> Iterator[str]:
        known = {name for name, _ in self.texts} | ignored
        return (f"{name!r} was added" for name in given if name not in known)


class CopyOnRead(dict[str, Json]):
    """A dictionary that returns a copy of each value that is read, so that an observer of a call cannot change it.

    Only `**` and C code read the values themselves, which is how the function of the tool is called.
    """

    def __init__(self, arguments: Arguments, more: Mapping[str, object] | None = None) -> None:
        self._arguments = arguments
        super().__init__({**arguments.copy(), **(more or {})})

    def __getitem__(self, name: str) -> Json:
        text = dict(self._arguments.texts).get(name)
        return super().__getitem__(name) if text is None else json.loads(text)

    def get(self, name: str, default: object = None) -> Json:
        return self[name] if name in self else default  # noqa: SIM401 - `get` itself

    def values(self) -> list[Json]:  # type: ignore[override]  # no view: a copy of each value
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Json]]:  # type: ignore[override]  # no view: a copy of each value
        return [(name, self[name]) for name in self]

    def copy(self) -> CopyOnRead:
        names = {name for name, _ in self._arguments.texts}
        return CopyOnRead(self._arguments, {name: self[name] for name in self if name not in names})


def _written(value: Json) -> str:
    _check(value, 0)
    try:
        return json.dumps(value, sort_keys=False, allow_nan=False)
    except ValueError as failure:
        raise _not_json() from failure


def _same(text: str, value: Json) -> bool:
    try:
        given = _written(value)
    except Refusal:
        return False
    return text == given or json.dumps(json.loads(text), sort_keys=True) == json.dumps(value, sort_keys=True)


def _check(value: object, depth: int) -> None:
    """Refuse every type that is not exactly a JSON type: a subclass can override equality."""
    kind = type(value)
    if depth > DEEPEST_VALUE:
        raise _not_json()
    if kind is dict:
        for name, item in cast("dict[object, object]", value).items():
            if type(name) is not str:
                raise _not_json()
            _check(item, depth + 1)
    elif kind is list:
        for item in cast("list[object]", value):
            _check(item, depth + 1)
    elif kind not in _PLAIN:
        raise _not_json()


def _not_json() -> Refusal:
    return Refusal("invalid_arguments", "an argument is not a JSON value", details={"problem": "not_json"})
