"""Protections of the sandbox, each with the tests that must fail without it."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.sandbox import file_grants, one_shot, outcome, process, profile, protocol, sandbox, seccomp
from remit.sandbox.guest import kernel
from remit.sandbox.selfcheck.probe import TierReport
from remit.sandbox.warm import call as warm_call
from remit.sandbox.warm import pool

CALLS: Final = "sandbox/egress/test_sandboxed_calls.py::"
IMPORTS: Final = "sandbox/test_import_time.py::test_nothing_that_an_import_prepared_passes_data_from_call_to_call"


DOCTOR: Final = "sandbox/test_sandbox.py::test_the_doctor_tries_every_escape_and_all_are_blocked"


def without(file: str, line: str, instead: str = "pass") -> Remove:
    """Replace one line of a file that runs inside the sandbox by `instead`."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        earlier = sandbox.runtime
        folder = Path(tempfile.mkdtemp(prefix="remit-mutated-"))
        for name in profile.GUEST_FILES:
            shutil.copy(f"{earlier(None).guest_folder}/{name}", folder / name)
        text = (folder / file).read_text()
        assert text.count(f"    {line}\n") == 1, f"{file} does not have this line once: {line}"
        (folder / file).write_text(text.replace(f"    {line}\n", f"    {instead}\n"))
        folder.chmod(0o755)
        patch.setattr(sandbox, "runtime", lambda bwrap: replace(earlier(bwrap), guest_folder=str(folder)))

    return remove


async def finishing_anyway(self: protocol.Exchange, variables: Mapping[str, str], seconds: float) -> None:
    """Let the call go on, although it has to be ended."""
    self.stop = None
    await FINISH(self, variables, seconds)


def believed(patch: pytest.MonkeyPatch) -> None:
    """Skip the test of the sandbox at its start, which would refuse to run any tool."""

    def found(self: sandbox.Sandbox) -> profile.Tier:
        return self._accept[0]

    patch.setattr(sandbox.Sandbox, "_find", found)


CLASSIFY: Final = outcome.classify_ending
FINISH: Final = protocol.Exchange.finish


def one_crash(*given: Any, **options: Any) -> outcome.GuestAnswer:
    """Every end of a call is reported as a crash."""
    answer = CLASSIFY(*given, **options)
    return answer if answer.code is None else outcome.GuestAnswer(code="tool_crashed", message=answer.message)


def line(change: Callable[[list[str]], list[str]]) -> Remove:
    """Start bubblewrap with a changed command line."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(process, "argv", lambda *given, **options: change(profile.argv(*given, **options)))

    return remove


def dropping(words: Iterable[str]) -> Callable[[list[str]], list[str]]:
    gone = set(words)
    return lambda argv: [word for word in argv if word not in gone]


def with_more(*words: str) -> Callable[[list[str]], list[str]]:
    def more(argv: list[str]) -> list[str]:
        at = argv.index("--remount-ro") if "--remount-ro" in argv else 0
        return [*argv[:at], *words, *argv[at:]] if at else argv

    return more


def with_working_folder(argv: list[str]) -> list[str]:
    """For a tool without trust: mount the whole folder instead of each decided file."""
    if "--ro-bind-try" not in argv:
        return argv
    at = argv.index("--dir")
    source, target = argv[argv.index("--ro-bind-try") + 1 :][:2]
    folder = source.removesuffix(target.removeprefix("/work"))
    rest = argv[at + 2 :]
    while "--ro-bind-try" in rest:
        here = rest.index("--ro-bind-try")
        del rest[here : here + 3]
    return [*argv[:at], "--ro-bind", folder, "/work", *rest]


def leaking(patch: pytest.MonkeyPatch) -> None:
    """Pass every inheritable descriptor of the broker to the sandbox."""
    patch.setattr(process.subprocess, "Popen", partial(subprocess.Popen, close_fds=False))


def open_environment(patch: pytest.MonkeyPatch) -> None:
    earlier = process.environment
    patch.setattr(process, "environment", lambda *given: {**os.environ, **earlier(*given)})


def unheld(patch: pytest.MonkeyPatch) -> None:
    earlier = process.Process.receive

    def receive(self: process.Process) -> bytes:
        data = earlier(self)
        self._first = -1
        return data

    patch.setattr(process.Process, "receive", receive)


def unretired(patch: pytest.MonkeyPatch) -> None:
    earlier = pool.Pool.done
    patch.setattr(pool.Pool, "done", lambda self, child, *, retire: earlier(self, child, retire=False))


def reading_is_writing(patch: pytest.MonkeyPatch) -> None:
    """A store that is only read is mounted writable."""
    earlier = sandbox.Sandbox._fitted

    def fitted(self: sandbox.Sandbox, given: profile.Profile) -> profile.Profile:
        found = earlier(self, given)
        return replace(found, stores=(*found.stores, *found.read_stores), read_stores=())

    patch.setattr(sandbox.Sandbox, "_fitted", fitted)


def endless_descriptors(patch: pytest.MonkeyPatch) -> None:
    """Keep every descriptor that a call sends."""

    def receive(self: protocol.Exchange) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self._channel, 65_536, 253, socket.MSG_CMSG_CLOEXEC)
        self.files += descriptors
        return data

    patch.setattr(protocol.Exchange, "_receive", receive)


def allowing_all(*_: object, **__: object) -> bytes:
    return struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


ROWS: Final = (
    Mutation(
        name="without namespaces, only the address of the proxy is connected",
        remove=(without("outlet.py", "if not _names_proxy(notice.thread, address, size, port):", "if False:"),),
        tests=(CALLS + "test_the_proxy_is_the_only_thing_that_a_tool_can_connect_to[landlock]",),
        still=(CALLS + "test_many_calls_at_once_each_reach_their_own_host[landlock]",),
    ),
    Mutation(
        name="Landlock limits the files that a tool can open",
        remove=(believed, without("kernel.py", 'syscall("landlock_restrict_self", self.descriptor, 0)')),
        tests=(
            "sandbox/test_escapes.py::test_a_decided_file_is_read_and_no_other",
            "sandbox/test_abuse.py::test_a_tool_that_joins_paths_carelessly_reaches_the_decided_file_only",
            DOCTOR,
        ),
    ),
    Mutation(
        name="seccomp filters deny dangerous system calls",
        remove=(
            believed,
            without("kernel.py", 'syscall("prctl", _PR_SET_SECCOMP, 2, header, 0, 0)'),
            without("base.py", 'listener = kernel.install_with_listener(bytes.fromhex(boundary["filter"]))', "os._exit(1)"),
        ),
        tests=(
            "sandbox/test_escapes.py::test_the_kernel_gives_no_new_powers",
            "sandbox/test_escapes.py::test_no_socket_of_any_family_can_be_made",
            "sandbox/test_escapes.py::test_no_program_and_no_process_starts",
            DOCTOR,
        ),
    ),
    Mutation(
        name="a second seccomp filter applies to each call",
        remove=(lambda patch: patch.setattr(process, "call_filter", allowing_all),),
        tests=(
            "sandbox/test_escapes.py::test_other_processes_cannot_be_signalled_traced_or_seen",
        ),
    ),
    Mutation(
        name="each call is narrowed to its decision",
        remove=(believed, without("onecall.py", "rules.enforce()")),
        tests=(
            "sandbox/test_escapes.py::test_a_decided_file_is_read_and_no_other",
            "sandbox/test_warm.py::test_nothing_of_one_call_is_found_by_the_next",
            "sandbox/test_abuse.py::test_a_tool_that_joins_paths_carelessly_reaches_the_decided_file_only",
            DOCTOR,
        ),
    ),
    Mutation(
        name="decoding can write nothing that lasts",
        remove=(without("onecall.py", "layer.enforce()"),),
        tests=(
            "sandbox/test_decoding.py::test_decoding_writes_nothing_that_lasts_and_has_no_secret_and_the_function_has_both",
        ),
    ),
    Mutation(
        name="a process that ends before it calls the function is known not to have called it",
        remove=(lambda patch: patch.setattr(protocol.Exchange, "entered", True),),
        fixtures=True,
        tests=(
            "sandbox/test_decoding.py::test_a_process_that_is_killed_before_its_function_is_called_is_known_not_to_have_called_it",
            "broker/test_decoding.py::test_a_sandbox_that_is_killed_between_decoding_and_the_attempt_leaves_nothing_in_doubt",
        ),
    ),
    Mutation(
        name="a call that must be ended before its second frame does not get it",
        remove=(replaced(protocol.Exchange, "finish", finishing_anyway),),
        tests=("sandbox/test_decoding.py::test_a_call_that_must_be_ended_before_its_second_frame_does_not_get_it",),
    ),
    Mutation(
        name="a process that has called the function is not taken for one that has not",
        remove=(lambda patch: patch.setattr(protocol.Exchange, "entered", property(lambda self: self.complete)),),
        tests=("sandbox/test_decoding.py::test_a_function_that_was_called_counts_as_called_however_it_ends",),
    ),
    Mutation(
        name="a sandbox has separate namespaces",
        remove=(
            line(
                dropping(
                    ("--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "sandbox")
                )
            ),
        ),
        tests=("sandbox/test_abuse.py::test_the_sandbox_shares_no_namespace_with_the_broker",),
    ),
    Mutation(
        name="the root folder of a sandbox is empty",
        remove=(line(with_more("--ro-bind", "/etc", "/etc", "--ro-bind", "/var", "/var")),),
        tests=("sandbox/test_abuse.py::test_the_root_folder_holds_what_is_needed_and_can_not_be_written",),
    ),
    Mutation(
        name="resource limits cannot be raised",
        remove=(believed, without("inside.py", "resource.setrlimit(which, (most, most))")),
        tests=("sandbox/test_abuse.py::test_no_limit_can_be_raised", DOCTOR),
    ),
    Mutation(
        name="the processor time of a call is limited",
        remove=(without("onecall.py", "resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))"),),
        tests=("sandbox/test_abuse.py::test_no_limit_can_be_raised",),
    ),
    Mutation(
        name="inherited descriptors are closed",
        remove=(
            leaking,
            without("onecall.py", "close_others([*keep, rules.descriptor, reading.descriptor])"),
            without("base.py", "onecall.close_others([line.fileno()])"),
            without("base.py", "kernel.close_all_from(0)"),
        ),
        tests=("sandbox/test_escapes.py::test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker",),
    ),
    Mutation(
        name="a child process has no open resources when it gets its call",
        remove=(
            without(
                "supervisor.py",
                "if child is None or not child.closed_all or child.has_call or not child.lines:",
                "if child is None or child.has_call or not child.lines:",
            ),
        ),
        tests=(IMPORTS,),
    ),
    Mutation(
        name="files that an import wrote become read-only",
        remove=(without("supervisor.py", 'kernel.mount_read_only(self._boundary["temporary"])'),),
        tests=(
            "sandbox/test_import_time.py::test_what_an_import_wrote_for_itself_is_read_by_every_call_and_written_by_none",
        ),
    ),
    Mutation(
        name="the folder of scratch folders can be neither listed nor changed",
        remove=(
            without("scratch_folders.py", "os.fchmod(self._beside, _ENTERED_ONLY)"),
            without("scratch_folders.py", "kernel.mount_read_only(folder)"),
        ),
        tests=(IMPORTS,),
    ),
    Mutation(
        name="only the broker creates scratch folders, also without mounts",
        remove=(lambda patch: patch.setattr(process.os, "chmod", lambda *_, **__: None),),
        tests=("sandbox/test_import_time.py::test_an_import_sees_and_makes_no_folder_that_calls_use",),
    ),
    Mutation(
        name="calls are children of the supervisor and not of the base process",
        remove=(without("supervisor.py", "own = self._base if child is None else child.process", "own = notice.arguments[self._names[notice.number]]"),),
        tests=("sandbox/test_import_time.py::test_the_base_learns_nothing_of_its_children",),
    ),
    Mutation(
        name="no tool can change a device",
        remove=(believed, without("inside.py", "kernel.mount_read_only(device)")),
        tests=("sandbox/test_import_time.py::test_no_tool_changes_a_device_of_this_machine",),
    ),
    Mutation(
        name="no tool can lock shared files",
        remove=(believed, lambda patch: patch.setitem(seccomp.ALLOWED, "flock", (73, 32))),
        tests=("sandbox/test_import_time.py::test_a_lock_shows_nothing_to_other_calls", DOCTOR),
    ),
    Mutation(
        name="a call cannot copy itself",
        remove=(without("supervisor.py", "if child is not None and child.has_call and notice.arguments[0] & _THREAD:", "if child is not None:"),),
        tests=("sandbox/test_import_time.py::test_a_call_cannot_make_a_copy_that_takes_the_next_one",),
    ),
    Mutation(
        name="a process serves one user, one tenant and one workspace",
        remove=(lambda patch: patch.setattr(warm_call, "_BOUNDARY", tuple(field for field in warm_call._BOUNDARY if field not in ("user", "tenant", "workspace"))),),
        tests=("sandbox/test_import_time.py::test_two_users_and_two_tenants_are_never_served_by_one_process",),
    ),
    Mutation(
        name="a store that is read cannot be written",
        remove=(reading_is_writing,),
        tests=(
            "sandbox/test_access.py::test_a_database_in_a_store_that_is_read_is_queried_and_not_updated",
        ),
    ),
    Mutation(
        name="the number of files that a call hands over is limited",
        remove=(endless_descriptors,),
        tests=("sandbox/test_descriptors.py::test_a_call_that_hands_over_more_files_than_it_may_write_is_ended",),
    ),
    Mutation(
        name="a sandbox has a separate environment",
        remove=(open_environment, line(dropping(("--clearenv",)))),
        tests=("sandbox/test_escapes.py::test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker",),
    ),
    Mutation(
        name="bubblewrap ends a sandbox with its broker",
        remove=(line(dropping(("--die-with-parent",))),),
        tests=("sandbox/test_life.py::test_a_killed_broker_leaves_no_process",),
    ),
    Mutation(
        name="a handle on the first process ends the sandbox with its starter",
        remove=(unheld,),
        tests=("sandbox/test_life.py::test_a_sandbox_does_not_outlive_the_process_that_started_it",),
    ),
    Mutation(
        name="the guard process ends a sandbox with its broker",
        remove=(without("inside.py", 'guard.start(channel, os.path.dirname(boundary["scratch"]))'),),
        tests=("sandbox/test_life.py::test_a_killed_broker_leaves_no_process",),
    ),
    Mutation(
        name="only the decided files are mounted",
        remove=(line(with_working_folder),),
        tests=("sandbox/test_warm.py::test_a_tool_without_trust_has_nothing_but_the_decided_files",),
    ),
    Mutation(
        name="symbolic links are not followed",
        remove=(lambda patch: patch.setattr(kernel, "RESOLVE_NO_SYMLINKS", 0) or patch.setattr(kernel, "RESOLVE_BENEATH", 0),),
        tests=(
            "sandbox/test_life.py::test_a_set_holds_its_files_and_follows_no_link",
            "sandbox/test_life.py::test_a_link_planted_at_the_destination_is_not_followed",
        ),
    ),
    Mutation(
        name="no tool writes protected folders",
        remove=(lambda patch: patch.setattr(file_grants, "_refuse_protected", lambda _: None),),
        tests=("sandbox/test_escapes.py::test_a_protected_folder_that_does_not_exist_yet_cannot_be_made",),
    ),
    Mutation(
        name="a warm tool is restarted after its files changed",
        remove=(lambda patch: patch.setattr(warm_call, "_stamps", lambda _: ()),),
        tests=("sandbox/test_warm.py::test_a_changed_tool_is_never_served_by_the_old_one",),
    ),
    Mutation(
        name="a zygote is replaced after a call hit a limit",
        remove=(unretired,),
        tests=("sandbox/test_warm.py::test_a_zygote_is_replaced_after_a_limit_was_hit",),
    ),
    Mutation(
        name="the sandbox is tested before it is used",
        remove=(lambda patch: patch.setattr(sandbox, "try_tier", lambda tier, _: TierReport(name=tier, works=True, checks=())),),
        tests=("sandbox/test_sandbox.py::test_a_bubblewrap_that_confines_nothing_is_not_accepted",),
    ),
    Mutation(
        name="each way to end has its own code",
        remove=(replaced(one_shot, "classify_ending", one_crash), replaced(warm_call, "classify_ending", one_crash)),
        threats=("F8",),
        tests=(
            "sandbox/test_sandbox.py::test_every_other_ending_has_its_code",
            "sandbox/test_sandbox.py::test_a_tool_that_does_not_end_is_ended",
            "sandbox/test_sandbox.py::test_a_declared_error_keeps_its_name",
        ),
    ),
)  # fmt: skip
