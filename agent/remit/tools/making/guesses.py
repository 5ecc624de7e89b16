"""What a function probably does, by its name and its arguments: a first guess, which a person decides on.

A guess is written behind `# decide:`, and nothing that has such a line loads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.core import Effect, Json
from remit.tools.making.texts import table_of

_READING: Final = frozenset(
    (
        *("get", "list", "read", "find", "search", "lookup", "look", "fetch", "show", "describe", "count", "query"),
        *("check", "is", "has", "load", "view", "retrieve", "calculate", "compute", "compare", "validate"),
    )
)
_FILES: Final = frozenset(("path", "file", "filename", "file_path", "filepath"))
_FOLDERS: Final = frozenset(("folder", "directory", "dir"))
_URLS: Final = frozenset(("url", "uri", "link", "href"))
_MAILS: Final = frozenset(("email", "mail", "to", "recipient", "recipients", "cc", "bcc"))
_QUERIES: Final = frozenset(("sql",))
_IDS: Final = ("_id", "_key", "_number", "_name", "_ids")
# Kinds of resources with a grammar or a meaning of their own.
RESERVED_KINDS: Final = frozenset(
    (
        "file",
        "store",
        "table",
        "mail",
        "host",
        "http",
        "https",
        "url",
        "document",
        "run",
        "none",
        "agent",
        "tool",
        "user",
    )
)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What one action probably does. `methods` belong to a URL; `files` says that its ceiling needs a folder."""

    effect: Effect
    touches: tuple[str, ...]
    methods: tuple[str, ...] = ()
    files: bool = False


def nouns_of(actions: Iterable[str]) -> frozenset[str]:
    """What actions are about, by their names: `order` of `get_order` and of `list_orders`."""
    last = (action.split("_")[-1] for action in actions if "_" in action)
    return frozenset(word.removesuffix("s") for word in last)


def guess(action: str, schema: Mapping[str, Json], nouns: Collection[str]) -> Guess:
    """The guess for an action with that JSON Schema of its arguments. `nouns` are those of all actions of its tool."""
    effect: Effect = "read" if action.partition("_")[0] in _READING else "once"
    access = "read" if effect == "read" else "write"
    lines: list[str] = []
    urls = files = False
    for name, part in table_of(schema.get("properties")).items():
        if not name.isidentifier() or not name.isascii() or not _is_name(part):
            continue
        if name in _FILES:
            lines.append(f"{access} file:{{{name}}}")
            files = True
        elif name in _FOLDERS and effect == "read":
            lines.append(f"read file:{{{name}}}/**")
            files = True
        elif name in _URLS:
            lines.append(f"use url:{{{name}}}")
            urls = True
        elif name in _MAILS:
            lines.append(f"use mail:{{{name}}}")
        elif name in _QUERIES:
            lines.append(f"use table:{{{name}:sql}}")
        elif kind := _kind(action, name, nouns):
            lines.append(f"use {kind}:{{{name}}}")
    methods = ("GET",) if effect == "read" else ("POST",)
    return Guess(effect=effect, touches=tuple(lines), methods=methods if urls else (), files=files)


def _kind(action: str, name: str, nouns: Collection[str]) -> str:
    """The kind of what an argument names: `order` for `order_id`, for `order`, and for `id` of `get_order`; "" if it names nothing."""
    ending = next((ending for ending in _IDS if name.endswith(ending) and len(name) > len(ending)), "")
    kind = name.removesuffix(ending) if ending else name if name in nouns else ""
    if name in ("id", "key", "number"):
        kind = next(iter(nouns_of([action])), "")
    return kind[:31] if kind.islower() and kind.isascii() and kind not in RESERVED_KINDS else ""


def _is_name(schema: Json) -> bool:
    """True if the argument is a text, a whole number, or a list of texts, also if it need not be given."""
    branches: Sequence[Json] = table_of(schema).get("anyOf", [schema])
    kinds = [table_of(branch).get("type") for branch in branches]
    return [kind for kind in kinds if kind != "null"] in (["string"], ["integer"])
