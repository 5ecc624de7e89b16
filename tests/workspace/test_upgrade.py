"""`remit upgrade --check`, and what a change of the version means: files, journals and traces of other versions."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from remit.core import UsageError, WorkspaceError
from remit.journal import SCHEMA, check_projections, list_runs, open_journal
from remit.workspace import load_workspace
from support.events import RUN, append, started
from support.journal_golden import GOLDEN, RUNS
from support.journals import query
from support.runs import Remit

NEWER = f"{int(SCHEMA) + 1:04}"
FUTURE_TRACE = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "scope": {"name": "remit.trace", "version": "9"},
                    "spans": [{"traceId": "aa", "spanId": "bb", "name": "x", "startTimeUnixNano": "1"}],
                }
            ]
        }
    ]
}


@pytest.mark.parametrize("version", sorted(path.stem for path in GOLDEN.glob("*.sql")))
def test_a_journal_of_each_version_opens_and_goes_on(version: str, tmp_path: Path) -> None:
    """The file was written by the version that made these tables, and is never written again."""
    place = tmp_path / "journal.db"
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript((GOLDEN / f"{version}.sql").read_text())
    place.chmod(0o600)
    with open_journal(place) as journal:
        runs = [row.run for row in list_runs(journal)]
        assert len(runs) == len(RUNS)
        for run in runs:
            assert not any(fault.broken for fault in journal.chain(run).verify())
        assert list(check_projections(journal)) == []
        append(journal, RUN, started())
        assert len(list(list_runs(journal))) == len(RUNS) + 1


def test_todays_tables_have_a_golden_journal() -> None:
    assert (GOLDEN / f"{SCHEMA}.sql").exists(), "write it: python tests/support/journal_golden.py"


def test_a_workspace_that_this_version_reads_has_nothing_to_change(remit: Remit) -> None:
    assert remit("call", "files.read", '{"path": "logs/checkout.log"}', "--agent", "triage").code == 0
    looked = remit("upgrade", "--check", "--json")
    assert looked.code == 0, looked
    found = json.loads(looked.out)
    assert (found["ok"], found["findings"]) == (True, [])
    assert found["counts"]["events"] > 0
    assert found["counts"]["trace files"] > 0


def test_each_thing_of_a_newer_version_is_named_with_both_versions_and_nothing_is_written(
    remit: Remit, session: Path
) -> None:
    assert remit("call", "files.read", '{"path": "logs/checkout.log"}', "--agent", "triage").code == 0
    journal, trace = session / "traces" / "journal.db", session / "traces" / "of-tomorrow.jsonl"
    query(
        journal,
        f"UPDATE remit_schema SET version_num = '{NEWER}'",
        "UPDATE event SET type = 'moon.landed' WHERE seq = 1",
    )
    trace.write_text(json.dumps(FUTURE_TRACE) + "\n")
    settings = session / "remit.toml"
    settings.write_text('remit_version = "0.9"\ncolour = "of a later version"\n' + settings.read_text())
    before = query(journal, "SELECT * FROM event")
    looked = remit("upgrade", "--check", "--json")
    assert looked.code == 1, looked
    whats = {found["code"]: found["what"] for found in json.loads(looked.out)["findings"]}
    assert set(whats) == {"invalid", "newer_journal", "unknown_event", "newer_trace"}
    assert (
        whats["invalid"] == "this workspace needs Remit 0.9 or newer, and this is Remit 0.1.0"
    )  # and nothing of `colour`
    assert whats["newer_journal"] == f"its tables have version {NEWER}, and Remit 0.1.0 reads {SCHEMA}"
    assert "'moon.landed' (1), which Remit 0.1.0 does not know" in whats["unknown_event"]
    assert whats["newer_trace"] == "it has format 9, and Remit 0.1.0 reads formats up to 1"
    assert query(journal, "SELECT * FROM event") == before
    assert query(journal, "SELECT version_num FROM remit_schema") == [(NEWER,)]


def test_an_older_program_refuses_a_newer_journal_and_workspace_with_both_versions(session: Path) -> None:
    journal = session / "traces" / "journal.db"
    open_journal(journal).close()
    query(journal, f"UPDATE remit_schema SET version_num = '{NEWER}'")
    with pytest.raises(
        UsageError, match=rf"tables of version {NEWER}, and Remit 0\.1\.0 reads {SCHEMA}: install a newer one"
    ):
        open_journal(journal)
    settings = session / "remit.toml"
    text = settings.read_text()
    settings.write_text('remit_version = "0.1.1"\n' + text)
    with pytest.raises(WorkspaceError, match=r"needs Remit 0\.1\.1 or newer, and this is Remit 0\.1\.0"):
        load_workspace(session)
    for fits in ("0.1.0", "0.1", "0", "0.0.9"):
        settings.write_text(f'remit_version = "{fits}"\n' + text)
        assert load_workspace(session).agents
    settings.write_text('remit_version = "new"\n' + text)
    with pytest.raises(WorkspaceError, match="a version of Remit"):
        load_workspace(session)


def test_an_older_journal_and_one_that_cannot_be_opened_are_findings_too(remit: Remit, session: Path) -> None:
    journal = session / "traces" / "journal.db"
    open_journal(journal).close()
    query(journal, "UPDATE remit_schema SET version_num = '0000'")
    looked = remit("upgrade", "--check")
    assert (looked.code, "its tables have version 0000" in looked.err) == (1, True)
    journal.write_bytes(b"no database at all, but long enough for SQLite to look at it" * 20)
    looked = remit("upgrade", "--check")
    assert (looked.code, "the journal journal.db cannot be opened" in looked.err) == (1, True), looked


def test_without_a_journal_none_is_created_and_without_the_option_nothing_is_done(remit: Remit, session: Path) -> None:
    assert remit("upgrade", "--check").code == 0
    assert not (session / "traces" / "journal.db").exists()
    asked = remit("upgrade")
    assert (asked.code, "a package manager installs Remit" in asked.err) == (2, True)
