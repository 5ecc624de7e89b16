"""Types of fields that several files have: labels, summaries, durations and sizes."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from remit.core.parsing.toml import Matching

_DURATION = re.compile(r"(?!0+(?:\.0+)?[a-z])([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SIZE = re.compile(r"(?!0+[A-Z])([0-9]{1,6})(B|KiB|MiB|GiB)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def duration(value: str) -> float:
    """A `Duration` in seconds: "250ms", "5s", "10m", "1h"."""
    found = _DURATION.fullmatch(value)
    assert found is not None  # checked when the file was read
    return float(found[1]) * _SECONDS[found[2]]


def size(value: str) -> int:
    """A `Size` in bytes: "64KiB", "256MiB"."""
    found = _SIZE.fullmatch(value)
    assert found is not None  # checked when the file was read
    return int(found[1]) * _BYTES[found[2]]


Label = Annotated[str, Matching(r"[a-z][a-z0-9_-]{0,30}", "a label", "write lower-case letters, digits, _ and -")]
Summary = Annotated[
    str,
    Matching(r"\S[^\n]{0,199}", "one line", "write one line of at most 200 characters"),
    Field(description="One line of at most 200 characters"),
]
Duration = Annotated[str, Matching(_DURATION.pattern, "a duration", 'write a number and ms, s, m or h: "5s"')]
Size = Annotated[str, Matching(_SIZE.pattern, "a size", 'write a whole number and B, KiB, MiB or GiB: "256MiB"')]
