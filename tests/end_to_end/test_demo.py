"""`remit demo`: an incident that plays at once; the person at the terminal is the on-call lead, and only answers."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.runs import Command


def on_a_terminal(words: list[str], answer: bytes, folder: Path) -> tuple[int, str]:
    """The exit code and the output of a command on a terminal whose person types `answer` when it asks a question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "remit", *words])
    output, asked = b"", 0
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the command has ended
            part = b""
        if not part:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()
        output += part
        if output.count(b"[y/N]") > asked:
            asked += 1
            os.write(terminal, answer)


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", "closed"), (b"n\n", "open")])
def test_the_demonstration_asks_for_one_approval_and_writes_the_page_of_the_run(
    answer: bytes, status: str, tmp_path: Path, command: Command
) -> None:
    code, shown = on_a_terminal(["demo", "played", "--no-browser"], answer, tmp_path)
    assert (code, shown.count("?")) == (0, 1), shown  # no other question
    assert "service:demo" in shown
    assert "Approve it as user:dana, an on-call lead?" in shown
    assert "policy_denied" in shown
    page = (tmp_path / "played/incident.html").read_text()
    assert "tickets.close" in page
    (row,) = json.loads(command(tmp_path / "played", "trace", "list", "--json").out)
    events = json.loads(command(tmp_path / "played", "trace", "show", row["run"], "--json").out)
    answers = [
        one["event"] for one in events if one["event"]["type"].startswith(("approval.granted", "approval.rejected"))
    ]
    assert [(one["type"].partition(".")[2], one["by"]["subject"]) for one in answers] == [
        ("granted" if status == "closed" else "rejected", "user:dana")
    ]
    (store,) = (tmp_path / "played").glob("work/triage/*/stores/tickets/tickets.db")
    with closing(sqlite3.connect(store)) as tickets:
        assert tickets.execute("SELECT status FROM ticket WHERE key = 'INC-2041'").fetchone() == (status,)
    assert command(tmp_path / "played", "replay", row["run"]).code == 0


def test_without_a_terminal_the_run_waits_and_nothing_is_asked(tmp_path: Path, command: Command) -> None:
    done = command(tmp_path, "demo", "played", "--json")
    body = json.loads(done.out)
    assert (done.code, body["ok"], body["waiting"]) == (1, False, ["7.0"])
    assert Path(tmp_path / body["page"]).exists()
    granted = command(tmp_path / "played", "approve", "grant", body["run"])
    assert granted.code == 0, granted.err
    assert command(tmp_path / "played", "run", "--resume", body["run"]).code == 0


def test_an_incident_to_practise_on_is_made_in_a_new_folder_only(tmp_path: Path, command: Command) -> None:
    made = command(tmp_path, "demo", "--incident", "rule-change", "practice")
    assert made.code == 0, made.err
    runs = json.loads(command(tmp_path / "practice", "trace", "list", "--json").out)
    assert len(runs) == 2
    again = command(tmp_path, "demo", "--incident", "rule-change", "practice")
    assert (again.code, "name an empty folder" in again.err) == (2, True)
    misspelled = command(tmp_path, "demo", "--incident", "rule-chnge", "other")
    assert (misspelled.code, (tmp_path / "other").exists()) == (2, False)
    assert "rule-change" in misspelled.err
