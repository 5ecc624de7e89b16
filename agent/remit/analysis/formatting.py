"""Formats rules files: one space after each comma, none at the end of a line, one empty line between groups.

The order of lines, the comments and the meaning of the rules stay unchanged.
"""

from __future__ import annotations

import re
from typing import Final

_BLANK: Final = re.compile(r"\n{3,}")
_COMMENT: Final = re.compile(r"#+")


def format_rules(text: str) -> str:
    """Format the text of one rules file. Formatting the result again changes nothing."""
    lines = [_line(line) for line in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    whole = _BLANK.sub("\n\n", "\n".join(lines)).strip("\n")
    return f"{whole}\n" if whole else ""


def _line(line: str) -> str:
    line = line.strip(" \t")
    if line.startswith("#"):
        marks = _COMMENT.match(line)
        assert marks is not None
        words = line[marks.end() :].strip(" \t")
        return f"{marks[0]} {words}" if words else marks[0]
    if not line.startswith(("p,", "g,", "p ", "g ")):
        return line
    # INVARIANT: a row is split at every comma, as the loader splits it; no field can contain one.
    return ", ".join(field.strip(" \t") for field in line.split(","))
