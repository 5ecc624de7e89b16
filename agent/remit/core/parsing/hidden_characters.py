"""Makes hidden characters of a text visible, for terminals and for programs.

Control, bidirectional, invisible and blank characters move the cursor, reorder a line or show nothing. They are replaced
by an escape with their number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# Characters that are drawn as nothing, although Unicode calls them letters or marks (DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point; U+2800 is a blank braille cell).
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")


def hidden_character(text: str, *, but: str = "") -> str | None:
    """The first hidden character of the text, as `U+202E`; None without one.

    Hidden are control characters except those in `but`, bidirectional, invisible and tag characters, blanks, and every space
    other than U+0020.
    """
    if text.isascii() and text.isprintable():
        return None
    return next(
        (f"U+{ord(character):04X}" for character in text if character not in but and _is_hidden(character)), None
    )


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    hidden = category in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") or (category == "Zs" and character != " ")
    return hidden or BLANK.fullmatch(character) is not None


def visible(text: str, *, but: str = "\n\t") -> str:
    """The text with each hidden character written as `\\u{202e}`; those in `but` stay."""
    return _replaced(text, but, lambda character: f"\\u{{{ord(character):x}}}")


def visible_json(text: str) -> str:
    """JSON text with each hidden character written as a JSON escape: every reader still gets the same value."""
    return _replaced(text, "\n", _json_escape)


def _replaced(text: str, but: str, escape: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _NOT_PLAIN.sub(
        lambda match: escape(match[0]) if match[0] not in but and hidden_character(match[0]) else match[0], text
    )


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
