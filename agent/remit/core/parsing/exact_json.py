"""Arguments that nobody else can change, and that are compared by value and type.

Python calls `1`, `1.0` and `True` equal, and a list that two owners share changes for both. So what was decided is kept as
a text, every reader gets a copy of its own, and values are the same only where their types are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from remit.core.calls import Json
from remit.core.errors import Refusal

DEEPEST_VALUE: Final = 200  # far more than any argument that was decided; Python's own stack ends near 1,000
_PLAIN: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of one call, for good: each by its name, as text."""

    texts: tuple[tuple[str, str], ...]

    @staticmethod
    def of(arguments: Mapping[str, Json]) -> Arguments:
        """Raises Refusal `invalid_arguments` where a value, or a value inside one, is not exactly a value of JSON."""
        return Arguments(texts=tuple((name, _written(value)) for name, value in arguments.items()))

    def copy(self) -> dict[str, Json]:
        """The arguments as objects that the caller alone has."""
        return {name: json.loads(text) for name, text in self.texts}

    def differences(self, given: Mapping[str, Json], *, ignored: Iterable[str] = ()) -> list[str]:
        """How `given` differs, one phrase a name; `ignored` names may be added."""
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


class OwnCopies(dict[str, Json]):
    """Gives a copy of its own to each reader of a value, so that an observer of a call changes nothing of it.

    Only `**` and C code see the values themselves: that is the function which is called.
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

    def copy(self) -> OwnCopies:
        names = {name for name, _ in self._arguments.texts}
        return OwnCopies(self._arguments, {name: self[name] for name in self if name not in names})


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
    """Every type is JSON's own: a subclass could say that it equals anything."""
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
