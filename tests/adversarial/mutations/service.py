"""Protections of the service over HTTP, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.broker import decisions
from remit.cli import run_argument
from remit.cli.service import remote
from remit.core.parsing import strict_json
from remit.journal import live_record
from remit.runtime import resuming, runner
from remit.server import definition, serving
from remit.server.driven import DrivenRuns
from remit.server.handlers import approvals, calls, events, holds, runs
from remit.server.http import application, bodies, idempotency, in_time
from remit.server.http.answers import ServiceError
from remit.server.http.route import Asked
from remit.server.pages import live
from remit.server.pages.live import LivePages
from remit.server.pages.runs import RunPages
from remit.workspace import open_session

SERVED: Final = ("server/test_service.py::test_a_decision_is_that_of_the_client_and_nothing_is_recorded",)
PEOPLE: Final = "server/test_people.py::"
SERVICE: Final = "server/test_service.py::"
INTERRUPTED: Final = SERVICE + "test_a_repeated_call_that_was_interrupted_says_whether_it_can_still_be_made"


def served(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=SERVED)


async def _raised(_: object, error: Exception) -> Any:
    raise error


async def _any_time(work: Any, waits_for: object, _: object) -> Any:
    """The result of the work, however long it takes."""
    return await in_time._resumed(work, waits_for)


async def _nothing(*_: object) -> None:
    return None


async def _any_run(asked: Asked, name: str) -> Any:
    """The run, without a look at who may read it."""
    return runs.find_run(asked.workspace.journal, name)


ROWS: Final = (
    served(
        "no run starts while the changed files of a workspace are not valid",
        replaced(runner, "_check_rules", lambda _: None),
        tests=(
            "server/test_changed_files.py::test_while_files_are_not_valid_no_run_starts_and_the_answer_names_what_is_wrong",
        ),
    ),
    served(
        "a role of a token counts for calls of an agent: a deny for it denies",
        replaced(decisions, "token_roles", lambda *_: ()),
        tests=(
            "server/authentication/test_access.py::"
            "test_the_roles_of_a_token_count_for_calls_that_an_agent_makes_for_its_person[groups1-200-allow]",
        ),
    ),
    served(
        "a service that is started for one journal starts no run for the settings of another",
        replaced(definition, "_KEPT", ()),
        tests=(
            "server/test_changed_files.py::test_settings_of_the_open_journal_start_no_run_and_those_of_the_start_are_named",
        ),
    ),
    served(
        "a token of a person is sent over TLS only, or to this machine",
        replaced(remote, "_is_safe", lambda _: True),
        tests=("server/test_remote_commands.py::test_a_token_is_sent_over_tls_only_or_to_this_machine[no TLS]",),
    ),
    served(
        "who begins to read in the middle of a run is recorded",
        replaced(events, "_noted", _nothing),
        tests=(PEOPLE + "test_who_begins_in_the_middle_of_a_run_is_recorded_as_its_reader_once",),
    ),
    served(
        "who follows a run in the console is recorded before anything is shown",
        replaced(LivePages, "_begun", lambda _, __, ___, messages: messages),
        tests=("server/pages/test_runs.py::test_a_person_who_follows_a_run_without_its_page_is_recorded_as_a_reader",),
    ),
    served(
        "the body of an answer follows its head at once",
        replaced(serving, "_answer_at_once", lambda _: None),
        tests=(SERVICE + "test_the_body_of_an_answer_does_not_wait_until_the_client_has_acknowledged_its_head",),
    ),
    served(
        "who may no longer read a run follows it no longer",
        replaced(RunPages, "_may_read", lambda *_: True),
        tests=("server/pages/test_live.py::test_the_page_of_a_run_ends_once_its_reader_may_not_read_it",),
    ),
    served(
        "only those who see the same of a page share its rendering",
        replaced(live, "_seen", lambda page, by, found: (page.seen(by, found), "")),
        tests=("server/pages/test_live.py::test_people_who_see_the_same_share_a_rendering_and_others_do_not",),
    ),
    served(
        "a request that waits too long ends",
        replaced(in_time, "_timed", _any_time),
        tests=(
            "server/test_connections.py::test_a_request_that_waits_too_long_gets_its_code_and_the_next_one_is_answered",
        ),
    ),
    served(
        "a service answers only requests that name it",
        replaced(application.HostChecked, "_is_named", lambda *_: True),
        tests=(SERVICE + "test_a_body_that_two_readers_could_read_differently_is_refused",),
    ),
    served(
        "a service reads a body in one way only",
        replaced(bodies, "parse_arguments", strict_json.json.loads),
        tests=(SERVICE + "test_a_body_that_two_readers_could_read_differently_is_refused",),
    ),
    served(
        "who may not start runs of an agent asks a service for nothing of it",
        replaced(Asked, "authorize", lambda *_: None),
        tests=(
            SERVICE + "test_a_principal_whom_the_rules_do_not_let_start_runs_learns_nothing_of_the_rules",
            PEOPLE + "test_the_rules_are_explained_to_who_may_read_every_run",
        ),
    ),
    served(
        "a run of another team looks to a service's caller as if it did not exist",
        replaced(events, "readable_run", _any_run),
        tests=(PEOPLE + "test_the_content_of_a_run_is_not_found_for_who_may_not_read_it",),
    ),
    served(
        "a hold does not tell which runs of others exist",
        replaced(holds, "_may_see", lambda *_: True),
        tests=(PEOPLE + "test_the_content_of_a_run_is_not_found_for_who_may_not_read_it",),
    ),
    served(
        "a request for approval is shown to who may answer it",
        replaced(approvals, "_may_see", lambda *_: True),
        tests=(
            PEOPLE + "test_one_person_asks_another_approves_and_the_call_goes_on_by_itself",
            "server/test_pages_of_lists.py::test_a_page_of_requests_costs_no_more_than_its_bound_and_the_next_one_goes_on",
        ),
    ),
    served(
        "a key belongs to its principal",
        replaced(idempotency, "_identity", lambda _: []),
        tests=(SERVICE + "test_a_repeated_call_with_one_key_happens_once",),
    ),
    served(
        "of two requests with one key at one time one starts",
        replaced(DrivenRuns, "named", lambda *_: []),
        tests=(SERVICE + "test_two_requests_with_one_key_at_the_same_time_start_one_run",),
    ),
    served(
        "a stream checks again who may read",
        replaced(events, "CHECK_S", 3600.0),
        tests=(PEOPLE + "test_who_loses_the_right_to_read_receives_nothing_more",),
    ),
    served(
        "a read by a service is recorded",
        replaced(events, "_note_read", lambda *_: None),
        tests=(PEOPLE + "test_pages_of_events_continue_where_the_last_one_ended_and_reading_is_recorded",),
    ),
    served(
        "a key names one request",
        replaced(idempotency, "_body", lambda _: None),
        tests=(
            SERVICE + "test_a_repeated_call_with_one_key_happens_once",
            SERVICE + "test_two_requests_with_one_key_at_the_same_time_start_one_run",
        ),
    ),
    served(
        "a key is found in the journal",
        replaced(idempotency, "runs_named", lambda *_: []),
        tests=(SERVICE + "test_a_repeated_call_with_one_key_happens_once",),
    ),
    served(
        "a call that can never be made says so",
        replaced(calls, "_is_never_made", lambda *_: False),
        tests=(f"{INTERRUPTED}[nothing of the call]",),
    ),
    served(
        "a call that a process makes is not called impossible",
        replaced(calls, "_is_never_made", lambda journal, run: journal.get(run, "model.responded/0/-/-") is None),
        tests=(f"{INTERRUPTED}[nothing yet, by a process that lives]",),
    ),
    served(
        "a call without recorded arguments is not resumed",
        replaced(resuming, "resumable", lambda record, *_, **__: record.state.started),
        tests=(
            "server/test_service_killed.py::test_a_call_whose_arguments_were_never_recorded_is_not_made_with_others",
        ),
    ),
    served(
        "a service acts only on what is recorded, also when it is killed",
        never(live_record.LiveRecord, "commit"),
        tests=(
            "server/test_service_killed.py::test_nothing_is_lost_and_nothing_happens_twice_when_the_service_is_killed",
        ),
    ),
    served(
        "a request that is cut off is no defect",
        replaced(application, "_gone", _raised),
        tests=("server/test_any_request.py::test_no_bytes_end_the_service_or_get_a_server_error",),
    ),
    served(
        "a disabled person sees nothing of runs by a command",
        replaced(run_argument, "open_for_person", open_session),
        tests=("client/test_access.py::test_the_commands_of_a_disabled_person_are_refused",),
    ),
    served(
        "a scope that is not valid is an error of the request",
        replaced(
            application, "_not_valid", lambda _: ServiceError(code="unavailable", message="the workspace is not valid")
        ),
        tests=("server/test_any_request.py::test_a_scope_that_is_no_scope_is_an_error_of_the_request",),
    ),
)
