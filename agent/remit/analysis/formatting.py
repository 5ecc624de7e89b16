"""One way to write rules: a space after each comma, none at the ends of lines, one empty line between groups.

Nothing is moved and no comment is lost; what the rules mean stays as it is.
"""

from __future__ import annotations

import re
from typing import Final

_BLANK: Final = re.compile(r"\n{3,}")
_COMMENT: Final = re.compile(r"#+")


def format_rules(text: str) -> str:
    """The text of one rules file, as everybody writes it; formatting again changes nothing."""
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
    # INVARIANT: a row is split at every comma, as the loader does; no field can hold one.
    return ", ".join(field.strip(" \t") for field in line.split(","))
