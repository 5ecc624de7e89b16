"""A worker that is stopped, or cut off from PostgreSQL, for longer than its lease: another one drives its runs, and nothing happens twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from remit.broker import set_hold
from remit.client import Remit
from remit.core import RunEnded
from remit.core.events import NANO, AttemptBegun, AttemptEnded, RunFinished, RunResumed
from remit.journal import Journal, live_record, open_journal
from remit.journal.lease import EXPIRES_S
from remit.workspace import open_session
from support.fleet import until, workers
from support.postgres import Server, journals_in
from support.principals import OPERATOR
from support.runs import Play
from support.slow_postgres import slow_postgres
from support.workspaces.ledger import effects, use

RUNS: Final = int(os.environ.get("REMIT_CUT_RUNS", "8"))
CUT_S: Final = float(os.environ.get("REMIT_CUT_S", "6"))
SILENT_S: Final = EXPIRES_S + 1.5
RUN: Final = f"{7:032x}"
PAY: Final = {"ledger__pay": {"name": "ann", "amount": 10}}
LOOK: Final = {"ledger__look": {"name": "ann"}}


def wire(number: int) -> dict[str, object]:
    return {"ledger__wire": {"name": f"a{number}", "amount": 1}}


TURNS: Final = [*({"say": "next", "calls": [wire(number), LOOK]} for number in range(4)), {"say": "done"}]


@pytest.fixture
def root(clerk: Callable[..., Path], postgres_server: Server) -> Iterator[Path]:
    with journals_in(postgres_server):
        folder = clerk(TURNS)
        use(folder)
        yield folder


def finished(journal: Journal, runs: list[str]) -> list[str]:
    return [run for run in runs if journal.get(run, "run.finished/-/-/-") is not None]


def takers(journal: Journal, run: str) -> int:
    return sum(isinstance(item.event, RunResumed) for item in journal.events(run))


def check_record(root: Path, journal: Journal, runs: list[str]) -> None:
    """Each run has ended, each payment was made once, and none without a record of its beginning."""
    recorded: set[str] = set()
    for run in runs:
        assert journal.verify(run) == ()
        events = [item.event for item in journal.events(run)]
        assert [event.outcome for event in events if isinstance(event, RunFinished)] == ["completed"]
        recorded.update(event.idempotency_key for event in events if isinstance(event, AttemptBegun))
    paid = Counter(row["key"] for row in effects(root))
    assert set(paid.values()) == {1}
    assert len(paid) == 4 * len(runs)
    assert set(paid) <= recorded


def test_a_worker_that_is_stopped_for_longer_than_its_lease_records_nothing_more(root: Path) -> None:
    """The process lives, so only the silence of its lease says that it does not go on."""
    with Remit.open(root) as client, workers(root, env={"LEDGER_SLOW": "0.3"}, slots=4) as (stopped,):
        journal = client.session.journal
        runs = [client.enqueue("clerk", "pay") for _ in range(4)]
        until(lambda: len(effects(root)) >= 4)
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            begun = {run: takers(journal, run) for run in runs}
            assert not finished(journal, runs)
            time.sleep(SILENT_S)
            with workers(root, env={"LEDGER_SLOW": "0.3"}, slots=4):
                until(lambda: all(takers(journal, run) > begun[run] for run in runs))
                os.kill(stopped.pid, signal.SIGCONT)
                until(lambda: len(finished(journal, runs)) == len(runs))
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        check_record(root, journal, runs)
        until(lambda: (root / "workers.log").read_text().count("another process executes run") > 0)


def test_a_network_that_is_cut_while_effects_happen_loses_no_run_and_repeats_no_effect(
    root: Path, tmp_path: Path
) -> None:
    """One worker reaches PostgreSQL over a line that is cut; what it had sent arrives when the line is back."""
    url = str(open_session(root).workspace.settings.journal)
    away = tmp_path / "away"
    shutil.copytree(root, away, ignore=shutil.ignore_patterns("traces", "work"))
    for shared in ("traces", "work"):
        (root / shared).mkdir(exist_ok=True)
        (away / shared).symlink_to(root / shared)
    env = {"LEDGER_SLOW": "0.2", "LEDGER": str(root / "ledger.jsonl")}
    with slow_postgres(url) as line, Remit.open(root) as client:
        settings = away / "remit.toml"
        settings.write_text(settings.read_text().replace(url, line.url))
        journal = client.session.journal
        runs = [client.enqueue("clerk", "pay") for _ in range(RUNS)]
        with workers(away, env=env, slots=RUNS // 2):
            until(lambda: len(effects(root)) >= RUNS // 2)
            with workers(root, env=env, slots=RUNS // 2):
                with line.cut():
                    taken = [run for run in runs if journal.is_driven(run)]
                    before = Counter({run: takers(journal, run) for run in taken})
                    time.sleep(CUT_S)
                until(lambda: len(finished(journal, runs)) == len(runs), 120.0)
        assert any(takers(journal, run) > before[run] for run in taken)  # the other worker took some of them over
        check_record(root, journal, runs)


async def test_an_effect_begins_only_if_this_process_has_recorded_a_moment_ago_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the answer to its record was late, it asks whether it still has the run."""
    late = [0.0]
    now = live_record._now
    monkeypatch.setattr(live_record, "_now", lambda: now() + late[0])
    place = tmp_path / "journal.db"
    with open_journal(place) as journal, open_journal(place) as other:
        async with journal.lease(RUN) as lease:
            record = live_record.LiveRecord(journal, lease)
            assert await record.confirm() is False
            late[0] += EXPIRES_S
            assert await record.confirm() is True  # nobody else has it: it goes on, and looks at the holds again
            monkeypatch.setattr(other, "clock", lambda: time.time_ns() + int((EXPIRES_S + 1) * NANO))
            async with other.lease(RUN):
                late[0] += EXPIRES_S
                with pytest.raises(RunEnded, match="another process executes run"):
                    await record.confirm()


@pytest.mark.parametrize("effect", [True, False])
def test_without_an_answer_of_the_database_in_time_an_effect_does_not_begin_and_a_read_does(
    play: Play, monkeypatch: pytest.MonkeyPatch, effect: bool
) -> None:
    monkeypatch.setattr(live_record, "FRESH_S", -1.0)
    turns = [{"say": "next", "calls": [PAY if effect else LOOK]}, {"say": "done"}]
    if effect:
        with pytest.raises(RunEnded, match="another process executes run"):
            play(turns)
        return
    assert play(turns).ended.outcome == "completed"


def test_a_hold_that_was_set_while_the_record_was_late_stops_the_effect(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(self: live_record.LiveRecord) -> bool:
        set_hold(self._journal, "tool:ledger", why="an incident", by=OPERATOR)
        return True

    monkeypatch.setattr(live_record.LiveRecord, "confirm", late)
    played = play([{"say": "next", "calls": [PAY]}, {"say": "done"}])
    assert played.effects == []
    (ended,) = [item.event for item in played.records if isinstance(item.event, AttemptEnded)]
    assert (ended.code, ended.landed) == ("held", "not_landed")
