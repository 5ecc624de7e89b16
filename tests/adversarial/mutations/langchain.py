"""Protections of the LangChain middleware, each with the tests that must fail without it."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker.decisions import Decider
from remit.core.principals import Principal
from remit.langchain import bridge, reviewed_tool, state


def passed_on(reviewed: reviewed_tool.ReviewedTool, given: dict[str, Any]) -> dict[str, Any]:
    """The tool gets the arguments as they arrived."""
    return {"type": "tool_call", "name": reviewed._tool.name, "args": given, "id": reviewed._call_id}


def believed(config: dict[str, Any]) -> Principal | None:
    """Data of a client is a principal too."""
    given = config.get("configurable", {}).get(state.PRINCIPAL)
    return Principal.model_validate_json(json.dumps(given)) if isinstance(given, dict) else given


ROWS: Final = (
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
        "a program cannot end the enforcement",
        never(bridge, "check_mode"),
        tests=("langchain/test_observe.py::test_a_program_that_expects_another_mode_does_not_start",),
    ),
    brokered(
        "an operators hold stops calls that are only observed",
        lambda patch: patch.setattr(bridge, "is_refused", lambda *_, **__: False),
        tests=("langchain/test_observe.py::test_an_operators_stop_ends_an_observed_call_too",),
    ),
    brokered(
        "only reviewed tools of a graph run",
        never(bridge, "_check_reviewed"),
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
        tests=("langchain/test_middleware.py::test_a_principal_that_a_client_sends_as_data_is_refused",),
    ),
    brokered(
        "a run of a graph is continued only for the person who began it",
        lambda patch: patch.setattr(bridge, "same_person", lambda *_: True),
        tests=(
            "langchain/test_middleware.py::test_a_person_who_acts_for_the_same_user_does_not_continue_the_run_of_another",
        ),
    ),
    brokered(
        "a repeated turn of a graph is recognized",
        replaced(bridge, "_turn_key", lambda _: secrets.token_hex()),
        tests=(
            "langchain/test_middleware.py::test_a_plain_tool_node_that_runs_again_after_a_pause_repeats_no_effect",
            "langchain/test_middleware.py::test_going_back_in_time_repeats_no_effect",
        ),
    ),
)  # fmt: skip
