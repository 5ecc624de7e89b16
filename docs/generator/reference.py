"""Every page of the reference, by its path in docs/."""

from __future__ import annotations


def pages() -> dict[str, str]:
    """The generated pages and files: their text, by path in docs/."""
    return {}
