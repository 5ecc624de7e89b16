"""Every page of the reference, by its path in docs/."""

from __future__ import annotations

from generator import codes, commands, events, python, settings, telemetry


def pages() -> dict[str, str]:
    """The generated pages and files: their text, by path in docs/."""
    made: dict[str, str] = {}
    for module in (commands, settings, codes, events, telemetry, python):
        made |= module.pages()
    return made
