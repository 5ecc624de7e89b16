"""The frame of every HTML report: one file that needs no network, in light and dark colours.

A report escapes the texts of people, models and tools. In addition, a content security policy allows only the page's own style
and script, by their digests. So no text can become markup or code of the page.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from typing import Final

from remit.guardrails import with_visible_characters

STYLE: Final = files("remit.tracing.reports.html").joinpath("page.css").read_text()


def html_document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page. `title` is plain text, `body` is markup; `style` is added to the style that all reports share."""
    style = STYLE + style
    scripts = f"script-src '{_digest(script)}'; " if script else ""
    policy = f"default-src 'none'; style-src '{_digest(style)}'; {scripts}base-uri 'none'"
    code = f"<script>{script}</script>\n" if script else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n{code}</body>\n</html>\n"
    )


def escaped(text: str) -> str:
    """The text without markup, and with its hidden characters written out."""
    return escape(with_visible_characters(text))


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
