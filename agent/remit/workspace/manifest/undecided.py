"""Lines that a person still has to decide: `remit tool import` and `remit tool adopt` write them as comments, with a guess.

    [actions.read_file]
    # decide: touches = ["read file:{path}"]

An action with such a line does not load, so no guess is ever in force: the person writes the line, or removes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from remit.core import Problem

MARK: Final = "# decide:"
_TABLE = re.compile(r"\s*\[\s*actions\s*\.\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*[.\]]")


def undecided(text: str, *, file: str) -> Iterator[Problem]:
    """A problem for each line of a manifest that is still to decide.

    A line of a text in triple quotes that looks like one counts, too: nothing that a reader takes for an open question loads.
    """
    action = ""
    for number, line in enumerate(text.splitlines(), 1):
        if (table := _TABLE.match(line)) is not None:
            action = table[1]
        elif line.lstrip().startswith(MARK):
            guess = line.lstrip().removeprefix(MARK).strip()
            what = f"action {action!r}" if action else "the tool"
            fix = f"check it against what the tool does; then write {guess!r} without the mark, or remove the line"
            yield Problem(file=file, line=number, what=f"{what} has a line that is not decided: {guess}", fix=fix)
