"""What is pinned of a server: its whole list of tools; and how a tool differs from what was pinned.

A model reads names, descriptions and schemas, so a server that changes them changes what an agent does. Whatever differs keeps that
tool from running until a person has pinned it again; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from remit.broker.mcp.messages import NotMcp
from remit.core import Json
from remit.core.parsing import canonical_json

MOST_TOOLS: Final = 1_000
_SHOWN: Final = 200  # characters of a text in a difference
_MOST_SHOWN: Final = 20  # differences of a listing

Listing = Mapping[str, Mapping[str, Json]]  # the tools of a server, by name, each as the server lists it


def add_tools(listing: dict[str, Mapping[str, Json]], page: Mapping[str, Json]) -> None:
    """Add the tools of one page of `tools/list`.

    Raises:
        NotMcp: a tool has no name or no input schema, two have the same name, or there are too many.
    """
    tools = page.get("tools")
    if not isinstance(tools, list):
        raise NotMcp("a list of tools without 'tools'")
    for tool in cast("Sequence[Json]", tools):
        fields = cast("dict[str, Json]", tool) if isinstance(tool, dict) else {}
        name, schema = fields.get("name"), fields.get("inputSchema")
        if not isinstance(name, str) or not name or not isinstance(schema, dict):
            raise NotMcp("a tool without a name or without an input schema")
        if name in listing:
            raise NotMcp(f"two tools with the name {name[:_SHOWN]!r}")
        listing[name] = {key: value for key, value in fields.items() if key not in ("_meta", "icons")}
    if len(listing) > MOST_TOOLS:
        raise NotMcp(f"more than {MOST_TOOLS} tools")


def differences(pinned: Mapping[str, Json] | None, now: Mapping[str, Json] | None) -> Iterator[str]:
    """How a tool differs from what was pinned, in words; nothing if it is the same. None: it is not there."""
    if now is None:
        yield "the server does not list it any more"
    elif pinned is None:
        yield "it was not there when the server was pinned"
    else:
        for key in sorted({*pinned, *now}):
            before, after = pinned.get(key), now.get(key)
            if canonical_json(before) != canonical_json(after):
                yield f"{key!r} was {_short(before)} and is {_short(after)}"


def all_differences(pinned: Listing, now: Listing) -> tuple[str, ...]:
    """How the tools of a server differ from what was pinned, a line each; empty if all are the same."""
    lines = [
        f"{name[:_SHOWN]!r}: {what}"
        for name in sorted({*pinned, *now})
        for what in differences(pinned.get(name), now.get(name))
    ]
    more = len(lines) - _MOST_SHOWN
    return (*lines[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else []))


def _short(value: Json) -> str:
    if value is None:
        return "not there"
    text = canonical_json(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
