"""Protections of workers and of published rules, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.broker import effects
from remit.client import publishing
from remit.journal import live_record
from remit.runtime import live, resuming
from remit.workers import enqueue
from remit.workspace import session

WORKERS: Final = "workers/test_workers.py::"
CUT_OFF: Final = "workers/test_cut_off.py::"
PUBLISHED: Final = "policy/test_published_rules.py::"
DRIVEN: Final = (WORKERS + "test_the_commands_start_a_run_and_drive_it",)


async def _nothing(*_: object) -> None:
    return None


def driven(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=DRIVEN)


ROWS: Final = (
    driven(
        "a worker asks whether the principal may still run the agent",
        never(resuming, "check_resumes"),
        tests=(WORKERS + "test_a_run_does_not_go_on_once_its_principal_may_no_longer_run_the_agent",),
    ),
    driven(
        "a queue has an end",
        replaced(enqueue, "count_queued", lambda _: 0),
        tests=(WORKERS + "test_a_full_queue_refuses_a_run_and_records_nothing",),
    ),
    driven(
        "an effect begins only if the process still has its run",
        replaced(live_record, "FRESH_S", 3600.0),
        tests=(CUT_OFF + "test_an_effect_begins_only_if_this_process_has_recorded_a_moment_ago_that_it_lives",),
    ),
    driven(
        "the holds are looked at again if the record of an effect was late",
        replaced(effects, "overtaken", _nothing),
        tests=(
            CUT_OFF + "test_a_hold_that_was_set_while_the_record_was_late_stops_the_effect",
            CUT_OFF + "test_without_an_answer_of_the_database_in_time_an_effect_does_not_begin_and_a_read_does[True]",
        ),
    ),
    driven(
        "published rules replace those of the files",
        replaced(session, "with_rules_in_force", lambda opened: opened),
        tests=(
            PUBLISHED + "test_published_rules_decide_within_a_second_in_processes_that_are_open_already",
            PUBLISHED + "test_a_process_that_cannot_load_the_published_rules_decides_nothing",
        ),
    ),
    driven(
        "a process notices that rules are published",
        replaced(live.LivePorts, "_rules", lambda self: self._watched),
        tests=(PUBLISHED + "test_published_rules_decide_within_a_second_in_processes_that_are_open_already",),
    ),
    driven(
        "the rules in force say who may publish",
        never(publishing, "authorize"),
        tests=(PUBLISHED + "test_who_may_not_publish_is_refused_and_the_rules_in_force_decide_who_may",),
    ),
)
