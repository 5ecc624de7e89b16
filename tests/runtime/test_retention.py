"""Retention: old runs are deleted completely; golden runs and runs with an unreviewed emergency approval are kept."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker.approvals import requests as approval
from remit.broker.approvals.break_glass import emergencies, review
from remit.cli import remit
from remit.core.calls import BREAK_GLASS
from remit.core.errors import UsageError
from remit.core.events import RunFinished, RunPruned
from remit.journal import WORKSPACE_RUN, StoredRecord, list_runs, open_journal, resolve_run
from remit.runtime import runner as run
from remit.runtime.upkeep.retention import prunable, prune, retention_seconds
from remit.tracing import open_trace, write_portable
from remit.tracing.reports.reconciliation import reconcile
from remit.tracing.reports.timeline import utc
from remit.workspace import session
from support.events import EPOCH, append, started
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

LOOK = turn(ledger__look={"name": "ann"})


def another(played: Played, turns: list[dict[str, Any]]) -> str:
    """Another run in the same workspace."""
    (played.folder / "agent" / "clerk" / "script.yaml").write_text(json.dumps({"turns": turns}))
    opened = session.open_session(played.folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep the ledger", subject="user:operator", by=OPERATOR, model=model)
    return asyncio.run(run.start_run(opened, start)).run


def test_old_runs_are_deleted_completely_and_others_stay_complete(play: Play, command: Command) -> None:
    played = play([LOOK, DONE])
    old, opened = played.ended.run, played.opened
    head = opened.journal.chain(old).head
    write_portable(open_trace(opened.traces, opened.journal, old), played.folder / "copy.jsonl")
    rules = played.folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "# another bundle\n")
    kept, waiting = another(played, [LOOK, DONE]), another(played, [turn(ledger__pay={"name": "ann", "amount": 500})])
    opened = session.open_session(played.folder)
    objects = opened.traces / "objects"
    for path in objects.iterdir():
        os.utime(path, (0, 0))
    rows = [row for row in prunable(opened, 0) if row.run == old]
    assert {row.run for row in prunable(opened, 0)} == {old, kept}  # a run that waits has not finished
    done = prune(opened, rows, by=principal("op"))

    assert done.runs == (old,)
    assert done.objects == 2  # the index and the rules that only this run used
    assert {row.run for row in list_runs(opened.journal)} == {kept, waiting}
    assert not (opened.traces / f"{old}.jsonl").exists()
    for path in opened.traces.rglob("*"):
        if path.is_file() and path.name != "journal.db":
            assert old.encode() not in path.read_bytes(), path
    for name in (kept, waiting):
        trace = open_trace(opened.traces, opened.journal, name)
        assert trace.bundles()
        assert reconcile(opened.traces, opened.journal, trace.chain).state == "complete"
    assert command(played.folder, "replay", kept).code == 0

    audit = opened.journal.get(WORKSPACE_RUN, f"run.pruned/{old}")
    assert audit is not None
    assert head is not None
    assert audit.event == RunPruned(run=old, head=f"{head[0]}:{head[1]}", by=principal("op"))
    assert command(played.folder, "trace", "verify", "copy.jsonl").code == 0
    copy = played.folder / "copy.jsonl"
    copy.write_text("\n".join([*copy.read_text().split("\n")[:-4], copy.read_text().split("\n")[-2], ""]))
    assert "missing" in command(played.folder, "trace", "verify", "copy.jsonl").out


def test_a_command_on_a_deleted_run_says_when_it_was_deleted_and_by_whom(play: Play, command: Command) -> None:
    """Every command that names a deleted run reports it. A name that never was a run is reported as such."""
    played = play([LOOK, DONE])
    first, second = played.ended.run, another(played, [LOOK, DONE])
    prune(played.opened, [row for row in prunable(played.opened, 0) if row.run == first], by=principal("op"))
    pruned = played.opened.journal.get(WORKSPACE_RUN, f"run.pruned/{first}")
    assert pruned is not None
    for arguments in (["trace", "show", first[:12]], ["replay", first]):
        result = command(played.folder, *arguments)
        assert (result.code, result.out) == (2, "")
        assert f"run {first} was pruned at {utc(pruned.at)} by account 'op'" in result.err, result.err
    assert resolve_run(played.opened.journal, second) == second
    for never in ("zz", "%", ""):
        with pytest.raises(UsageError, match="the journal has no run"):
            resolve_run(played.opened.journal, never)


async def test_a_run_that_a_process_drives_is_not_deleted(clerk: Callable[..., Path]) -> None:
    """It has recorded its end, and its process still writes the trace."""
    opened = session.open_session(clerk([]))
    for name in ("a" * 32, "b" * 32):
        append(opened.journal, name, started())
        append(opened.journal, name, RunFinished(outcome="completed"))
    async with opened.journal.lease("a" * 32):
        rows = prunable(opened, 0)
        assert len(rows) == 2
        assert prune(opened, rows, by=principal("op")).runs == ("b" * 32,)
        assert [row.run for row in list_runs(opened.journal)] == ["a" * 32]


@pytest.mark.parametrize(("runs", "terminal"), [(11, True), (11, False), (10, True)])
def test_deleting_many_runs_shows_its_progress_on_a_terminal(
    clerk: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runs: int,
    terminal: bool,
) -> None:
    """Only on a terminal: a pipe or a log gets the result alone."""
    folder = clerk([])
    opened = session.open_session(folder)
    with open_journal(opened.traces / "journal.db", clock=lambda: EPOCH // 2) as long_ago:
        for number in range(runs):
            append(long_ago, f"{number:032x}", started())
            append(long_ago, f"{number:032x}", RunFinished(outcome="completed"))
    reading, writing = os.openpty() if terminal else os.pipe()
    monkeypatch.chdir(folder)
    with os.fdopen(writing, "w") as screen:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", screen)
            remit(["trace", "prune", "--older-than", "1h", "--yes"], standalone_mode=False)
        screen.write("end")
        screen.flush()
        shown = ""
        while not shown.endswith("end"):  # a terminal returns what it has so far
            shown += os.read(reading, 10_000).decode()
    os.close(reading)
    assert capsys.readouterr().out.startswith(f"deleted {runs} runs and 0 objects")
    expected = [f"deleted {number} of {runs} runs" for number in range(1, runs + 1)] if runs > 10 and terminal else []
    assert re.findall(r"\r(deleted \d+ of \d+ runs)", shown) == expected
    assert shown.rpartition("\n")[2] == "end"
    assert list(list_runs(session.open_session(folder).journal)) == []


def test_golden_runs_are_kept_and_an_unreadable_golden_file_stops_the_deletion(play: Play) -> None:
    played = play([LOOK, DONE])
    golden = played.opened.traces / "golden"
    golden.mkdir()
    trace = open_trace(played.opened.traces, played.opened.journal, played.ended.run)
    write_portable(trace, golden / "incident.jsonl")
    assert prunable(played.opened, 0) == []
    (golden / "incident.jsonl").write_text("{}\n")
    with pytest.raises(Exception, match="not a complete span"):
        prunable(played.opened, 0)


def test_an_emergency_that_nobody_has_reviewed_keeps_its_run(clerk: Callable[..., Path]) -> None:
    """Otherwise the reason for the review would be deleted before the review."""
    folder = clerk([turn(ledger__pay={"name": "ann", "amount": 5000}), DONE])
    rules = folder / "policies" / "rules.csv"
    either = f"approved('role:lead') or approved('{BREAK_GLASS}')"
    rules.write_text(rules.read_text().replace("approved('role:lead')", either) + f"g, user:bea, {BREAK_GLASS}\n")
    opened = session.open_session(folder)
    start = run.RunRequest(
        agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=run.open_model_of(opened, "clerk")
    )
    ended = asyncio.run(run.start_run(opened, start))
    now = time.time_ns()
    approval.grant_approval(
        StoredRecord(opened.journal, ended.run),
        ended.waiting[0],
        approval.Approval(by=principal("bea"), role=BREAK_GLASS, reason="INC-7", until=now + 60_000_000_000),
        roles_of=opened.policy.roles_of,
        now=now,
    )
    asyncio.run(run.resume_run(opened, ended.run, by=OPERATOR))
    assert prunable(opened, 0) == []
    (emergency,) = emergencies(opened.journal)
    review(
        opened.journal,
        emergency,
        by=principal("leo"),
        roles_of=opened.policy.roles_of,
        note="a right call",
    )
    assert [row.run for row in prunable(opened, 0)] == [ended.run]


def test_an_interrupted_deletion_is_completed_by_the_next_one(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    played = play([LOOK, DONE])
    opened, old = played.opened, played.ended.run
    head = opened.journal.chain(old).head
    with monkeypatch.context() as killed:
        killed.setattr("remit.runtime.upkeep.retention.delete_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune(opened, prunable(opened, 0), by=principal("op"))
    assert opened.journal.chain(old).head == head  # the journal is deleted last
    assert prune(opened, prunable(opened, 0), by=principal("op")).runs == (old,)
    assert list(list_runs(opened.journal)) == []
    assert len(opened.journal.every("run.pruned")) == 1


def test_deletion_needs_an_age(play: Play, command: Command) -> None:
    played = play([LOOK, DONE])
    result = command(played.folder, "trace", "prune", "--yes")
    assert (result.code, "--older-than 90d" in result.err) == (2, True)
    assert command(played.folder, "trace", "prune", "--older-than", "1h", "--json").json["runs"] == []
    settings = played.folder / "remit.toml"
    settings.write_text(settings.read_text() + '\n[traces]\nkeep = "90d"\n')
    assert command(played.folder, "trace", "prune", "--dry-run").out == (
        "0 runs to delete: ended longer ago than remit.toml keeps them, not golden, nothing to review\n"
    )
    done = command(played.folder, "trace", "prune").out
    assert done == "deleted 0 runs and 0 objects, 0.0 MB of files\nsealed 0 finished runs\n"
    for wrong in ("soon", "0d", "90"):
        with pytest.raises(UsageError, match="is not an age"):
            retention_seconds(wrong)
    assert (retention_seconds("12h"), retention_seconds("90d"), retention_seconds("2w")) == (
        43_200,
        7_776_000,
        1_209_600,
    )
    settings.write_text(settings.read_text().replace("90d", "for ever"))
    assert "an age" in command(played.folder, "trace", "prune").err
