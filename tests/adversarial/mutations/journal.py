"""Protections of the journal, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Any, Final

from adversarial.mutations.row import brokered, replaced
from remit.broker import effects
from remit.core.events import Recorded
from remit.journal import AlreadyRecorded, Journal, reducer
from remit.journal.run_lock import fcntl
from remit.journal.run_state import RunState

APPEND: Final = Journal.append


def overwritten(self: Journal, *given: Any, **options: Any) -> Recorded:
    """A second writer of a key treats the recorded event as its own."""
    try:
        return APPEND(self, *given, **options)
    except AlreadyRecorded as conflict:
        return conflict.earlier


ROWS: Final = (
    brokered(
        "a key of the journal has one event",
        replaced(Journal, "append", overwritten),
        replaced(effects, "earlier_attempts", lambda *_: (0, None)),
        threats="D4",
        tests=(
            "broker/test_approvals.py::test_two_workers_use_one_approval_once",
            "broker/test_effects.py::test_two_workers_on_one_run_repeat_no_effect",
        ),
    ),
    brokered(
        "one process at a time executes a run",
        replaced(fcntl, "flock", lambda *_: None),
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
