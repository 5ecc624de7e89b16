"""Protections of calls to MCP servers that run elsewhere, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.broker import context
from remit.broker.mcp import speaker
from remit.guardrails import secrets
from remit.sandbox.remote.http_lines import HttpLines
from remit.sandbox.remote.sent_events import SentEvents
from remit.sandbox.remote.sessions import RemoteServer, RemoteServers
from remit.workspace.manifest.sections import server

REMOTE: Final = "sandbox/test_remote_servers.py::"
RULES: Final = "workspace/test_mcp_manifests.py::"
STILL: Final = (REMOTE + "test_a_run_begins_once_and_lists_the_tools_again_before_each_call",)


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
        replaced(secrets, "of_user", lambda name, _: f"{name}@user:operator"),
        tests=(
            "end_to_end/test_remote_mcp.py::test_each_user_has_a_token_of_their_own_and_no_call_uses_that_of_another",
            "end_to_end/test_remote_mcp.py::test_a_server_in_a_sandbox_reaches_its_service_as_the_user_of_the_run",
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
