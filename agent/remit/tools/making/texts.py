"""Texts and names from outside as they can stand in a manifest, in Python and in a rule."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from remit.core import Json
from remit.core.parsing import hidden_character

LONGEST_NAME: Final = 31  # as names of actions and kinds of resources
# Names that the code of the template uses: a function with one of them would hide it.
TAKEN: Final = frozenset(("dict", "httpx", "int", "map", "ssl", "str", "urllib", "remit", "none"))
_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER: Final = re.compile(r"[^a-z0-9]+")


def one_line(value: Json, most: int) -> str:
    """The text on one line, without hidden characters, of at most that many characters; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    plain = " ".join(value[: most * 4].split())
    plain = "".join(character for character in plain if not hidden_character(character))
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def name_of(text: str, taken: Collection[str] = (), *, prefix: str) -> str:
    """The text as a name of lower-case letters, digits and single underscores, unlike those that are taken."""
    words = _OTHER.sub("_", _BOUNDARY.sub("_", text[:500]).lower()).strip("_")
    if not words or not words[0].isalpha() or keyword.iskeyword(words) or words in TAKEN:
        words = f"{prefix}_{words}".strip("_")
    name = words[:LONGEST_NAME].strip("_")
    number = 2
    while name in taken:
        ending = f"_{number}"
        name, number = words[: LONGEST_NAME - len(ending)].strip("_") + ending, number + 1
    return name


def toml_value(value: Any) -> str:
    """A text or a list of texts in TOML, which has the escapes of JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def table_of(value: Json) -> Mapping[str, Json]:
    """The object that the value is; an empty one for anything else."""
    return cast("Mapping[str, Json]", value) if isinstance(value, dict) else {}
