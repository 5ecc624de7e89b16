"""The abuse list: the attacks of a hostile tool, one on each line. The mark `@abuse(46, 50)` of a test names the lines it tries.

`make abuse` runs them all with every kind of account.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import pytest

from support import TESTS

LINES: Final[Mapping[int, str]] = {
    # what one call leaves for the next
    1: "a global of a module", 2: "a variable of the environment", 3: "a module in sys.modules", 4: "a temporary file",
    5: "a file in the root of temporary files", 6: "listing the root of temporary files", 7: "System V shared memory",
    8: "a shared anonymous mapping", 9: "a shared mapping of /dev/zero", 10: "a key in a keyring", 11: "a memory file",
    # processes
    12: "signals to process 1", 13: "a signal to everybody", 14: "signals to a sibling", 15: "listing processes", 16: "ptrace",
    17: "reading another process's memory", 18: "/proc of process 1", 19: "inherited descriptors", 20: "the environment",
    21: "starting a program", 22: "fork, vfork, clone and clone3", 23: "an orphan in a session of its own",
    24: "daemons that a shell detached", 25: "a fork bomb", 26: "a thread bomb", 27: "a thread of the import",
    28: "a daemon of the import", 29: "an import that replaces the sandbox's functions",
    # resources
    30: "a heap bomb", 31: "filling temporary files", 32: "one big file", 33: "an inode bomb", 34: "a descriptor bomb",
    35: "raising limits", 36: "spinning", 37: "sleeping", 38: "ignoring every signal", 39: "a flood of prints",
    40: "a huge answer", 41: "an answer of forged length", 42: "an answer forged early", 43: "deep JSON",
    44: "half a character", 45: "exit and crash",
    # files
    46: "reading what was not decided", 47: "writing what is read-only", 48: "a symlink out", 49: "a hard link", 50: "dot-dot",
    51: "device nodes", 52: "the set-id bits", 53: "mounts", 54: "namespaces", 55: "chroot", 56: "opening by handle",
    57: "the kernel's own files", 58: "a unix socket in a read-only folder", 59: "a link planted below the next mount",
    60: "a decided folder renamed between calls",
    # the kernel
    61: "io_uring", 62: "bpf", 63: "userfaultfd", 64: "perf", 65: "x32 numbers", 66: "int 0x80", 67: "TIOCSTI with high bits",
    68: "TIOCLINUX",
    # the network
    69: "sockets of every family", 70: "datagrams and raw packets", 71: "MPTCP", 72: "TCP fast open",
    73: "another port, the metadata address, a public one", 74: "listening", 75: "DNS", 76: "odd spellings of addresses",
    77: "NUL, tabs, user names and ports in a URL", 78: "answers that change, IPv4 hidden in IPv6",
    79: "a TLS hello for another host, or for nobody", 80: "what is no TLS in a tunnel", 81: "another Host than the tunnel's",
    82: "another method, another path, an encoded path", 83: "two lengths of one request", 84: "an Authorization of its own",
    85: "a redirect to another host, with the secret", 86: "an answer that echoes the secret",
    # life-cycle
    87: "the zygote killed in a call", 88: "the broker killed", 89: "the thread that started it ends",
    90: "a machine without namespaces, /proc or bubblewrap", 91: "a broker started as root",
    92: "modes, owners and times outside, without mounts",
}  # fmt: skip


def abuse(*lines: int) -> pytest.MarkDecorator:
    """Mark a test that tries these lines of the list."""
    assert set(lines) <= set(LINES)
    return pytest.mark.abuse(*lines)


def tried() -> dict[int, list[str]]:
    """The tests of each line, read from the test files."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for line in _lines(node):
                    found[line].append(f"{path.relative_to(TESTS)}::{node.name}")
    return dict(found)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[int]:
    """The lines in the mark of a test and in the marks of its rows."""
    calls = [call for mark in function.decorator_list for call in ast.walk(mark) if isinstance(call, ast.Call)]
    return [
        argument.value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "abuse"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]
