"""Protections of the hooks of coding agents, each with the tests that must fail without it."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.broker.host import clients
from remit.cli.hook import installing
from remit.cli.local import hooking
from remit.server.hooks import conversations, naming, places
from remit.server.hooks.commands import PlainCommand
from remit.server.hooks.hooked_run import HookedRun

HOOKS: Final = "server/hooks/test_claude_code.py::"
COMMAND: Final = "server/hooks/test_hook_command.py::"
DECIDED: Final = f"{HOOKS}test_a_native_tool_is_decided_by_what_it_touches"


def hooked(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of the hooks; an allowed call still runs."""
    still = (f"{HOOKS}test_a_call_that_the_rules_allow_runs_and_its_result_is_recorded",)
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=still)


def _first_word(text: str) -> PlainCommand:
    program, *words = re.findall(r"[a-z]+", text)
    return PlainCommand(program=program, verb=words[0] if words else "", words=tuple(words))


def _nothing(*_: object) -> list[str]:
    return []


async def _free(*_: Any) -> bool:
    return True


ROWS: Final = (
    hooked(
        "a shell command is read as one program only if every shell reads it so",
        replaced(naming, "plain_command", _first_word),
        tests=(f"{DECIDED}[Bash-given20-approval_required]", f"{DECIDED}[Bash-given21-approval_required]"),
    ),
    hooked(
        "a native tool has no argument that Remit does not know",
        replaced(naming, "_unknown", _nothing),
        tests=(f"{DECIDED}[Read-given4-invalid_arguments]",),
    ),
    hooked(
        "a link out of the project is followed before a file is named",
        replaced(places, "real", os.path.abspath),
        tests=(f"{HOOKS}test_a_link_out_of_the_project_counts_as_outside",),
    ),
    hooked(
        "a session of a coding agent belongs to one person",
        never(conversations, "_check_owner"),
        tests=(f"{HOOKS}test_a_session_belongs_to_the_person_who_began_it",),
    ),
    hooked(
        "a call of a coding agent is decided after the result of the one before it",
        replaced(HookedRun, "until_free", _free),
        tests=(f"{HOOKS}test_a_call_is_decided_when_the_one_before_it_has_its_result",),
    ),
    hooked(
        "a tool of a coding agent runs only when its hook asks",
        never(clients, "refuse_outside_of_hooks"),
        tests=(f"{HOOKS}test_a_tool_of_a_coding_agent_runs_for_no_other_caller",),
    ),
    hooked(
        "an answer of the service that is no decision blocks the call",
        never(hooking, "_check_decision"),
        tests=(
            f"{COMMAND}test_an_answer_that_is_no_decision_blocks_the_call[no decision]",
            f"{COMMAND}test_an_answer_that_is_no_decision_blocks_the_call[a decision that is none]",
        ),
    ),
    hooked(
        "a hook without an answer exits with the code that blocks",
        replaced(hooking, "BLOCKS", 1),
        tests=(f"{COMMAND}test_without_a_service_nothing_runs",),
    ),
    hooked(
        "a hook of Codex that fails without a word says one, without which Codex lets the call pass",
        replaced(installing, "_BLOCKED", {"claude-code": "exit 2", "codex": "exit 2"}),
        tests=("server/hooks/test_install.py::test_a_hook_whose_command_fails_without_a_word_blocks_with_one[codex]",),
    ),
)
