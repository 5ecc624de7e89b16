"""The spelling of resources in rules: one that no call can have would never match."""

from __future__ import annotations

from remit.core import Refusal
from remit.core.parsing import canonical


def spelling_fix(text: str) -> str:
    """What to write in place of a pattern whose spelling no resource has; "" if it is right."""
    part, rest = _plain_part(text)
    if not part or (name := _canonical(part)) == part:
        return ""
    return f"write {name.removesuffix('/') if rest else name}{rest}" if name else _unknown_fix(text)


def _unknown_fix(text: str) -> str:
    return (
        "write its canonical name" if text.isascii() else "replace the characters that only look like those of its name"
    )


def _plain_part(text: str) -> tuple[str, str]:
    """The part of a pattern whose spelling can be checked, and the rest: all of it without wildcards, else scheme and host of a URL."""
    if "*" not in text:
        return text, ""
    scheme, _, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    if scheme not in ("http", "https") or not slash or "*" in host:
        return "", ""
    return f"{scheme}://{host}/", f"/{path}"


def _canonical(resource: str) -> str | None:
    """The canonical form of a pattern without wildcards; None if it does not name a resource of its kind."""
    kind, _, name = resource.partition(":")
    if not name:
        return resource
    try:
        if kind in ("http", "https"):
            return canonical(kind, resource)
        return f"{kind}:{canonical(kind, name)}"
    except Refusal:
        return None
