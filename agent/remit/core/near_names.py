"""Names that nothing has: which known name is near, and how to print one whose characters look like others.

All of Remit's "did you mean" comes from here. The work is bounded, because a wrong name may come from a model or from a file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Final

MOST_COMPARED: Final = 2_000  # known names that a wrong one is compared with
LONGEST_COMPARED: Final = 128  # characters of a name
MOST_LISTED: Final = 20  # known names that a message lists
MOST_SPELLED: Final = 3  # characters of a name that are given with their number


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
