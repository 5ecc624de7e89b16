"""The list of runs: every run once, the newest first, under each filter; and runs that are found by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from remit.core import UsageError
from remit.core.calls import Subjects
from remit.core.events import HoldSet, ModelRequested, RunFinished, RunPruned
from remit.journal import (
    WORKSPACE_RUN,
    Journal,
    LiveRecord,
    RunQuery,
    RunSummary,
    StoredRecord,
    delete_run,
    ended_runs,
    find_run,
    last_completed,
    list_runs,
    open_journal,
    resolve_run,
    used_bundles,
)
from remit.journal.upkeep.deletion import DELETED_AT_ONCE
from support.events import EPOCH, RUN, append, ask, decided, ended, failed, intended, started, turn
from support.journals import script
from support.principals import principal

AGENTS: Final = ("agent:triage", "agent:clerk")
USERS: Final = ("user:ann", "user:bob")


def fill(place: Path | str) -> list[RunSummary]:
    """Forty runs of every kind, four at each time; in the order in which they are listed."""
    now = [EPOCH]
    names = [f"{number * 2654435761 % 2**32:08x}{number:024x}" for number in range(40)]
    with open_journal(place, clock=lambda: now[0]) as journal:
        for number, run in enumerate(names):
            now[0] = EPOCH + number // 4 * 1000
            subjects = Subjects(agent=AGENTS[number % 2], user=USERS[number // 2 % 2])
            record = StoredRecord(journal, run)
            record.append(started(subjects=subjects, task=f"task {number % 3}", bundle=f"sha256:{number % 5:064x}"))
            for event in turn(0, ask()):
                record.append(event)
            record.append(decided(0, 0, "deny" if number % 5 == 0 else "allow", action="mail.send", effect="once"))
            if number % 5 == 0:
                record.append(failed(0, 0))
            else:
                record.append(intended(0, 0))
            if number % 7 == 0 and number % 5:
                record.append(ended(0, 0, code="outcome_unknown", landed="unknown"))
                record.append(failed(0, 0, "outcome_unknown"))
            now[0] += 500
            if number % 4:
                outcome = "completed" if number % 4 == 1 else "failed"
                record.append(RunFinished(outcome=outcome, message="so it was"))  # type: ignore[arg-type]
        found = [find_run(journal, run) for run in names]
    return sorted((run for run in found if run is not None), key=lambda run: (run.started_at, run.run), reverse=True)


FILTERS: Final[dict[str, tuple[RunQuery, Callable[[RunSummary], bool]]]] = {
    "all": (RunQuery(), lambda run: True),
    "an agent": (RunQuery(agent=AGENTS[1]), lambda run: run.agent == AGENTS[1]),
    "a user": (RunQuery(user=USERS[1]), lambda run: run.user == USERS[1]),
    "both": (
        RunQuery(agent=AGENTS[0], user=USERS[0]),
        lambda run: (run.agent, run.user) == (AGENTS[0], USERS[0]),
    ),
    "a tenant": (RunQuery(tenant="default"), lambda run: True),
    "another tenant": (RunQuery(tenant="other"), lambda run: False),
    "ready": (RunQuery(state="ready"), lambda run: run.state == "ready"),
    "finished": (RunQuery(state="finished"), lambda run: run.state == "finished"),
    "failed": (RunQuery(failed=True), lambda run: run.outcome not in (None, "completed")),
    "denied": (RunQuery(denied=True), lambda run: run.denied > 0),
    "in doubt": (RunQuery(in_doubt=True), lambda run: bool(run.in_doubt)),
    "since": (RunQuery(since=EPOCH + 4000), lambda run: run.started_at >= EPOCH + 4000),
}


def test_each_filter_lists_every_run_that_matches_once_and_the_newest_first(place: Path | str) -> None:
    """However long a page is, and also where runs began at the same time."""
    runs = fill(place)
    assert len(runs) == 40
    with open_journal(place) as journal:
        for name, (query, matches) in FILTERS.items():
            expected = [run for run in runs if matches(run)]
            assert 0 < len(expected) < 40 or name in ("all", "a tenant", "another tenant"), name
            for page in (1, 3, 4, 40, 200):
                assert list(list_runs(journal, query, page=page)) == expected, (name, page)


def test_the_runs_that_ended_before_a_time_are_listed_the_latest_first(place: Path | str) -> None:
    ended = [(run.ended_at or 0, run.run) for run in fill(place) if run.ended_at and run.ended_at < EPOCH + 4500]
    assert 0 < len(ended) < 40
    with open_journal(place) as journal:
        assert [(run.ended_at, run.run) for run in ended_runs(journal, EPOCH + 4500)] == sorted(ended, reverse=True)


def test_a_page_is_read_when_it_is_needed(journal: Journal, place: Path | str) -> None:
    """`remit trace list` prints twenty runs of a million."""
    runs = fill(place)
    listing = list_runs(journal, page=2)
    assert [next(listing) for _ in range(2)] == runs[:2]
    with open_journal(place, clock=lambda: 2 * EPOCH) as later:
        append(later, "f" * 32, started())
    assert list(listing) == runs[2:]
    assert next(list_runs(journal)).run == "f" * 32


def test_a_run_is_compared_with_the_last_one_that_completed_the_same_task(place: Path | str) -> None:
    runs = fill(place)
    with open_journal(place) as journal:
        for run in runs:
            earlier = [
                other
                for other in runs
                if (other.agent, other.task, other.outcome) == (run.agent, run.task, "completed")
                and other.started_at < run.started_at
            ]
            assert last_completed(journal, run) == (earlier[0] if earlier else None)
    assert any(run.outcome == "completed" for run in runs)


def test_runs_without_content_are_not_taken_for_runs_of_one_task(journal: Journal) -> None:
    """Their tasks are not recorded."""
    for run, task in (("a" * 32, "one task"), ("b" * 32, "another one")):
        record = StoredRecord(journal, run, content=False)
        record.append(started(task=task))
        record.append(RunFinished(outcome="completed"))
    latest = find_run(journal, "b" * 32)
    assert latest is not None
    assert last_completed(journal, latest) is None


def test_the_id_of_a_pruned_run_leads_to_the_message_that_it_was_pruned(journal: Journal) -> None:
    """Its id may still stand in a ticket."""
    append(journal, RUN, started())
    append(journal, RUN, RunFinished(outcome="completed"))
    assert resolve_run(journal, RUN[:6]) == RUN
    delete_run(journal, RUN)
    assert find_run(journal, RUN) is None
    with pytest.raises(UsageError, match="has no run"):
        resolve_run(journal, RUN[:6])
    journal.append_shared(WORKSPACE_RUN, RunPruned(run=RUN, head="1:sha256:0", by=principal("ann")))
    with pytest.raises(UsageError, match=f"run {RUN} was pruned at .* by account 'ann'"):
        resolve_run(journal, RUN[:6])


def test_the_bundles_that_runs_used_are_known(place: Path | str) -> None:
    """They stay in the object store."""
    fill(place)
    with open_journal(place) as journal:
        assert used_bundles(journal) == {f"sha256:{number:064x}" for number in range(5)}


def test_events_of_several_types_are_read_in_the_order_of_their_times(place: Path | str) -> None:
    now = [EPOCH]
    with open_journal(place, clock=lambda: now[0]) as journal:
        for number, event in enumerate(
            [
                HoldSet(number=0, scope="all", reason="r", by=principal("ann")),
                RunPruned(run=RUN, head="1:sha256:0", by=principal("ann")),
                HoldSet(number=1, scope="tool:x", reason="r", by=principal("ann")),
            ]
        ):
            now[0] = EPOCH + number
            journal.append_shared(WORKSPACE_RUN, event)
        assert [item.at for item in journal.every("hold.set", "run.pruned")] == [EPOCH, EPOCH + 1, EPOCH + 2]
        assert [item.at for item in journal.every("hold.set", "run.pruned", since=EPOCH + 1)] == [EPOCH + 1, EPOCH + 2]


DELETE = """
from remit.journal import delete_run
print("ready", flush=True)
sys.stdin.readline()
delete_run(journal, sys.argv[2])
print("deleted", flush=True)
"""


async def test_while_a_long_run_is_deleted_others_are_recorded(place: Path | str) -> None:
    """It is deleted a part at a time, and is gone in the end."""
    with open_journal(place) as journal:
        async with journal.lease(RUN) as lease:
            record = LiveRecord(journal, lease)
            record.append(started())
            for step in range(2 * DELETED_AT_ONCE):
                record.append(ModelRequested(step=step, model="m", input_digest="i"))
            record.append(RunFinished(outcome="completed"))
            await record.commit()
        process = script(DELETE, place, RUN)
        assert process.read() == "ready"
        process.send()
        meanwhile = StoredRecord(journal, "b" * 32)
        meanwhile.append(started())
        for step in range(20):
            meanwhile.append(ModelRequested(step=step, model="m", input_digest="i"))
        assert process.end() == "deleted\n"
        assert journal.events(RUN) == []
        assert journal.head(RUN) is None
        assert [run.run for run in list_runs(journal)] == ["b" * 32]
        assert len(journal.events("b" * 32)) == 21
