"""The files of the pages: the style, the scripts and the catalogue of strings. They are part of the package and never change while it runs.

`htmx.min.js` is htmx 4.0.1 as its npm package has it (0BSD, `htmx.LICENSE`): it replaces the part of a page that has changed, and keeps
the focus, what is open and what was typed.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from remit.tracing.reports.html import SCRIPT, STYLE

_FOLDER: Final = Path(__file__).parent
_MEDIA: Final = {".css": "text/css", ".js": "text/javascript"}
ASSETS: Final[Mapping[str, str]] = {
    name: _MEDIA[Path(name).suffix] for name in ("style.css", "trace.css", "htmx.min.js", "console.js", "trace.js")
}


@cache
def asset(name: str) -> bytes:
    """The content of one of `ASSETS`."""
    if name == "trace.css":  # of the page of a run that is a file of its own
        return STYLE.encode()
    if name == "trace.js":
        return SCRIPT.encode()
    return (_FOLDER / "static" / name).read_bytes()


@cache
def asset_path(name: str) -> str:
    """Its address. It names the content, so that a browser keeps it and never uses an old one."""
    return f"/pages/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


@cache
def strings() -> Mapping[str, Mapping[str, str]]:
    """Every string of the pages, by page and name: the one place to change a text, or to translate it."""
    return tomllib.loads((_FOLDER / "strings.toml").read_text("utf-8"))


def string(page: str, name: str, **values: object) -> str:
    """One string, with these values in its places."""
    return strings()[page][name].format(**values)
