"""The escapes that `remit doctor` tries, by name, and what each success would mean.

The list is the same for every tier.

The code of the attempts is `breakout/main.py`, which runs inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Code, LimitName

# The attempts that are made before the first call of every broker.
QUICK: Final = (
    "read_outside",
    "write_outside",
    "read_undecided",
    "start_program",
    "socket_internet",
    "trace_broker",
    "new_namespaces",
)

# name: what it means if the attempt succeeds
ATTEMPTS: Final[Mapping[str, str]] = {
    "inherited_descriptors": "a descriptor of the broker is open",
    "environment": "a variable of the broker is set",
    "read_outside": "a file outside the working folder can be read",
    "read_system": "a file of the system can be read",
    "read_undecided": "a file that was not granted can be read",
    "read_dot_dot": "a path with `..` reads a file that was not granted",
    "read_through_link": "a symlink leads to a file outside",
    "read_attributes": "the attributes of a file that was not granted can be read",
    "watch_files": "changes of files that were not granted can be watched",
    "write_outside": "a file outside the working folder can be written",
    "write_undecided": "a file that was not granted can be written",
    "hard_link": "a hard link to a file that was not granted can be made",
    "device_node": "a device node can be made",
    "set_id": "a set-user-id file can be made",
    "change_mode": "the mode of a file that was not granted can be changed",
    "change_times": "the times of a file that was not granted can be changed",
    "change_attributes": "the attributes of a file that was not granted can be changed",
    "list_temporary": "the temporary folders of other calls can be listed",
    "lock_shared_file": "a file that every sandbox shares can be locked",
    "device_mode": "the mode of a device of this machine can be changed",
    "device_times": "the times of a device of this machine can be changed",
    "open_by_handle": "a file can be opened by its handle",
    "kernel_files": "a file of the kernel can be written",
    "start_program": "a program can be started",
    "fork": "a process can be started",
    "clone": "a process can be started by clone",
    "clone3": "a process can be started by clone3, whose flags no filter can read",
    "socket_internet": "a network listener of this machine can be reached",
    "socket_datagram": "a datagram socket can be made",
    "socket_any_family": "a socket of some family can be made",
    "socket_unix": "a unix socket of this machine can be reached",
    "socket_pair_addressed": "a socket pair can be sent to any address",
    "trace_broker": "the broker can be traced",
    "read_memory": "the memory of another process can be read",
    "memory_of_first": "the first process can be read through /proc",
    "signal_broker": "the broker can be signalled",
    "signal_parent": "the first process of the sandbox can be signalled",
    "signal_everybody": "every process can be signalled",
    "signal_by_file": "another process can be signalled by making it the owner of a file (F_SETOWN)",
    "slow_parent": "the priority of another process can be changed",
    "see_processes": "processes of this machine can be seen",
    "ask_processes": "the existence of processes of this machine can be checked",
    "new_namespaces": "namespaces can be made, and privileges in them",
    "clone_namespaces": "namespaces can be made by clone",
    "mount": "a file system can be mounted",
    "remount": "a mount can be changed",
    "unmount": "a file system can be unmounted",
    "change_root": "the root folder can be changed",
    "shared_memory": "System V memory outlives a call",
    "shared_mapping": "an anonymous mapping can be shared",
    "shared_zeroes": "a mapping of /dev/zero can be shared",
    "memory_file": "a file in memory can be made",
    "message_queue": "a message queue outlives a call",
    "keyring": "a key outlives a call",
    "io_uring": "io_uring is available, which bypasses filters of system calls",
    "bpf": "bpf is available",
    "userfaultfd": "userfaultfd is available",
    "perf": "performance counters are available",
    "x32": "system calls by their x32 numbers are allowed",
    "type_into_terminal": "input can be put into a terminal (TIOCSTI)",
    "raise_limits": "a limit can be raised",
    "many_descriptors": "there is no limit on open files",
}

# name: what it means if the next call of the same tool finds it
LEFT: Final[Mapping[str, str]] = {
    "left_global": "a global of one call is seen by the next",
    "left_environment": "a variable of one call is seen by the next",
    "left_module": "a module of one call is seen by the next",
    "left_file": "a temporary file of one call is seen by the next",
    "left_pipe": "a pipe of the import transfers data from one call to the next",
    "left_offset": "the offset in a file of the import is seen by the next call",
    "left_flags": "the flags of a file of the import are seen by the next call",
    "left_times": "the times of a folder that calls share can be set by one of them",
}

# name: what must be allowed
ALLOWED: Final[Mapping[str, str]] = {
    "read_decided": "a granted file is read",
    "write_temporary": "a temporary file is written",
    "thread": "a thread is started",
    "own_signal": "the tool signals itself",
    "socket_pair": "a pair of connected sockets is made",
    "random": "random bytes are read",
}


@dataclass(frozen=True, kw_only=True)
class ExpectedEnd:
    """How a call that exceeds a limit must end: its code, and the limit that it hits.

    `meaning` is what it means if it ends otherwise. `only_full`: the landlock tier is known not to have this limit.
    """

    meaning: str
    code: Code
    limit: LimitName | None = None
    wall: float = 60.0  # far more than it takes, so that a busy machine is not reported as an escape
    only_full: bool = False


ENDINGS: Final[Mapping[str, ExpectedEnd]] = {
    "heap_bomb": ExpectedEnd(meaning="there is no limit on memory", code="resource_exhausted", limit="memory"),
    "thread_bomb": ExpectedEnd(meaning="there is no limit on threads", code="resource_exhausted", limit="processes"),
    "big_file": ExpectedEnd(
        meaning="there is no limit on the size of a file", code="resource_exhausted", limit="file_size"
    ),
    "fill_temporary": ExpectedEnd(
        meaning="there is no limit on temporary files in total",
        code="resource_exhausted",
        limit="file_space",
        only_full=True,
    ),
    "endless_files": ExpectedEnd(meaning="there is no limit on processor time", code="resource_exhausted", limit="cpu"),
    "deaf_sleep": ExpectedEnd(
        meaning="a call that ignores signals is not ended", code="timeout", limit="wall", wall=0.5
    ),
    "print_flood": ExpectedEnd(
        meaning="there is no limit on what a call prints", code="resource_exhausted", limit="prints"
    ),
    "huge_answer": ExpectedEnd(
        meaning="there is no limit on the size of a result", code="resource_exhausted", limit="output"
    ),
    "forged_length": ExpectedEnd(
        meaning="a forged length of a result is accepted", code="resource_exhausted", limit="output"
    ),
    "forged_early": ExpectedEnd(meaning="a second result is accepted", code="invalid_output"),
    "deep_answer": ExpectedEnd(meaning="a result nested too deeply is accepted", code="invalid_output"),
    "half_character": ExpectedEnd(meaning="a result that is not valid Unicode is accepted", code="invalid_output"),
    "exit": ExpectedEnd(meaning="an exit counts as a result", code="tool_crashed"),
    "crash": ExpectedEnd(meaning="a crash counts as a result", code="tool_crashed"),
}
