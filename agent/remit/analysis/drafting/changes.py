"""A change of files that is shown as a diff before it is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MOST_LINES: Final = 200  # lines of the diff of one file


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """One file, as it is and as it would be. `before` is "" for a new file."""

    file: str
    before: str
    after: str


def diff_of(changes: Iterable[FileChange]) -> str:
    """A unified diff of the files."""
    return "".join(line for change in changes for line in _diff(change))


def _diff(change: FileChange) -> Iterator[str]:
    before, after = change.before.splitlines(keepends=True), change.after.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, f"a/{change.file}", f"b/{change.file}", n=2)
    for number, line in enumerate(lines):
        if number == MOST_LINES:
            yield "…\n"
            return
        yield line if line.endswith("\n") else line + "\n"
