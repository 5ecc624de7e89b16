"""The state of a run, as lists, reports and gauges say it: from its events, its lease, the holds in force and the time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from remit.broker import lift_hold, set_hold
from remit.core import RunEnded
from remit.journal import Journal, RunQuery, RunStatus, find_run, list_runs
from remit.journal.lease import status_now, this_process
from remit.runtime import runner as run
from remit.tracing import open_trace
from remit.tracing.reports import incident_report
from remit.workspace.session import open_session
from support import ROOT
from support.journals import until
from support.lifecycle import LARGE, RUN, granted, resumed, waiting
from support.principals import OPERATOR
from support.runs import DONE, Command, Play, turn
from support.workspaces.ledger import environment

CHILD: Final = """
import asyncio, sys
from pathlib import Path
from remit.runtime import RunRequest, open_model_of, start_run
from remit.workspace import open_session
from support.principals import OPERATOR
opened = open_session(Path(sys.argv[1]))
model = open_model_of(opened, "clerk")
asyncio.run(start_run(opened, RunRequest(
    agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run=sys.argv[2])))
"""


@pytest.fixture
def paying(clerk: Callable[..., Path]) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A workspace, and a process whose run is in the middle of a payment."""
    folder = clerk([turn(ledger__pay={"name": "ann", "amount": 5}), DONE])
    path = os.pathsep.join([str(folder / "hosted"), str(ROOT / "agent"), str(ROOT / "tests")])
    env = {**os.environ, **environment(folder), "PYTHONPATH": path, "LEDGER_SLOW": "30"}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), RUN], env=env)
    try:
        until((folder / "ledger.jsonl").exists)
        yield folder, child
    finally:
        child.kill()
        child.wait()


def state(journal: Journal, name: str = RUN) -> str:
    row = find_run(journal, name)
    assert row is not None
    return row.word


def count(journal: Journal, state: RunStatus) -> int:
    return len(list(list_runs(journal, RunQuery(state=state))))


def test_a_run_whose_process_is_killed_in_an_irreversible_call_is_lost_and_two_commands_say_where(
    paying: tuple[Path, subprocess.Popen[bytes]], command: Command
) -> None:
    folder, child = paying
    opened = open_session(folder)
    assert state(opened.journal) == "running"
    assert count(opened.journal, "lost") == 0
    child.kill()
    child.wait()
    assert (state(opened.journal), count(opened.journal, "lost")) == ("lost", 1)
    for filters in (("--failed",), ("--state", "lost")):
        listed = command(folder, "trace", "list", *filters)
        assert f"{RUN[:8]}" in listed.out
        assert "lost" in listed.out
        assert "during ledger.pay at step 0.0: outcome unknown" in listed.out
    shown = command(folder, "trace", "show", RUN[:8]).out
    assert shown.startswith("lost")
    assert "root cause: step 0.0, ledger.pay (effect once, outcome unknown): attempt 1 was running: process " in shown
    assert f"remit run --resume {RUN[:8]}" in shown
    ended = asyncio.run(run.resume_run(opened, RUN, by=OPERATOR))
    assert ended.outcome == "completed"
    assert len((folder / "ledger.jsonl").read_text().splitlines()) == 1
    assert count(opened.journal, "lost") == 0
    for words in (("trace", "show", RUN[:8]), ("settle",)):
        assert f'remit settle {RUN[:8]}/0.0 --landed --reason "…"' in command(folder, *words).out


def test_a_run_is_ready_once_what_it_waited_for_has_come(play: Play, command: Command) -> None:
    played = play(LARGE)
    journal, name = played.opened.journal, played.ended.run
    assert state(journal, name) == "waiting"
    assert "  until 20" in command(played.folder, "trace", "list").out
    granted(played, waiting(played))
    assert [state(journal, name), count(journal, "ready")] == ["ready", 1]
    assert "  until 20" not in command(played.folder, "trace", "list").out
    assert resumed(played).ended.outcome == "completed"
    assert [row.word for row in list_runs(journal, RunQuery(state="finished"))] == ["completed"]


def test_a_run_that_nobody_answered_in_time_is_ready(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    played = play(LARGE)
    assert state(played.opened.journal, played.ended.run) == "waiting"
    now = time.time_ns() + 2 * 3600 * 10**9
    monkeypatch.setattr(played.opened.journal, "clock", lambda: now)
    assert state(played.opened.journal, played.ended.run) == "ready"


def test_a_held_run_waits_for_the_hold_and_is_ready_afterwards(play: Play, command: Command) -> None:
    played = play([DONE])
    set_hold(played.opened.journal, "agent:clerk", why="drill", by=OPERATOR)
    model = run.open_model_of(played.opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model, run=RUN)
    assert asyncio.run(run.start_run(played.opened, start)).held is not None
    assert state(played.opened.journal) == "waiting: hold"
    report = incident_report(open_trace(played.opened.traces, played.opened.journal, RUN), played.opened)
    assert (report.state, report.commands[0][0]) == ("waiting: hold", "remit stop --list")
    lift_hold(played.opened.journal, "agent:clerk", by=OPERATOR)
    assert state(played.opened.journal) == "ready"


def test_a_run_that_could_not_be_recorded_any_more_is_lost(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk was full for a moment; its record does not say where it stopped."""
    folder = clerk([turn(ledger__look={"name": "ann"}), DONE])
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model, run=RUN)
    append = opened.journal.database.append

    def full(batch: Any) -> None:
        if any(link.type == "call.answered" for link in batch.links):
            raise OSError(28, "No space left on device")
        append(batch)

    with monkeypatch.context() as patched:
        patched.setattr(opened.journal.database, "append", full)
        patched.setattr(opened.journal.database, "append_now", lambda _: False)
        with pytest.raises(RunEnded, match="No space left"):
            asyncio.run(run.start_run(opened, start))
    assert state(opened.journal) == "lost"
    assert asyncio.run(run.resume_run(opened, RUN, by=OPERATOR)).outcome == "completed"


def test_the_outcome_of_a_run_names_its_refused_calls(play: Play) -> None:
    played = play([turn(ledger__look={"name": "vault"}), DONE])
    assert state(played.opened.journal, played.ended.run) == "completed, 1 refused"


HOLDERS: Final = {"alive": f"{this_process()} 00", "dead": f"{this_process().rpartition('.')[0]}.1 00", "": ""}
NOW: Final = 10**18


@pytest.mark.parametrize(
    ("recorded", "until_", "holder", "flags", "expected"),
    [
        ("finished", 0, "dead", "", "finished"),
        ("running", 0, "alive", "", "running"),
        ("running", 0, "alive", "held", "running"),
        ("running", 0, "dead", "held", "lost"),
        ("running", 0, "dead", "graph", "lost"),
        ("running", 0, "", "", "ready"),
        ("running", 0, "", "held", "waiting: hold"),
        ("running", 0, "", "graph", "waiting: graph"),
        ("waiting", NOW + 1, "alive", "", "waiting"),
        ("waiting", NOW + 1, "dead", "", "waiting"),
        ("waiting", NOW - 1, "dead", "", "ready"),
        ("waiting: model", NOW + 1, "", "held", "waiting: hold"),
        ("waiting", NOW + 1, "alive", "held", "waiting"),
        ("waiting: model", NOW - 1, "", "held", "waiting: hold"),
        ("waiting: model", NOW - 1, "alive", "", "waiting: model"),
        ("ready", 0, "alive", "", "running"),
        ("ready", 0, "dead", "graph", "ready"),
        ("ready", 0, "", "held", "waiting: hold"),
    ],
)
def test_the_state_follows_from_the_events_the_lease_the_holds_and_the_time(
    recorded: Any, until_: int, holder: str, flags: str, expected: str
) -> None:
    found = status_now(recorded, until_, (HOLDERS[holder], NOW), NOW, held="held" in flags, graph="graph" in flags)
    assert found == expected


def test_a_process_that_gives_no_sign_for_four_seconds_has_lost_its_run() -> None:
    beats = {seconds: NOW - seconds * 10**9 for seconds in (3, 4)}
    found = {
        seconds: status_now("running", 0, (HOLDERS["alive"], beat), NOW, held=False, graph=False)
        for seconds, beat in beats.items()
    }
    assert found == {3: "running", 4: "lost"}
