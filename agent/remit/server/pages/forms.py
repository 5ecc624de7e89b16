"""Values of forms, and what a person reads if one is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.core import Refusal, RemitError, UsageError
from remit.server.http.answers import HttpRefusal

LONGEST_REASON: Final = 500  # characters
_DIGITS: Final = 9


def whole_number(text: str, least: int, most: int) -> int:
    """The number in a field of a form. Raises UsageError unless it is from `least` to `most`."""
    value = text.strip()
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS) or not least <= int(value) <= most:
        raise UsageError(f"write a whole number from {least} to {most}")
    return int(value)


def one_line(fields: Mapping[str, str], name: str, longest: int = LONGEST_REASON) -> str:
    """A text that the person wrote, in one line. Raises UsageError if it is empty or too long."""
    text = " ".join(fields.get(name, "").split())
    if not text or len(text) > longest:
        raise UsageError(f"write the {name}, in at most {longest} characters")
    return text


def refusal_text(refused: RemitError | HttpRefusal) -> str:
    """Why it was refused. What the rules deny is said without the rule: ""."""
    if isinstance(refused, HttpRefusal):
        return refused.error.message
    if isinstance(refused, Refusal):
        return "" if refused.code == "policy_denied" else refused.message
    return str(refused)
