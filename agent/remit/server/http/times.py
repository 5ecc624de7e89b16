"""Times as answers have them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(nanoseconds: int) -> str:
    """The time in UTC, in microseconds: numbers of nanoseconds are not exact in every JSON reader."""
    at = datetime.fromtimestamp(nanoseconds // 10**9, UTC).replace(microsecond=nanoseconds % 10**9 // 1000)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
