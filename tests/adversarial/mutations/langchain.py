"""Protections of the LangChain middleware, each with the tests that must fail without it."""

from __future__ import annotations

import json
import secrets
from types import SimpleNamespace
from typing import Any, Final

from pydantic import ValidationError

from adversarial.mutations.row import brokered, never, replaced
from remit.broker import attempts, execution
from remit.broker.approvals import requests
from remit.broker.decisions import Decider
from remit.broker.host import calls, tools
from remit.core.principals import Principal
from remit.journal import during_calls, reducer
from remit.langchain import answers, external_run, graph_tools, registry, reviewed_tool, state, turns
from remit.runtime import conversations, live

_RECORD: Final = attempts.Progress._record
_TOOL_OF: Final = graph_tools.ToolRequest._tool_of


def passed_on(reviewed: reviewed_tool.ReviewedTool, given: dict[str, Any]) -> dict[str, Any]:
    """The tool gets the arguments as they arrived."""
    return {"type": "tool_call", "name": reviewed._tool.name, "args": given, "id": reviewed._call_id}


def believed(config: dict[str, Any], given_by: Any, tenant: str) -> Principal | None:
    """Data of a client is a principal too."""
    settings = config.get("configurable", {})
    given = settings.get("remit_principal") if given_by is None else given_by(settings[state.RUNTIME])
    try:
        return given if isinstance(given, Principal) else Principal.model_validate_json(json.dumps(given))
    except ValidationError:
        return None


def unsanitized(progress: Any, text: str) -> None:
    """Lines of a tool are recorded as they are."""
    progress.sanitizer = SimpleNamespace(text=lambda text, **_: text)
    _RECORD(progress, text)


def any_human(messages: Any) -> tuple[str, str, int]:
    """What the graph wrote in the person's place is a message of the person."""
    last = next(item for item in reversed(messages) if item.type == "human")
    return str(last.text), str(last.id), 0


FIDELITY: Final = "langchain/test_fidelity.py"

ROWS: Final = (
    brokered(
        "a tool that has begun does not run again because of what it raises",
        replaced(tools, "_is_asynchronous", lambda *_: True),
        tests=(f"{FIDELITY}::test_a_tool_that_raises_not_implemented_error_itself_runs_only_once",),
    ),
    brokered(
        "an agent inside of a tool has what the run around it knows, and only the user's words as its task",
        replaced(registry, "inside_of", lambda place, _: place),
        tests=(
            f"{FIDELITY}::test_an_agent_inside_a_tool_knows_what_was_read_and_takes_no_task_from_the_model_around_it",
        ),
    ),
    brokered(
        "bytes with a known secret are not recorded",
        replaced(execution.Execution, "_without_secrets", lambda self, item: item),
        tests=(f"{FIDELITY}::test_the_bytes_of_a_file_with_a_known_secret_are_neither_recorded_nor_shown",),
    ),
    brokered(
        "the words of an exception that nobody declared are for operators",
        replaced(calls, "Explained", Exception),
        tests=(
            f"{FIDELITY}::test_the_words_of_an_exception_and_its_place_are_in_the_record_and_the_model_reads_its_class",
        ),
    ),
    brokered(
        "an agent that observes is enforced after its last day, and its sandboxed tools always",
        replaced(Decider, "enforces", lambda self, *_: self.record.state.started.observe is None),
        tests=(
            "langchain/test_observe.py::test_an_agent_is_enforced_from_the_day_after_the_last_one",
            "langchain/test_observe.py::test_a_thread_that_is_observed_is_enforced_once_the_day_has_passed",
            "langchain/test_observe.py::test_a_sandboxed_tool_of_an_agent_that_observes_is_enforced",
            "langchain/test_observe.py::test_an_action_that_is_enforced_already_is_refused_and_the_others_are_not",
        ),
    ),
    brokered(
        "a call that a person makes instead is not the one of the model",
        replaced(graph_tools.ToolRequest, "_tool_of", lambda asked, made, _: _TOOL_OF(asked, made, asked._unchanged)),
        tests=(
            "langchain/test_observe.py::test_a_call_that_a_person_makes_instead_runs_and_not_the_one_of_the_model",
        ),
    ),
    brokered(
        "a program cannot end the enforcement",
        never(registry, "check_mode"),
        tests=("langchain/test_observe.py::test_a_program_that_expects_another_mode_does_not_start",),
    ),
    brokered(
        "an operators hold stops calls that are only observed",
        lambda patch: patch.setattr(turns, "is_refused", lambda *_, **__: False),
        tests=("langchain/test_observe.py::test_an_operators_stop_ends_an_observed_call_too[tool:desk]",),
    ),
    brokered(
        "only reviewed tools of a graph run",
        never(external_run, "check_reviewed"),
        tests=("langchain/test_middleware.py::test_a_tool_that_is_not_the_reviewed_one_does_not_run",),
    ),
    brokered(
        "a tool of a graph runs the decided call, once",
        never(reviewed_tool.ReviewedTool, "_check"),
        tests=(
            "langchain/test_middleware.py::test_nothing_between_the_decision_and_the_tool_changes_the_call_or_answers_for_it",
            "langchain/test_middleware.py::test_a_retry_of_the_graph_repeats_no_irreversible_effect",
            "langchain/test_decided_arguments.py::test_a_call_that_is_changed_after_its_decision_does_not_run",
        ),
    ),
    brokered(
        "a tool of a graph gets the decided arguments",
        replaced(reviewed_tool.ReviewedTool, "_decided_call", lambda self, given: self._check(given) or passed_on(self, given)),
        tests=(
            "langchain/test_decided_arguments.py::test_an_observer_of_the_call_changes_nothing_of_what_the_tool_gets",
        ),
    ),
    brokered(
        "only the program says who asks",
        replaced(state, "principal_of", believed),
        tests=(
            "langchain/test_middleware.py::test_a_principal_that_a_client_sends_as_data_is_refused",
            "langchain/test_conversations.py::test_a_forged_user_in_state_arguments_or_configuration_changes_nothing",
        ),
    ),
    brokered(
        "a run of a graph is continued only for the person who began it",
        lambda patch: patch.setattr(registry, "same_person", lambda *_: True),
        tests=(
            "langchain/test_middleware.py::test_a_person_who_acts_for_the_same_user_does_not_continue_the_run_of_another",
        ),
    ),
    brokered(
        "a repeated turn of a graph is recognized",
        replaced(turns, "recorded_key", lambda _: secrets.token_hex()),
        tests=(
            "langchain/test_middleware.py::test_a_plain_tool_node_that_runs_again_after_a_pause_repeats_no_effect",
            "langchain/test_middleware.py::test_going_back_in_time_repeats_no_effect",
            "langchain/test_conversations.py::test_going_back_to_an_earlier_message_repeats_no_effect",
        ),
    ),
    brokered(
        "what was read, done and approved stays with the conversation",
        replaced(reducer, "_continued", lambda state, _: state),
        tests=(
            "langchain/test_conversations.py::test_message_1000_of_a_thread_is_decided_as_message_1_and_knows_what_was_read_and_done",
            "langchain/test_conversations.py::test_an_approval_of_further_calls_covers_the_conversation_until_it_is_revoked",
        ),
    ),
    brokered(
        "a thread has one owner, in every process",
        never(registry, "_check_owner"),
        tests=(
            "langchain/test_middleware.py::test_a_thread_of_one_user_is_not_continued_for_another",
            "langchain/test_conversations.py::test_users_of_one_graph_at_once_are_never_mixed_up",
        ),
    ),
    brokered(
        "time in which a run waits for people is none of its time limit",
        replaced(reducer, "_timed", lambda state, _: state),
        tests=("langchain/test_conversations.py::test_a_run_that_waited_three_days_resumes_with_the_time_that_it_had",),
    ),
    brokered(
        "a hold on one run of a conversation holds all of it",
        replaced(live.LivePorts, "_is_in", lambda *_: False),
        tests=("langchain/test_conversations.py::test_a_hold_on_one_run_of_a_conversation_stops_the_next_one_too",),
    ),
    brokered(
        "a revoked approval of further calls covers no call of a later run",
        replaced(live.LivePorts, "is_revoked", lambda *_: False),
        tests=("langchain/test_conversations.py::test_an_approval_of_further_calls_covers_the_conversation_until_it_is_revoked",),
    ),
    brokered(
        "a conversation goes on only if it is known what it has read",
        lambda patch: patch.setattr(conversations, "ENOUGH", ("complete", "omitted")),
        tests=("langchain/test_conversations.py::test_a_thread_whose_content_is_not_recorded_goes_on_in_its_own_process_only",),
    ),
    brokered(
        "what the graph writes in the person's place is no message of the person",
        replaced(state, "last_request", any_human),
        tests=("langchain/test_conversations.py::test_a_summary_that_the_graph_writes_is_no_message_of_the_person",),
    ),
    brokered(
        "an answer that a graph repeats counts once",
        replaced(answers.Answering, "_seen", lambda *_: False),
        tests=(
            "langchain/test_people.py::test_an_answer_that_langgraph_repeats_counts_once_and_for_the_person_who_gave_it",
        ),
    ),
    brokered(
        "an answer to one question of a tool is none to the next",
        replaced(answers.InterruptPlace, "comes_after", lambda *_: True),
        tests=(
            "langchain/test_people.py::test_a_tool_that_interrupts_asks_and_its_wait_is_outside_of_its_limits",
        ),
    ),
    brokered(
        "who answers for a run does not take it over",
        replaced(external_run.ExternalRun, "continues", lambda *_: True),
        tests=("langchain/test_people.py::test_who_answers_a_request_takes_over_no_run_of_a_plain_graph",),
    ),
    brokered(
        "who made a call in place of the model does not approve it",
        replaced(requests, "_author", lambda *_: None),
        tests=(
            "langchain/test_people.py::test_an_edited_call_needs_the_approval_of_another_person_than_who_made_it",
        ),
    ),
    brokered(
        "what a tool prints while it runs is sanitized before it is recorded",
        replaced(attempts.Progress, "_record", unsanitized),
        tests=(
            "langchain/test_progress.py::test_of_a_tool_that_prints_much_only_the_first_lines_are_reported_and_none_with_a_secret",
        ),
    ),
    brokered(
        "only the user's own answers count like words of the task",
        replaced(during_calls, "_is_of_user", lambda *_: True),
        tests=(
            "langchain/test_people.py::test_the_answer_of_the_user_counts_like_words_of_the_task_and_that_of_another_person_does_not",
        ),
    ),
)  # fmt: skip
