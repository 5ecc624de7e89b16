"""The break-outs that are tried on this machine, by name, and what each would mean: the one self-check list of every tier.

`breakout/main.py` holds the attempts themselves and runs inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Code, LimitName

# What every start tries, in one process.
QUICK: Final = (
    "read_outside",
    "write_outside",
    "read_undecided",
    "start_program",
    "socket_internet",
    "trace_broker",
    "new_namespaces",
)

# name: what it would mean if it escaped
ATTEMPTS: Final[Mapping[str, str]] = {
    "inherited_descriptors": "a descriptor of the broker is open",
    "environment": "a variable of the broker is set",
    "read_outside": "a file outside the working folder can be read",
    "read_system": "a file of the system can be read",
    "read_undecided": "a file that was not decided can be read",
    "read_dot_dot": "a path with `..` reads a file that was not decided",
    "read_through_link": "a symlink leads out",
    "read_attributes": "the attributes of an undecided file can be read",
    "watch_files": "changes of undecided files can be watched",
    "write_outside": "a file outside the working folder can be written",
    "write_undecided": "a file that was not decided can be written",
    "hard_link": "a second name for an undecided file can be made",
    "device_node": "a device can be made",
    "set_id": "a file that runs as its owner can be made",
    "change_mode": "the mode of an undecided file can be changed",
    "change_times": "the times of an undecided file can be changed",
    "change_attributes": "the attributes of an undecided file can be changed",
    "list_temporary": "the temporary folders of other calls can be listed",
    "lock_shared_file": "a file that every sandbox shares can be locked",
    "device_mode": "the mode of a device of this machine can be changed",
    "device_times": "the times of a device of this machine can be changed",
    "open_by_handle": "a file can be opened by its handle",
    "kernel_files": "a file of the kernel can be written",
    "start_program": "a program can be started",
    "fork": "a process can be started",
    "clone": "a process can be started by clone",
    "clone3": "a process can be started by clone3, whose flags no filter sees",
    "socket_internet": "a listener of this machine can be reached",
    "socket_datagram": "a datagram socket can be made",
    "socket_any_family": "a socket of some family can be made",
    "socket_unix": "a unix socket of this machine can be reached",
    "socket_pair_addressed": "a socket pair can be sent to any address",
    "trace_broker": "the broker can be traced",
    "read_memory": "the memory of another process can be read",
    "memory_of_first": "the first process can be read through /proc",
    "signal_broker": "the broker can be signalled",
    "signal_parent": "the sandbox's first process can be signalled",
    "signal_everybody": "every process can be signalled",
    "signal_by_file": "another process can be signalled through a file's owner",
    "slow_parent": "the priority of another process can be changed",
    "see_processes": "processes of this machine can be seen",
    "ask_processes": "processes of this machine can be asked after",
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
    "io_uring": "io_uring is there, which passes filters by",
    "bpf": "bpf is there",
    "userfaultfd": "userfaultfd is there",
    "perf": "performance counters are there",
    "x32": "calls under the numbers of x32 are let through",
    "type_into_terminal": "characters can be put into a terminal",
    "raise_limits": "a limit can be raised",
    "many_descriptors": "descriptors are without limit",
}

# name: what it would mean if the next call of the same tool found it
LEFT: Final[Mapping[str, str]] = {
    "left_global": "a global of one call is seen by the next",
    "left_environment": "a variable of one call is seen by the next",
    "left_module": "a module of one call is seen by the next",
    "left_file": "a temporary file of one call is seen by the next",
    "left_pipe": "a pipe of the import carries something from one call to the next",
    "left_offset": "where one call stands in a file of the import is seen by the next",
    "left_flags": "the flags of a file of the import are seen by the next call",
    "left_times": "the times of a folder that calls share are one call's to set",
}

# name: what must stay allowed
ALLOWED: Final[Mapping[str, str]] = {
    "read_decided": "a decided file is read",
    "write_temporary": "a temporary file is written",
    "thread": "a thread is started",
    "own_signal": "the tool signals itself",
    "socket_pair": "a pair of connected sockets is made",
    "random": "random bytes are read",
}


@dataclass(frozen=True, kw_only=True)
class ExpectedEnd:
    """How a call that goes too far must end: its code, and the limit where one is hit. `meaning` is what it means otherwise.

    `only_full`: the weaker tier is known not to hold it.
    """

    meaning: str
    code: Code
    limit: LimitName | None = None
    wall: float = 60.0  # far more than it takes: a busy machine is no escape
    only_full: bool = False


ENDINGS: Final[Mapping[str, ExpectedEnd]] = {
    "heap_bomb": ExpectedEnd(meaning="memory is without limit", code="resource_exhausted", limit="memory"),
    "thread_bomb": ExpectedEnd(meaning="threads are without limit", code="resource_exhausted", limit="processes"),
    "big_file": ExpectedEnd(meaning="a file is without limit", code="resource_exhausted", limit="file_size"),
    "fill_temporary": ExpectedEnd(
        meaning="temporary files are without limit", code="resource_exhausted", limit="file_space", only_full=True
    ),
    "endless_files": ExpectedEnd(meaning="processor time is without limit", code="resource_exhausted", limit="cpu"),
    "deaf_sleep": ExpectedEnd(meaning="a call that ignores signals goes on", code="timeout", limit="wall", wall=0.5),
    "print_flood": ExpectedEnd(meaning="prints are without limit", code="resource_exhausted", limit="prints"),
    "huge_answer": ExpectedEnd(meaning="an answer is without limit", code="resource_exhausted", limit="output"),
    "forged_length": ExpectedEnd(meaning="a forged length is believed", code="resource_exhausted", limit="output"),
    "forged_early": ExpectedEnd(meaning="a second answer is believed", code="invalid_output"),
    "deep_answer": ExpectedEnd(meaning="an answer nested without end is read", code="invalid_output"),
    "half_character": ExpectedEnd(meaning="an answer that is no text is read", code="invalid_output"),
    "exit": ExpectedEnd(meaning="an exit is taken for an answer", code="tool_crashed"),
    "crash": ExpectedEnd(meaning="a crash is taken for an answer", code="tool_crashed"),
}
