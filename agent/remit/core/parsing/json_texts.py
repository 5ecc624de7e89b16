"""The texts in a JSON value: listed in their order, or replaced one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from remit.core.calls import Json


def leaves(value: Json, *, keys: bool = True) -> Iterator[Json]:
    """Every part of the value that contains no other, in order: texts, numbers, null, empty lists and empty objects.

    With `keys`, the keys of objects are included, each before its member.
    """
    ahead: list[Json] = [value]  # a stack: the last item is next
    while ahead:
        item = ahead.pop()
        if isinstance(item, dict) and item:
            for key, member in reversed(cast("dict[str, Json]", item).items()):
                ahead.append(member)
                if keys:
                    ahead.append(str(key))
        elif isinstance(item, list | tuple) and item:
            ahead.extend(reversed(cast("list[Json]", item)))
        else:
            yield item


def texts_of(value: Json, *, keys: bool = True) -> list[str]:
    """Every text of the value in order, with `keys` also the keys of objects."""
    return [leaf for leaf in leaves(value, keys=keys) if isinstance(leaf, str)]


def map_texts(value: Json, change: Callable[[str], str], *, keys: bool = True) -> Json:
    """A copy of the value with `change` applied to every text, in the order of `texts_of`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {
            change(str(key)) if keys else str(key): map_texts(item, change, keys=keys) for key, item in members.items()
        }
    if isinstance(value, list | tuple):
        return [map_texts(item, change, keys=keys) for item in cast("list[object]", value)]
    return value
