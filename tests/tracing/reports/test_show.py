"""Finding and showing a run: filters, outcome and root cause, approvals, what was in flight, next commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker import holds as hold
from remit.core.events import AnyEvent
from remit.journal import Journal, erase, open_journal
from remit.journal.hash_chain import link_of
from remit.runtime import runner as run
from remit.tracing import TraceFile, open_trace, read_trace
from remit.tracing.reports.reconciliation import compare_copy, reconcile
from remit.tracing.reports.timeline import build_timeline
from remit.workspace import session
from support.events import RUN, a_whole_run, append, decided, intended, recorded, requested, started, written
from support.events import turn as asked
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, turn


def played(folder: Path, *turns: dict[str, Any], user: str = "user:operator", task: str = "keep it") -> str:
    (folder / "agent" / "clerk" / "script.yaml").write_text(json.dumps({"turns": turns}))
    opened = session.open_session(folder)
    start = run.RunRequest(
        agent="clerk", task=task, subject=user, by=OPERATOR, model=run.open_model_of(opened, "clerk")
    )
    return asyncio.run(run.start_run(opened, start)).run


def test_runs_are_found_by_how_they_ended_and_what_they_called(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([])
    good = played(folder, turn(ledger__look={"name": "ann"}), DONE)
    denied = played(folder, turn(ledger__pay={"name": "vault", "amount": 1}), DONE, user="user:lea")
    failed = played(folder, turn(ledger__look={"name": "gone"}))
    waiting = played(folder, turn(ledger__pay={"name": "ann", "amount": 500}), DONE)

    def listed(*args: str) -> list[str]:
        done = command(folder, "trace", "list", "--json", *args)
        assert done.code == 0, done.err
        return [row["run"] for row in done.json]

    everything = [waiting, failed, denied, good]
    assert (
        listed()
        == listed("--since", "1h")
        == listed("--since", "2020-01-01")
        == listed("--agent", "clerk")
        == everything
    )
    assert listed("--limit", "2") == [waiting, failed]
    assert listed("--failed") == [failed]
    assert listed("--denied") == [denied]
    assert listed("--user", "lea") == listed("--user", "user:lea") == [denied]
    assert listed("--code", "tool_failed") == listed("--action", "ledger.look", "--code", "tool_failed") == [failed]
    assert listed("--action", "ledger.pay") == [waiting, denied]
    assert listed("--action", "ledger.*", "--code", "ok") == [good]
    assert listed("--action", "ledger.look", "--code", "policy_denied") == []
    assert listed("--since", "2100-01-01T00:00") == []
    assert command(folder, "trace", "list", "--since", "2100-01-01T00:00").out == "no runs match the filters\n"
    assert "no run is of agent 'other'" in command(folder, "trace", "list", "--agent", "other").err
    for wrong in (["--since", "soon"], ["--code", "policy_deny"], ["--limit", "0"]):
        done = command(folder, "trace", "list", *wrong)
        assert (done.code, done.out) == (2, "")
        assert "did you mean 'policy_denied'" in done.err or wrong[0] != "--code"


def test_the_list_names_the_first_call_that_was_refused_or_else_failed(
    clerk: Callable[..., Path], command: Command
) -> None:
    """A call that succeeded after a retry does not count, and only one call is named."""
    folder, vault = clerk([]), turn(ledger__pay={"name": "vault", "amount": 1})
    for turns in (
        [turn(ledger__look={"name": "busy1"}), DONE],
        [turn(ledger__look={"name": "ann"}), turn(ledger__look={"name": "gone"}), vault, DONE],
        [turn(ledger__wire={"name": "slow-and-blind", "amount": 1}), DONE],
        [vault, turn(ledger__look={"name": "gone"}), DONE],
    ):
        played(folder, *turns)
    rows = [line.partition("keep it")[2].strip() for line in command(folder, "trace", "list").out.splitlines()]
    shown = [row.partition(" (wall: 1 s allowed, ")[0] for row in rows]
    assert shown == [
        "ledger.pay at step 0: policy_denied",
        "ledger.wire at step 0: outcome_unknown",
        "ledger.pay at step 2: policy_denied",
        "",
    ]


def test_a_waiting_run_shows_who_must_approve_and_the_next_three_commands(play: Play, command: Command) -> None:
    played = play([turn(ledger__look={"name": "ann"}), turn(ledger__pay={"name": "ann", "amount": 500}), DONE])
    name = played.ended.run[:8]
    lines = command(played.folder, "trace", "show", name).out.splitlines()
    assert lines[0].startswith("waiting  2 turns, 2 calls, 0 refused, 0 failed")
    assert any(line.startswith("waits: 1.0 ledger.pay needs approval by 1 × role:lead, expires 20") for line in lines)
    assert "budget: 2 of 30 steps, 2 of 60 calls" in "\n".join(lines)
    assert "labels: seen" in lines
    after = [line.split("  #")[0].strip() for line in lines[lines.index("next commands") + 1 :]]
    assert after == [f"remit approve show {name}/1.0", f"remit run --resume {name}", f"remit replay {name}"]
    for line in after[::2]:
        assert command(played.folder, *line.split()[1:]).code == 0


def test_a_held_run_shows_who_holds_it(play: Play, command: Command) -> None:
    played = play([turn(ledger__pay={"name": "ann", "amount": 500}), DONE])
    hold.set_hold(played.opened.journal, "agent:clerk", why="wrong cluster", by=principal("op"))
    out = command(played.folder, "trace", "show", played.ended.run).out
    assert out.startswith("waiting: hold  ")
    assert "held: op put agent:clerk on hold: wrong cluster" in out
    assert "remit stop --list" in out


def test_show_names_the_first_difference_from_the_last_good_run_and_what_changed(
    clerk: Callable[..., Path], command: Command
) -> None:
    folder = clerk([])
    turns = [turn(ledger__look={"name": "ann"}), turn(ledger__pay={"name": "ann", "amount": 7}), DONE]
    good = played(folder, *turns)
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "\n# Not ann\np, agent:clerk, ledger.pay, account:ann, True, deny\n")
    bad = played(folder, *turns)
    out = command(folder, "trace", "show", bad).out
    assert (
        f"differs from the last good run {good[:8]} at step 1.0, decision: ledger.pay account:ann: was allow, now deny"
        in out
    )
    assert "changed since then: policies/rules.csv" in out
    assert f"remit trace diff {bad[:8]} --last-good" in out


def test_a_model_that_repeats_a_call_is_the_root_cause(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([], steps=6)
    loop = played(folder, turn(ledger__look={"name": "ann"}), *[turn(ledger__look={"name": "gone"})] * 9)
    out = command(folder, "trace", "show", loop).out
    assert out.startswith("exhausted")
    assert "root cause: step 1.0, ledger.look: the model made the same call 5 times; tool_failed" in out


def test_show_names_what_was_in_flight_in_an_interrupted_run(tmp_path: Path) -> None:
    asking = asked(1)[:1]
    events: list[AnyEvent] = [
        started(),
        *asked(0),
        decided(0, 0),
        intended(0, 0),
        decided(0, 1),
        decided(0, 2, "ask"),
        requested(0, 2),
    ]
    timeline = build_timeline(recorded(events))
    assert timeline.in_flight == [
        "step 0.0, files.read: attempt 1 was running",
        "step 0.1, files.read: decided, not executed",
    ]
    assert build_timeline(recorded([started(), *asking])).in_flight == ["step 1: the model was asked"]
    assert build_timeline(recorded(a_whole_run())).in_flight == []


def test_a_clock_that_steps_back_is_reported_and_no_duration_is_negative(tmp_path: Path, command: Command) -> None:
    """The record keeps the times of the clock; the hash chain does not depend on them."""
    now = [10**18]

    def clock() -> int:
        now[0] += -3 * 10**9 if now[0] % 7 == 0 else 1_000_001
        return now[0]

    with open_journal(tmp_path / "journal.db", clock=clock) as journal:
        file = TraceFile(tmp_path, RUN, journal)
        for event in a_whole_run():
            file.see(append(journal, RUN, event))
        file.close()
        assert journal.verify(RUN) == ()
        trace = read_trace(file.path)
        assert trace.faults() == ()
    assert all(span.start <= span.end for span in trace.spans)
    timeline = build_timeline(trace.records)
    assert timeline.steps_back
    assert timeline.took >= 0
    assert all((call.took or 0) >= 0 for call in timeline.calls)
    out = command(tmp_path, "trace", "show", str(file.path)).out
    assert "the clock stepped back 3.0 s at event" in out


# -- the file and the journal ---------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = open_journal(tmp_path / "journal.db")
    for event in a_whole_run():
        append(journal, RUN, event)
    return journal


def test_an_incomplete_file_is_rebuilt_by_the_next_command_that_reads_it(tmp_path: Path, journal: Journal) -> None:
    """Cut off at any byte, also within a line, the rebuilt file equals the file of an uninterrupted run."""
    chain = journal.chain(RUN)
    file = TraceFile(tmp_path, RUN)
    file.rebuild(chain.links)
    file.close()
    whole = file.path.read_bytes()
    assert reconcile(tmp_path, journal, chain).state == "complete"
    for size in (0, 1, 700, len(whole) // 2, whole.rindex(b"\n", 0, -1) + 1, len(whole) - 1):
        file.path.write_bytes(whole[:size])
        assert reconcile(tmp_path, journal, chain).state == "complete", size
        assert file.path.read_bytes() == whole
    file.path.unlink()
    assert reconcile(tmp_path, journal, chain).state == "complete"
    assert file.path.read_bytes() == whole


def test_a_changed_file_is_reported_and_not_overwritten(tmp_path: Path, journal: Journal) -> None:
    """It is evidence: nothing writes over it."""
    chain = journal.chain(RUN)
    file = TraceFile(tmp_path, RUN)
    file.rebuild(chain.links)
    file.close()
    changed = file.path.read_bytes().replace(b"hello", b"hullo")
    file.path.write_bytes(changed[:-9])
    found = reconcile(tmp_path, journal, chain)
    assert found.state == "changed"
    assert [fault.seq for fault in found.faults] == [7, 9, 11, 24]
    assert file.path.read_bytes() == changed[:-9]


def test_the_file_of_a_running_run_is_left_to_its_process(tmp_path: Path, journal: Journal) -> None:
    chain = journal.chain(RUN)
    with journal.brief_lease(RUN):
        assert reconcile(tmp_path, journal, chain).state == "behind"
        assert not (tmp_path / f"{RUN}.jsonl").exists()
    assert reconcile(tmp_path, journal, chain).state == "complete"


def test_an_erased_text_is_removed_from_the_file_by_the_next_command_that_reads_it(
    tmp_path: Path, journal: Journal
) -> None:
    path = written(tmp_path, journal.events(RUN))
    assert b"hello" in path.read_bytes()
    for item in journal.events(RUN):
        if b"hello" in (link_of(item).body or "").encode():
            erase(journal, RUN, item.seq)
    assert reconcile(tmp_path, journal, journal.chain(RUN)).state == "complete"
    assert b"hello" not in path.read_bytes()
    assert compare_copy(path, journal.chain(RUN)).state == "complete"
    assert open_trace(tmp_path, journal, RUN).records == read_trace(path).records
