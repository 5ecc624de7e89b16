"""Changes of files: shown as a diff, and written all together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remit.cli.output import echo, style

if TYPE_CHECKING:
    from remit.analysis import FileChange

_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


def show_diff(diff: str) -> None:
    """Print a unified diff."""
    for line in diff.splitlines():
        echo(style(line, fg=_COLOURS.get(line[:1])))


def write_changes(root: Path, changes: Iterable[FileChange]) -> None:
    """Write the files; if one cannot be written, those before it are as they were."""
    done: list[FileChange] = []
    try:
        for change in changes:
            done.append(change)
            (root / change.file).parent.mkdir(parents=True, exist_ok=True)
            (root / change.file).write_text(change.after, encoding="utf-8")
    except OSError:
        for change in done:
            if change.before:
                (root / change.file).write_text(change.before, encoding="utf-8")
            else:
                (root / change.file).unlink(missing_ok=True)
        raise
