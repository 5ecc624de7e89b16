"""Gives the landmarks of the theme the names that WCAG 2.2 asks for. `docs/assets/` has what styles and scripts correct."""

from __future__ import annotations

import re
from typing import Final

_SEARCH: Final = '<div class="md-search" data-md-component="search" role="dialog">'
# A folder with an index page has an empty label; its title follows.
_FOLDER: Final = re.compile(
    r"(<nav class=\"md-nav\" data-md-level=\"\d+\") aria-labelledby=\"[^\"]+\""
    r"([^>]*>\s*<label class=\"md-nav__title\"[^>]*>\s*<span class=\"md-nav__icon md-icon\"></span>)(.*?)</label>",
    re.DOTALL,
)


def corrected(html: str) -> str:
    """The page with these names.

    Raises ValueError if the theme no longer has what is corrected here.
    """
    if _SEARCH not in html:
        raise ValueError("the theme's search has changed: compare docs/generator/accessibility.py with it")
    html = html.replace(_SEARCH, _SEARCH.replace(">", ' aria-label="Search">'))
    return _FOLDER.sub(_named, html)


def _named(match: re.Match[str]) -> str:
    before, between, title = match.groups()
    name = " ".join(re.sub(r"<[^>]+>", "", title).split())
    return f'{before} aria-label="{name}"{between}{title}</label>'
