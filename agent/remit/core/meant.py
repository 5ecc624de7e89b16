"""What was meant by a name that nothing has, and by a line of TOML that the parser refuses.

All of Remit's "did you mean" comes from here. The work is bounded, because a wrong name may come from a model or from a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, cast

MOST_COMPARED: Final = 2_000  # known names that a wrong one is compared with
LONGEST_COMPARED: Final = 128  # characters of a name
MOST_LISTED: Final = 20  # known names that a message lists
MOST_SPELLED: Final = 3  # characters of a name that are given with their number

_PAIR: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=\s*(.*?)\s*(?:#.*)?$")
_COLON: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*:\s*(.+?)\s*$")
_GENERAL: Final = "correct this line; see toml.io"
LONGEST_LINE: Final = 500  # characters of a line that is looked at


def near_names(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are like `name`, the nearest first, at most `most`; empty if none is near."""
    return get_close_matches(name[:LONGEST_COMPARED], islice(known, MOST_COMPARED), n=most, cutoff=cutoff)


def one_of(name: str, known: Iterable[str], *, none: str = "none yet") -> str:
    """What to write in place of a name that nothing has: the nearest known one, or else some of them. `none` if there are none."""
    names = sorted(known)
    if near := near_names(name, names):
        return f"did you mean {near[0]}?"
    return f"use one of: {listed(names) or none}"


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first `MOST_LISTED`, and how many more there are."""
    every = list(names)
    more = len(every) - MOST_LISTED
    return ", ".join(every[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def expected(details: Mapping[str, Any]) -> str:
    """What a person writes in place of arguments that do not match, from the details of the refusal; "" if they do not say."""
    meant = details.get("expected")
    if meant is None:
        return ""
    names = list(map(str, cast("list[object]", meant) if isinstance(meant, list) else [meant]))
    what = "known arguments" if details.get("problem") == "unknown_property" else "expected"
    return f"{what}: {listed(names) or 'none'}"


def spelled(name: str) -> str:
    """The name in quotes. Characters outside of ASCII, which may look like others, are given with their numbers."""
    if name.isascii():
        return repr(name)
    others = list(dict.fromkeys(character for character in name if not character.isascii()))
    texts = [
        f"{character} is U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip() for character in others
    ]
    more = len(texts) - MOST_SPELLED
    return f"{name!r} ({', '.join(texts[:MOST_SPELLED])}{f' and {more} more' if more > 0 else ''})"


def toml_fix(line: str, message: str) -> str:
    """What to write in place of that line. `message` is the parser's."""
    if len(line) > LONGEST_LINE:
        return _GENERAL
    if "overwrite" in message:
        return "write each key once, and each table once"
    if (colon := _COLON.match(line)) is not None and "=" not in line:
        return f"write {colon[1]} = {_shown(colon[2])}: a key and its value are separated by ="
    if (pair := _PAIR.match(line)) is None:
        return _GENERAL
    key, value = pair.groups()
    if value in ("True", "False"):
        return f"write {key} = {value.lower()}"
    if value.startswith(("‘", "’", "“", "”")):
        return f'write {key} = "…", with straight quotes'
    if value and re.fullmatch(r"[A-Za-z_][^\"'\[\]{}=,]*", value):
        return f"texts stand in quotes: write {key} = {_shown(value)}"
    return _GENERAL


def _shown(value: str) -> str:
    return value if value[:1] in "\"'[{" or value.replace(".", "").isdigit() else f'"{value}"'
