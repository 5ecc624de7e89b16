"""What watches a journal from outside: the figures of the workspace, and the cursor of the audit stream, on both databases."""

from __future__ import annotations

from pathlib import Path

from remit.core.events import CODE, NANO, HoldSet, ModelFailed, RunFinished
from remit.journal import (
    MODEL_FAILED,
    WORKSPACE_RUN,
    Journal,
    StoredRecord,
    check_projections,
    count_unsent,
    mark_sent,
    note_act,
    unsent_chains,
    workspace_figures,
)
from support.events import RUN, call, decided, failed, intended, requested, started, succeeded
from support.journals import query
from support.principals import principal

OTHER = "b" * 32
DEAD = "elsewhere:boot:1/412.7 00"  # a holder of another machine that is silent


def at(journal: Journal, seconds: float) -> None:
    """Let the clock of the journal stand at that time."""
    object.__setattr__(journal, "clock", lambda: int((1_800_000_000 + seconds) * NANO))


def test_what_ended_is_counted_for_fifteen_minutes(journal: Journal) -> None:
    at(journal, 0)
    record = StoredRecord(journal, RUN)
    record.append(started())
    for index, verdict in enumerate(("allow", "deny", "deny")):
        record.append(decided(0, index, verdict))
        record.append(succeeded(0, index) if verdict == "allow" else failed(0, index))
    record.append(ModelFailed(step=1, message="busy", passing=True, again_at=1))
    record.append(RunFinished(outcome="failed"))
    counted = {
        ("triage", "ok", "", "files.read"): 1,
        ("triage", "policy_denied", "policies/rules.csv:3", "files.read"): 2,
        ("triage", MODEL_FAILED, "", ""): 1,
    }
    for seconds in (0, 599):
        at(journal, seconds)
        figures = workspace_figures(journal)
        assert figures.outcomes == counted
        assert figures.ended == {("triage", "failed", ""): 1}
    at(journal, 901)
    figures = workspace_figures(journal)
    assert (figures.outcomes, figures.ended) == ({}, {})
    assert check_projections(journal) == []


def test_a_run_keeps_the_counts_of_its_last_hour_only(journal: Journal) -> None:
    record = StoredRecord(journal, RUN)
    record.append(started())
    for number in range(30):
        at(journal, number * 300)
        record.append(decided(0, number))
        record.append(succeeded(0, number))
    assert len(record.state.recent) == 12
    assert sum(workspace_figures(journal).outcomes.values()) == 3
    assert check_projections(journal) == []


def test_a_run_is_lost_and_its_effect_in_doubt_once_its_process_has_ended(journal: Journal, place: Path | str) -> None:
    """While a process lives, a call that it carries out is no effect in doubt."""
    record = StoredRecord(journal, RUN)
    record.append(started())
    record.append(decided(0, 0, effect="once", touches=call(0, 0).touches))
    record.append(intended(0, 0))
    with journal.brief_lease(RUN):
        figures = workspace_figures(journal)
        assert (figures.unfinished, figures.in_doubt["triage"]) == ({("triage", "running"): 1}, 0)
        query(place, f"UPDATE head SET holder = '{DEAD}', beat = 0 WHERE run = '{RUN}'")
        figures = workspace_figures(journal)
        assert (figures.unfinished, figures.in_doubt) == ({("triage", "lost"): 1}, {"triage": 1})


def test_runs_that_wait_are_not_lost_and_runs_of_evaluations_count_nowhere(journal: Journal) -> None:
    record = StoredRecord(journal, RUN)
    at(journal, 0)
    for event in (started(), decided(0, 0, "ask"), requested(0, 0, expires_at=2**62)):
        record.append(event)
    StoredRecord(journal, OTHER).append(started(evaluation="ev1"))
    for seconds, age in ((299, "under_5m"), (300, "under_30m"), (1800, "under_4h"), (14400, "older")):
        at(journal, seconds)
        figures = workspace_figures(journal)
        assert (figures.unfinished, figures.approvals) == ({("triage", "waiting"): 1}, {age: 1})


def test_the_cursor_names_each_chain_with_events_behind_it_and_never_goes_back(journal: Journal) -> None:
    for run in (RUN, OTHER):
        StoredRecord(journal, run).append(started())
    by = principal("ann")
    for _ in range(2):
        note_act(journal, lambda number: HoldSet(number=number, scope="all", reason="r", by=by))

    def unsent() -> dict[str, int]:
        return {chain.run: chain.after for chain in unsent_chains(journal)}

    assert unsent() == {RUN: -1, OTHER: -1, WORKSPACE_RUN: -1}
    mark_sent(journal, {RUN: 0, WORKSPACE_RUN: 0})
    assert unsent() == {OTHER: -1, WORKSPACE_RUN: 0}
    mark_sent(journal, {WORKSPACE_RUN: 1, OTHER: 0})
    mark_sent(journal, {WORKSPACE_RUN: 0})
    assert (unsent(), count_unsent(journal)) == ({}, 0)
    StoredRecord(journal, RUN).append(RunFinished(outcome="stopped"))
    assert unsent() == {RUN: 0}
    with journal.brief_lease(RUN):  # a lease moves no cursor
        assert unsent() == {RUN: 0}


def test_code_that_is_revoked_is_no_hold_that_a_person_has_to_lift(journal: Journal) -> None:
    by = principal("ann")
    for scope in ("tool:files", f"{CODE}sha256:ab"):
        note_act(journal, lambda number, scope=scope: HoldSet(number=number, scope=scope, reason="r", by=by))
    assert workspace_figures(journal).holds == 1
