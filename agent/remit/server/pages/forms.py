"""Values of forms."""

from __future__ import annotations

from remit.core import UsageError

_DIGITS = 9


def whole_number(text: str, least: int, most: int) -> int:
    """The number in a field of a form. Raises UsageError unless it is from `least` to `most`."""
    value = text.strip()
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS) or not least <= int(value) <= most:
        raise UsageError(f"write a whole number from {least} to {most}")
    return int(value)
