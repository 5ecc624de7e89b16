"""Protections of MCP clients, each with the tests that must fail without it."""

from __future__ import annotations

import json
from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.broker.approvals import requests
from remit.server.mcp import calls, conversation, http, messages, tools
from remit.server.mcp.client_run import ClientRun
from remit.server.mcp.clients import McpClients
from remit.server.mcp.conversation import Conversation
from remit.server.mcp.waiting import recorded

HTTP: Final = "server/mcp/test_http.py::"
RUNS: Final = "server/mcp/test_conversation.py::"
STILL: Final = (HTTP + "test_the_end_of_the_service_ends_idle_runs",)


def served(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=STILL)


def _one_conversation(self: McpClients, workspace: Any, by: Any, agent: str, name: str) -> Conversation:
    """One conversation for all principals and addresses."""
    found: dict[str, Conversation] = self._conversations
    return found.setdefault("one", Conversation(agent, "0" * 32, workspace.driven))


def _of_any_conversation(journal: Any, _: str, request: str) -> Any:
    run = request.partition("/")[0]
    return RECORDED_CALL(journal, recorded._conversation_of(journal, run) or "", request)


RECORDED_CALL: Final = recorded.recorded_call
TASKS: Final = "server/mcp/test_tasks.py::"
ASKED: Final = "server/mcp/test_confirmation.py::"
CONFIRM: Final = ClientRun.confirm
CONFIRMS: Final = (ASKED + "test_a_client_without_forms_lets_its_user_confirm_elsewhere_and_nobody_else_can",)


def _confirms_anything(self: ClientRun, place: Any, by: Any, _: str) -> None:
    """Confirm whatever the call waits for now."""
    approval = self.state.open[place].approval
    assert approval is not None
    CONFIRM(self, place, by, approval.requested.decision_digest)


ROWS: Final = (
    served(
        "only the user of a call confirms it",
        replaced(requests, "_check_user", lambda *_: None),
        tests=CONFIRMS,
    ),
    served(
        "a confirmation is about the decision that the user was asked about",
        replaced(ClientRun, "confirm", _confirms_anything),
        tests=(ASKED + "test_an_answer_about_an_earlier_decision_confirms_nothing",),
    ),
    served(
        "a message of an MCP client is read in one way only",
        replaced(messages, "parse_json", json.loads),
        tests=(HTTP + "test_what_is_malformed_or_misdirected_gets_one_structured_answer",),
    ),
    served(
        "a page of another site reaches no MCP tool",
        replaced(http, "_check_origin", lambda _: None),
        tests=(HTTP + "test_what_is_malformed_or_misdirected_gets_one_structured_answer",),
    ),
    served(
        "an address of MCP and a principal have a conversation of their own",
        replaced(McpClients, "conversation", _one_conversation),
        tests=(
            HTTP + "test_the_address_names_the_conversation_and_each_principal_has_their_own",
            HTTP + "test_a_stolen_state_of_a_question_and_a_foreign_session_are_refused",
        ),
    ),
    served(
        "what an MCP client has read counts in its next run",
        replaced(conversation, "KEPT_S", -1e9),
        tests=(RUNS + "test_an_idle_run_ends_and_the_next_call_begins_one_with_its_labels_and_its_files",),
    ),
    served(
        "a request for approval is read again by its own conversation and call only",
        replaced(conversation, "is_same_call", lambda *_: True),
        tests=(RUNS + "test_a_request_of_another_conversation_or_of_another_call_is_refused",),
    ),
    served(
        "a task is reached from the conversation that made it only",
        replaced(conversation, "recorded_call", _of_any_conversation),
        tests=(TASKS + "test_only_the_conversation_that_made_a_task_reaches_it",),
    ),
    served(
        "a result whose labels are forgotten does not come back",
        replaced(conversation.Conversation, "_has_forgotten", lambda *_: False),
        tests=(RUNS + "test_a_result_comes_back_only_while_the_conversation_has_its_labels",),
    ),
    served(
        "a task is given to a client only that polls tasks",
        replaced(calls, "takes_tasks", lambda _: True),
        tests=(TASKS + "test_a_client_that_polls_no_tasks_gets_the_error_that_the_call_waits",),
    ),
    served(
        "a cancelled task never runs",
        never(ClientRun, "give_up"),
        tests=(TASKS + "test_a_cancelled_task_never_runs_even_if_it_is_approved_later",),
    ),
    served(
        "the list of MCP tools has no tool that the rules never allow",
        replaced(tools, "_may_be_allowed", lambda *_: True),
        tests=(HTTP + "test_the_list_has_what_the_rules_may_allow_to_the_principal_and_changes_with_the_rules",),
    ),
)
