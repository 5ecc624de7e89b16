"""Protections of calls to MCP servers that run elsewhere, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.broker import context, effects
from remit.broker.mcp import speaker
from remit.runtime import assembly
from remit.sandbox import Reply
from remit.sandbox.remote.http_lines import HttpLines
from remit.sandbox.remote.sent_events import SentEvents
from remit.sandbox.remote.sessions import RemoteServer, RemoteServers
from remit.workspace.manifest.sections import server

REMOTE: Final = "sandbox/test_remote_servers.py::"
RULES: Final = "workspace/test_mcp_manifests.py::"
SECRETS_IN: Final = assembly.secrets_in
ASKS: Final = "end_to_end/test_mcp_questions.py::"
STILL: Final = (REMOTE + "test_a_run_begins_once_and_lists_the_tools_again_before_each_call",)


def any_answer(record: Any, call: Any, _: object, **__: object) -> Any:
    """The last answer of a call, for any question."""
    given = [event.answer for event in record.every() if event.type == "question.answered"]
    return lambda _: given.pop() if given else None


def remote(name: str, *remove: Remove, tests: tuple[str, ...], still: tuple[str, ...] = STILL) -> Mutation:
    return Mutation(name=name, remove=remove, tests=tests, still=still, fixtures=True)


ROWS: Final = (
    remote(
        "no two runs share a session of a server that runs elsewhere",
        replaced(RemoteServers, "server", lambda self, _: self._of.setdefault(("", "", "", ""), RemoteServer())),
        tests=(REMOTE + "test_no_two_runs_share_a_session_and_one_that_has_ended_leaves_none",),
    ),
    remote(
        "a call uses the secrets of the user of its run",
        replaced(assembly, "secrets_in", lambda session, _: SECRETS_IN(session, "user:operator")),
        tests=(
            "end_to_end/test_remote_mcp.py::test_each_user_has_a_token_of_their_own_and_no_call_uses_that_of_another",
            "end_to_end/test_remote_mcp.py::test_a_server_in_a_sandbox_reaches_its_service_as_the_user_of_the_run",
        ),
    ),
    remote(
        "an argument in the address of a resource is named by the decision",
        replaced(server, "resource_arguments", lambda tool: () if "://" in tool else None),
        tests=(RULES + "test_the_arguments_of_the_address_of_a_resource_are_resources_of_the_decision",),
    ),
    remote(
        "an answer is given only to the question that a person has read",
        replaced(effects, "answers", any_answer),
        tests=(ASKS + "test_an_answer_is_given_only_to_the_question_that_the_person_has_read",),
    ),
    remote(
        "a call that may have had an effect is not made again after a question",
        replaced(
            speaker.McpCall,
            "_asking",
            lambda self, asked, *, possible: Reply(code="tool_crashed", question=asked.question),
        ),
        tests=(
            ASKS
            + "test_an_older_server_that_asks_in_the_middle_of_an_irreversible_call_gets_no_answer_and_no_second_call",
        ),
    ),
    remote(
        "what differs of a server is noted",
        replaced(speaker, "all_differences", lambda *_: ()),
        tests=(
            "end_to_end/test_remote_mcp.py::test_how_a_server_differs_from_its_pin_is_noted_once_shown_and_closed_once_it_is_as_pinned",
        ),
    ),
    remote(
        "what one event of a server elsewhere keeps is bounded",
        replaced(SentEvents, "_check_length", lambda self: None),
        tests=(REMOTE + "test_an_event_of_many_empty_lines_is_too_long_as_one_of_much_text_is",),
    ),
    remote(
        "a server elsewhere lists its tools before each call",
        replaced(HttpLines, "watched", True),
        tests=(REMOTE + "test_a_tool_that_differs_from_what_was_pinned_is_not_called",),
        still=(REMOTE + "test_no_two_runs_share_a_session_and_one_that_has_ended_leaves_none",),
    ),
    remote(
        "a tool of a server elsewhere is compared with its pin",
        replaced(speaker, "differences", lambda *_: iter(())),
        tests=(REMOTE + "test_a_tool_that_differs_from_what_was_pinned_is_not_called",),
    ),
    remote(
        "the arguments of a call to a server elsewhere count as leaving the system",
        replaced(context, "SERVER_KIND", "no kind"),
        tests=(
            "end_to_end/test_remote_mcp.py::test_a_read_of_a_server_elsewhere_is_decided_by_what_its_arguments_contain",
        ),
    ),
    remote(
        "an action of a server elsewhere names that its arguments leave",
        replaced(server, "server_action_rules", lambda *_, **__: iter(())),
        tests=(RULES + "test_a_server_at_a_url_gets_no_files_and_each_action_names_it",),
    ),
)
