"""Protections of live sandboxes, each with the tests that must fail without it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

import pytest

from adversarial.mutations.row import ANSWERED, Mutation, replaced
from adversarial.mutations.sandbox import without
from remit.broker.decisions import Decider
from remit.broker.mcp import speaker
from remit.journal import reducer
from remit.sandbox.live.call import LiveCall
from remit.sandbox.live.pool import LivePool, Place
from remit.sandbox.live.served import ServedCall
from remit.workspace.manifest import manifest

TESTS: Final = "sandbox/test_live.py::"
KEPT: Final = "sandbox/test_kept_servers.py::"
SERVERS: Final = "end_to_end/test_mcp_servers.py::"
RUNS: Final = "end_to_end/test_live_sandboxes.py::"
CLOSE: Final = LiveCall.close
CLOSE_SERVED: Final = ServedCall.close


def shared(patch: pytest.MonkeyPatch) -> None:
    """Runs share one sandbox."""

    def place(self: LivePool, run: str, key: Hashable) -> Place:
        return self._places.setdefault(("", asyncio.get_running_loop(), key), Place())

    patch.setattr(LivePool, "place", place)


def unreplaced(patch: pytest.MonkeyPatch) -> None:
    """A sandbox goes on after a call that did not end well."""

    def close(self: LiveCall) -> None:
        self._ended_well = True
        CLOSE(self)

    patch.setattr(LiveCall, "close", close)


def ended_well(patch: pytest.MonkeyPatch) -> None:
    """A server goes on after a call that did not end well."""

    def close(self: ServedCall) -> None:
        self._ended_well = True
        CLOSE_SERVED(self)

    patch.setattr(ServedCall, "close", close)


ROWS: Final = (
    Mutation(
        name="a file of a live sandbox is opened without following a link",
        remove=(
            without(
                "kernel.py",
                'how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)',
                'how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, 0)',
            ),
        ),
        tests=(f"{TESTS}test_what_is_a_link_or_no_file_is_not_there",),
    ),
    Mutation(
        name="the files of a call are taken out of its live sandbox",
        remove=(without("live.py", 'kernel.unmount(self._boundary["root"])'),),
        tests=(f"{TESTS}test_a_file_cannot_be_opened_any_more_once_its_call_has_ended",),
    ),
    Mutation(
        name="a call without files to write can write none in a live sandbox",
        remove=(without("live.py", "kernel.mount_read_only(_HIDDEN)"),),
        tests=(f"{TESTS}test_a_read_file_cannot_be_changed_and_a_written_one_is_committed_alone",),
    ),
    Mutation(
        name="the process of a call of a live sandbox drops its rights",
        remove=(without("live.py", "lock()"),),
        tests=(f"{TESTS}test_the_process_of_a_call_can_mount_unmount_and_enter_nothing",),
    ),
    Mutation(
        name="what a call leaves running in a live sandbox keeps the rights of that call",
        remove=(
            without(
                "inside.py",
                'rules.allow_path(boundary["scratch"], kernel.CHANGE)',
                'rules.allow_path("/", kernel.CHANGE | kernel.EXECUTE)',
            ),
        ),
        tests=(f"{TESTS}test_what_a_call_leaves_running_sees_nothing_of_later_calls",),
    ),
    Mutation(
        name="between two calls the server of a run is stopped",
        remove=(without("live.py", "os.kill(-1, signal.SIGSTOP)"),),
        tests=(f"{KEPT}test_between_two_calls_nothing_of_the_server_runs",),
    ),
    Mutation(
        name="the server of a run drops its rights",
        remove=(without("live.py", "enclose()"),),
        tests=(f"{KEPT}test_a_server_makes_no_namespace_and_no_mount",),
    ),
    Mutation(
        name="a file that the server of a run wrote is taken over without following a link",
        remove=(
            without(
                "live.py",
                "file = kernel.open_beneath(self._lines[1], name, os.O_PATH | os.O_NOFOLLOW)",
                'file = os.open(f"{self._boundary[\'root\']}/{name}", os.O_PATH)',
            ),
            without(
                "live.py",
                "files.append(kernel.open_beneath(tree, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))",
                'files.append(os.open(f"{self._boundary[\'root\']}/{name}", os.O_RDONLY))',
            ),
        ),
        tests=(f"{KEPT}test_a_link_that_the_server_puts_where_it_may_write_saves_nothing",),
    ),
    Mutation(
        name="a server that did not end a call well gets no other one",
        remove=(ended_well,),
        tests=(f"{KEPT}test_a_call_that_ends_badly_gets_its_code_and_the_next_one_a_fresh_server",),
    ),
    Mutation(
        name="a tool that its server has changed does not run",
        remove=(replaced(speaker, "differences", lambda *_: ()),),
        tests=(
            f"{SERVERS}test_a_tool_that_its_server_has_changed_does_not_run_until_it_is_pinned_and_the_others_go_on",
        ),
        fixtures=True,
        still=ANSWERED,
    ),
    Mutation(
        name="what an MCP server returns is untrusted",
        remove=(replaced(manifest, "UNTRUSTED", "none"),),
        tests=("workspace/test_mcp_manifests.py::test_everything_that_a_server_returns_is_untrusted_and_a_name_of_its_tool_may_differ",),
        fixtures=True,
        still=ANSWERED,
    ),
    Mutation(
        name="calls of a live sandbox run one after another",
        remove=(replaced(Place, "_may_join", lambda *_: True),),
        tests=(
            f"{TESTS}test_calls_with_other_files_wait_and_equal_ones_run_together",
            f"{TESTS}test_calls_that_write_never_run_together",
        ),
    ),
    Mutation(
        name="no two runs share a live sandbox",
        remove=(shared,),
        tests=(f"{TESTS}test_another_run_sees_no_file_process_or_variable_of_a_run",),
    ),
    Mutation(
        name="a live sandbox is replaced after a call that did not end well",
        remove=(unreplaced,),
        tests=(f"{TESTS}test_a_call_that_ends_badly_gets_its_code_and_the_next_one_a_fresh_sandbox",),
    ),
    Mutation(
        name="a call is decided again with what its live sandbox was given meanwhile",
        remove=(replaced(Decider, "check_sandbox", lambda *_: frozenset[str]()),),
        tests=(f"{RUNS}test_what_call_1_read_forbids_the_network_to_call_2_of_the_same_turn",),
        fixtures=True,
        still=ANSWERED,
    ),
    Mutation(
        name="what a live sandbox was given stays known",
        remove=(replaced(reducer, "given", lambda state, *_, **__: state.given),),
        tests=(
            f"{RUNS}test_a_sandbox_knows_what_it_read_also_once_the_label_is_removed_from_the_run",
            f"{RUNS}test_what_a_later_call_returns_has_the_labels_of_what_its_sandbox_was_given",
            f"{RUNS}test_after_a_crash_the_sandbox_is_a_fresh_one_and_what_was_given_stays_known",
        ),
        fixtures=True,
        still=ANSWERED,
    ),
    Mutation(
        name="a sandbox that starts for a run that has ended meanwhile is ended",
        remove=(replaced(LivePool, "_leave", lambda self, key: self._places.pop(key)),),
        tests=(f"{KEPT}test_a_sandbox_that_starts_for_a_run_that_has_ended_meanwhile_is_ended",),
    ),
)  # fmt: skip
