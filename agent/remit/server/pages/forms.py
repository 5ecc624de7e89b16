"""Values of forms, and what a person reads if one is refused."""

from __future__ import annotations

from remit.core import Refusal, RemitError, UsageError
from remit.server.http.answers import HttpRefusal

_DIGITS = 9


def whole_number(text: str, least: int, most: int) -> int:
    """The number in a field of a form. Raises UsageError unless it is from `least` to `most`."""
    value = text.strip()
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS) or not least <= int(value) <= most:
        raise UsageError(f"write a whole number from {least} to {most}")
    return int(value)


def refusal_text(refused: RemitError | HttpRefusal) -> str:
    """Why it was refused. What the rules deny is said without the rule: ""."""
    if isinstance(refused, HttpRefusal):
        return refused.error.message
    if isinstance(refused, Refusal):
        return "" if refused.code == "policy_denied" else refused.message
    return str(refused)
