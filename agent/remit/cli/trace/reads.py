"""Records that a person reads the content of a run, for the audit stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from remit.cli.output import echo
from remit.core import RunEnded

if TYPE_CHECKING:
    from remit.workspace import WorkspaceSession


def note_read(
    opened: WorkspaceSession | None, run: str, how: Literal["show", "page", "export", "export for vendor"]
) -> None:
    """Record the read; None for a file, which belongs to no journal. Where the journal cannot be written, reading goes on."""
    from remit.core.events import ContentRead
    from remit.journal import note_act
    from remit.workspace import principal_of_process

    if opened is None:
        return
    by = principal_of_process(opened.workspace.settings)
    try:
        note_act(opened.journal, lambda number: ContentRead(number=number, run=run, how=how, by=by))
    except RunEnded as failure:
        echo(f"this read is not in the audit stream: {failure.message}", err=True)
