"""Writes `tests/journal/golden/VERSION.sql`: a journal with tables of today's version, with the runs of some golden traces.

    python tests/support/journal_golden.py

A later version must open it. Once the tag of a release has the file, it is never written again: the script refuses to.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `support` is found if the script is run by path

from remit.journal import SCHEMA, Journal, open_journal
from remit.journal.copies.bringing_back import _append_run
from remit.tracing import read_trace
from support import ROOT, TESTS
from support.golden import releases

GOLDEN = TESTS / "journal" / "golden"
RUNS = ("answer-rejected", "effect-settled", "outcome-unknown", "rules-changed")


def filled(journal: Journal) -> None:
    """Record the runs of the golden traces, link by link, as they were recorded first."""
    for name in RUNS:
        trace = read_trace(ROOT / "traces" / "golden" / "format-1" / f"{name}.jsonl")
        _append_run(journal, trace.run, trace.chain.links)


def written() -> Path:
    place = GOLDEN / f"{SCHEMA}.sql"
    if released := releases(ROOT, place.relative_to(ROOT).as_posix()):
        raise SystemExit(f"error: {released[0]} has tables of version {SCHEMA}, which never change: raise SCHEMA first")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "journal.db")
        with open_journal(file) as journal:
            filled(journal)
        with closing(sqlite3.connect(file)) as connection:
            place.write_text("\n".join(connection.iterdump()) + "\n")
    return place


if __name__ == "__main__":
    print(f"wrote {written().relative_to(ROOT)}")
