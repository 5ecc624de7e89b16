"""Protections of workers and of published rules, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.broker import effects
from remit.client import publishing
from remit.journal import live_record
from remit.journal.copies import bringing_back, sealed_bodies
from remit.runtime import live, resuming, runner
from remit.runtime.upkeep import folders
from remit.storage import folder
from remit.workers import enqueue
from remit.workspace import session

WORKERS: Final = "workers/test_workers.py::"
CUT_OFF: Final = "workers/test_cut_off.py::"
SHARED: Final = "workers/test_shared_storage.py::"
COPIES: Final = "workers/test_copies.py::"
STORES: Final = "storage/test_store.py::"
SEALED: Final = "storage/test_sealed_runs.py::"
PUBLISHED: Final = "policy/test_published_rules.py::"
DRIVEN: Final = (WORKERS + "test_the_commands_start_a_run_and_drive_it",)


async def _nothing(*_: object) -> None:
    return None


def driven(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=DRIVEN)


ROWS: Final = (
    driven(
        "an irreversible call is copied to the storage before it begins",
        replaced(live_record.LiveRecord, "copy", _nothing),
        tests=(COPIES + "test_a_run_that_ended_since_the_backup_has_ended_and_has_the_same_chain[folder]",),
    ),
    driven(
        "a run is brought back before it goes on",
        replaced(runner, "bring_run_back", lambda *_: 0),
        tests=(COPIES + "test_a_run_whose_copy_was_changed_does_not_go_on[folder]",),
    ),
    driven(
        "an attempt that may have begun is in doubt after a restore",
        replaced(bringing_back, "_begin", lambda *_: 0),
        tests=(COPIES + "test_an_effect_that_may_have_happened_since_the_backup_is_in_doubt_and_not_repeated[folder]",),
    ),
    driven(
        "holds of a lost time are brought back when the journal is opened",
        replaced(bringing_back, "_bring_stream_back", lambda *_: 0),
        tests=(COPIES + "test_a_hold_that_was_set_since_the_backup_is_in_force_when_the_journal_is_opened[folder]",),
    ),
    driven(
        "a damaged copy of one run stops no other one",
        replaced(bringing_back, "DamagedCopy", ZeroDivisionError),
        tests=(COPIES + "test_a_damaged_copy_of_one_run_stops_no_other_run_and_the_command_names_it[folder]",),
    ),
    driven(
        "the bodies of a sealed run are compared with the digest that the database has",
        replaced(sealed_bodies, "_differs", lambda *_: False),
        tests=(SEALED + "test_bodies_that_were_changed_in_the_storage_are_not_read[folder]",),
    ),
    driven(
        "what is erased of a sealed run is removed from the storage",
        never(sealed_bodies.SealedBodies, "forget"),
        tests=(
            SEALED + "test_what_is_erased_of_a_sealed_run_is_in_the_storage_no_more[folder]",
            SEALED + "test_a_deleted_run_leaves_nothing_in_the_storage[folder]",
        ),
    ),
    driven(
        "a file of another machine is compared with the digest of the record",
        replaced(folders, "_differs", lambda *_: False),
        tests=(SHARED + "test_a_file_is_given_to_another_machine_only_as_it_was_stored",),
    ),
    driven(
        "storage that is away does not look empty",
        never(folder.FolderStore, "_check"),
        tests=(STORES + "test_storage_that_does_not_exist_is_an_error_and_not_empty[folder]",),
    ),
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
