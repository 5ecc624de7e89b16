"""A part of a JSON value: what a case says of a result, or of the body of a request."""

from __future__ import annotations

import json
from typing import cast

from remit.core import Json


def contains(value: Json, part: Json) -> bool:
    """True if the value has the part: a text within it (within its JSON if it is not a text), or members and items."""
    if isinstance(part, dict):
        members = cast("dict[str, Json]", part)
        return isinstance(value, dict) and all(key in value and contains(value[key], members[key]) for key in members)
    if isinstance(part, list):
        items, expected = cast("list[object]", value), cast("list[object]", part)
        return isinstance(value, list) and all(any(contains(item, need) for item in items) for need in expected)
    if isinstance(part, str):
        return part in (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return bool(value == part)
