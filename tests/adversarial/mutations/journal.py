"""Protections of the journal, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import brokered, never, replaced
from remit.journal import Journal, lease, reducer
from remit.journal.run_state import RunState
from remit.journal.storage import database
from remit.journal.storage.sqlite import SqliteDatabase


def only_own(self: SqliteDatabase, count: int) -> int:
    """What other processes record is not noticed."""
    return self._noted


ROWS: Final = (
    brokered(
        "an event loop looks in each iteration for what all runs share",
        never(Journal, "_look_again"),
        tests=(
            "journal/test_changes.py::"
            "test_an_event_loop_looks_once_in_each_iteration_for_what_all_runs_share[sqlite]",
        ),
    ),
    brokered(
        "what another process records for all runs is read before the next call",
        replaced(SqliteDatabase, "_shared_version", only_own),
        tests=(
            "journal/test_changes.py::"
            "test_what_a_run_records_does_not_make_every_call_read_again_what_all_runs_share[sqlite]",
        ),
    ),
    brokered(
        "a process that lost its lease records nothing more",
        replaced(database, "MOVE_HELD_HEAD", database.MOVE_HEAD),
        threats="D4",
        tests=("journal/test_live_record.py::test_a_file_is_fenced_by_the_number_of_the_lease",),
    ),
    brokered(
        "one process at a time executes a run",
        replaced(lease, "is_alive", lambda *_: False),
        tests=("broker/test_broker.py::test_only_one_process_at_a_time_executes_a_run",),
    ),
    brokered(
        "calls of one step are counted together",
        replaced(RunState, "calls", lambda self, *, but=None: dict(self.settled)),
        threats="E8",
        tests=("broker/test_broker.py::test_two_calls_of_one_step_cannot_pass_a_limit_together",),
    ),
    brokered(
        "a denial loop ends the run",
        replaced(RunState, "refused_in_a_row", 0),
        threats="F3",
        tests=("broker/test_retries.py::test_a_refused_call_that_is_repeated_ends_as_denial_loop",),
    ),
    brokered(
        "untrusted results add nothing to the directory",
        replaced(reducer, "UNTRUSTED", "never"),
        tests=("guardrails/test_open_agents.py::test_a_look_up_after_untrusted_text_adds_nothing_to_the_directory",),
    ),
)  # fmt: skip
