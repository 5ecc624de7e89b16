"""Erases what people, models and tools wrote, on request. Headers stay, so that the chain can still be verified."""

from __future__ import annotations

from remit.journal.check import rebuild_run
from remit.journal.store import Journal


def erase(journal: Journal, run: str, seq: int) -> None:
    """Erase the body of one event permanently, and what the list of runs has of it.

    The run's trace file holds a copy of the body: write that file again afterwards. Raises UsageError if there is no such
    event, or if the run has not finished: its state is still computed from the event.
    """
    journal.erase_event(run, seq)
    rebuild_run(journal, run)
    journal.forget_deleted()
