"""The filters of system calls (seccomp). A call that is not listed is refused.

The broker assembles them, once for each kind of sandbox, and sends them to it as bytes. There are two layers: the first
is loaded before code of a tool runs, the second by the process of one call. In the first layer of a warm tool, some
system calls notify the supervisor (`guest/supervisor.py`): those that the process of a call may make, and the base may
not. The length of the list costs nothing: since Linux 5.11 the kernel caches which numbers are always allowed.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, Literal, TypeAlias

from remit.sandbox.guest import kernel

Machine: TypeAlias = Literal["x86_64", "aarch64"]
_Numbers: TypeAlias = Mapping[str, tuple[int, int]]

# name: (x86_64, aarch64); -1: the architecture does not have it. Allowed with any arguments.
ALLOWED: Final[_Numbers] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1),
    "poll": (7, -1), "lseek": (8, 62), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, -1), "pipe": (22, -1),
    "select": (23, -1), "sched_yield": (24, 124), "mremap": (25, 216), "msync": (26, 227),
    "madvise": (28, 233), "dup": (32, 23), "dup2": (33, -1), "pause": (34, -1), "nanosleep": (35, 101),
    "getitimer": (36, 102), "alarm": (37, -1), "setitimer": (38, 103), "getpid": (39, 172), "sendfile": (40, 71),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "shutdown": (48, 210), "getsockname": (51, 204),
    "getpeername": (52, 205), "setsockopt": (54, 208), "getsockopt": (55, 209), "exit": (60, 93), "wait4": (61, 260),
    "uname": (63, 160), "fsync": (74, 82), "fdatasync": (75, 83), "truncate": (76, 45),
    "ftruncate": (77, 46), "getdents": (78, -1), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "rename": (82, -1), "rmdir": (84, -1), "link": (86, -1), "unlink": (87, -1), "symlink": (88, -1),
    "readlink": (89, -1), "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "setpgid": (109, 154), "getppid": (110, 173), "getpgrp": (111, -1), "setsid": (112, 157),
    "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "statfs": (137, 43),
    "fstatfs": (138, 44), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "mlock": (149, 228), "munlock": (150, 229), "arch_prctl": (158, -1), "setrlimit": (160, 164), "gettid": (186, 178),
    "readahead": (187, 213), "time": (201, -1), "futex": (202, 98), "epoll_create": (213, -1), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "restart_syscall": (219, 128), "fadvise64": (221, 223), "timer_create": (222, 107),
    "timer_settime": (223, 110), "timer_gettime": (224, 108), "timer_getoverrun": (225, 109),
    "timer_delete": (226, 111), "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "epoll_wait": (232, -1), "epoll_ctl": (233, 21), "waitid": (247, 95),
    "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36),
    "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "sync_file_range": (277, 84), "epoll_pwait": (281, 22), "signalfd": (282, -1),
    "timerfd_create": (283, 85), "eventfd": (284, -1), "fallocate": (285, 47), "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87), "signalfd4": (289, 74), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69), "pwritev": (296, 70), "recvmmsg": (299, 243),
    "getcpu": (309, 168), "renameat2": (316, 276), "getrandom": (318, 278), "membarrier": (324, 283),
    "mlock2": (325, 284), "copy_file_range": (326, 285), "pwritev2": (328, 287),
    "pkey_mprotect": (329, 288), "pkey_alloc": (330, 289), "pkey_free": (331, 290), "statx": (332, 291),
    "rseq": (334, 293), "close_range": (436, 436), "faccessat2": (439, 439), "epoll_pwait2": (441, 441),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
    "futex_waitv": (449, 449), "futex_wake": (454, 454), "futex_wait": (455, 455), "futex_requeue": (456, 456),
}  # fmt: skip
# Allowed for some arguments only, in some sandboxes only, or refused by the second layer.
CONDITIONAL: Final[_Numbers] = {
    "open": (2, -1), "mmap": (9, 222), "ioctl": (16, 29), "sendto": (44, 206), "sendmsg": (46, 211),
    "socketpair": (53, 199), "clone": (56, 220), "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221),
    "kill": (62, 129), "fcntl": (72, 25), "mkdir": (83, -1), "creat": (85, -1), "chmod": (90, -1), "fchmod": (91, 52),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "getpgid": (121, 155), "getsid": (124, 156),
    "rt_sigqueueinfo": (129, 138), "utime": (132, -1), "getpriority": (140, 141), "setpriority": (141, 140),
    "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "sched_rr_get_interval": (148, 127),
    "prctl": (157, 167), "tkill": (200, 130), "sched_setaffinity": (203, 122), "sched_getaffinity": (204, 123),
    "tgkill": (234, 131), "utimes": (235, -1), "ioprio_get": (252, 31), "openat": (257, 56), "mkdirat": (258, 34),
    "fchownat": (260, 54), "futimesat": (261, -1), "fchmodat": (268, 53), "utimensat": (280, 88),
    "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "sendmmsg": (307, 269), "sched_getattr": (315, 275),
    "accept4": (288, 242), "flock": (73, 32), "preadv2": (327, 286), "mincore": (27, 232),
    "execveat": (322, 281), "fchmodat2": (452, 452), "socket": (41, 198), "connect": (42, 203), "seccomp": (317, 277),
}  # fmt: skip
# The calls of an observed process that notify the broker. It continues those that the first layer allows, and refuses
# the others with the error of that layer.
OPENING: Final[_Numbers] = {name: CONDITIONAL[name] for name in ("open", "openat", "creat")}
STARTING: Final[_Numbers] = {name: CONDITIONAL[name] for name in ("execve", "execveat")}
FORKING: Final[_Numbers] = {name: CONDITIONAL[name] for name in ("fork", "vfork", "clone")}
NAMING: Final[_Numbers] = {
    **{name: CONDITIONAL[name] for name in ("mkdir", "mkdirat")},
    **{name: ALLOWED[name] for name in ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat")},
    **{name: ALLOWED[name] for name in ("unlink", "unlinkat", "rmdir", "truncate")},
}
# Answered with ENOSYS, so that libc falls back to calls whose flags a filter can read: `clone3` and `openat2` have
# theirs behind a pointer.
ABSENT: Final[_Numbers] = {
    "clone3": (435, 435), "openat2": (437, 437), "cachestat": (451, 451), "map_shadow_stack": (453, 453),
    "mseal": (462, 462),
}  # fmt: skip
# Answered with ENOTSUP, like a file system without extended attributes: programs that copy files ask for them first and
# then go on. Landlock does not restrict reading them.
UNSUPPORTED: Final[_Numbers] = {
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "listxattr": (194, 11), "llistxattr": (195, 12),
    "flistxattr": (196, 13),
}  # fmt: skip
_NEWEST: Final = 462  # newer calls are answered with ENOSYS: programs that try them first have a fallback

_METADATA: Final = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
_PROGRAMS: Final = ("execve", "execveat", "vfork")
_OTHERS: Final = ("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# Their first argument is a process: the answer shows whether it exists.
_QUERIES: Final = (
    *("getpgid", "getsid", "sched_getparam", "sched_getscheduler", "sched_getattr", "sched_rr_get_interval"),
    "sched_getaffinity",
)

_Op: TypeAlias = tuple[int, int, int, int]
_LOAD, _AND, _EQUAL, _ABOVE, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x45, 0x06
_ALLOW: _Op = (_RETURN, 0, 0, 0x7FFF0000)
_KILL: _Op = (_RETURN, 0, 0, 0x80000000)
_DENY: _Op = (_RETURN, 0, 0, 0x00050000 | errno.EPERM)
_MISSING: _Op = (_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)
_NOTIFY: _Op = (_RETURN, 0, 0, 0x7FC00000)
_UNSUPPORTED_ERROR: _Op = (_RETURN, 0, 0, 0x00050000 | errno.ENOTSUP)
_ARCHITECTURE: Final[Mapping[Machine, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_NEW_NAMESPACES = 0x7E020080 | 0x02000000  # every CLONE_NEW* flag of `clone`
_THREAD = 0x00010000
_CREATES = 0o100 | 0o20000000  # O_CREAT | __O_TMPFILE
_SET_ID = 0o6000
_FAST_OPEN = 0x20000000  # MSG_FASTOPEN connects
# TCGETS, TCGETS2, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not TIOCSTI, which types into a
# terminal, and none that sets the owner or the flags of a file.
_DEVICE_CONTROLS = (0x5401, 0x802C542A, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# DUPFD, GETFD, SETFD, GETFL, SETFL, locks, DUPFD_CLOEXEC, pipe sizes. Not F_SETOWN, whose process gets signals, and no
# lease or directory watch.
_FILE_CONTROLS = (0, 1, 2, 3, 4, 6, 7, 37, 38, 1030, 1031, 1032)
# GETLK, OFD_GETLK: any readable file can be locked for reading, and only these calls show one process the lock of
# another.
_LOCK_QUERIES = (5, 36)
_NO_WAIT = 0x8  # RWF_NOWAIT shows which parts of a file are cached, so what others have read
_SHARED, _ANONYMOUS, _WRITTEN = 0x1, 0x20, 0x2  # MAP_SHARED, MAP_ANONYMOUS, PROT_WRITE
# PDEATHSIG, DUMPABLE, SECCOMP, MM, SCHED_CORE, PTRACER
_CONTROLS = (1, 4, 22, 35, 62, 0x59616D61)
_ONE_PROCESS = {
    "getpriority": 0,
    "setpriority": 0,
    "ioprio_get": 1,
}  # the first argument that makes the second one a process
_OWN = kernel.OWN_PID


def this_machine() -> Machine | None:
    """The architecture of this machine; None if there is no filter for it."""
    machines: dict[str, Machine] = {"x86_64": "x86_64", "aarch64": "aarch64"}
    return machines.get(os.uname().machine) if hasattr(os, "uname") else None


@cache
def boundary_filter(
    machine: Machine,
    *,
    programs: bool,
    namespaces: bool,
    network: bool = False,
    asks: bool = False,
    observed: bool = False,
    locks: bool = True,
) -> bytes:
    """The first layer of a sandbox for one call.

    Args:
        machine: the architecture.
        programs: the tool may start programs.
        namespaces: the tier has mounts, so that changing modes and times is harmless: what lies outside is mounted
            read-only.
        network: plain TCP connections, in a network namespace where the only thing to connect to is the proxy's
            listener.
        asks: each `connect` notifies the process that connects to the proxy in its place.
        observed: calls that the second layer notifies the broker of pass this layer; refused here, the broker would not
            see them.
        locks: asking who holds a lock, as databases do.
    """
    rules = _boundary_rules(programs=programs, namespaces=namespaces, network=network, locks=locks)
    if asks:
        rules["connect"] = [_NOTIFY]
    if observed:
        rules = {"socket": [_ALLOW], **rules, **{name: [_ALLOW] for name in (*_PROGRAMS, "seccomp")}}
    return _program(machine, rules, listed=True)


@cache
def base_filter(machine: Machine, *, namespaces: bool, network: bool, locks: bool) -> bytes:
    """The first layer of a warm tool, for its base and all children, which inherit it.

    A filter cannot distinguish them: it sees numbers and arguments, not which process asks. So whatever depends on the
    process notifies the supervisor, which can.
    """
    rules = _boundary_rules(programs=False, namespaces=namespaces, network=network, locks=locks)
    # wait4 and waitid: nothing here has children to wait for. Those that the base forks are the supervisor's, so that
    # the base does not learn how a call ended.
    rules |= {name: [_DENY] for name in ("fork", "tkill", "wait4", "waitid")}
    rules |= {name: [_NOTIFY] for name in ("kill", "tgkill", "accept4")}
    rules |= {name: [_argument(0), (_EQUAL, 0, 1, 0), _ALLOW, _NOTIFY] for name in (*_QUERIES, "prlimit64")}
    rules |= {
        name: [_argument(0), (_EQUAL, 1, 0, which), _DENY, _argument(1), (_EQUAL, 0, 1, 0), _ALLOW, _NOTIFY]
        for name, which in _ONE_PROCESS.items()
    }
    rules["sched_setaffinity"] = rules["prlimit64"]
    # Only `setpgid(0, 0)`: joining a group by number would show whether it exists.
    rules["setpgid"] = [_argument(0), (_EQUAL, 1, 0, 0), _DENY, _argument(1), (_EQUAL, 1, 0, 0), _DENY, _ALLOW]
    # The only fork is the one whose child belongs to the supervisor (`kernel.fork_sibling`), and only with exactly
    # these flags.
    rules["clone"] = [
        _argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _DENY, (_ANY_BIT, 1, 0, _THREAD),
        (_EQUAL, 0, 1, kernel.FORK_SIBLING_FLAGS), _NOTIFY, _DENY,
    ]  # fmt: skip
    # Closing everything is what proves to the supervisor that a child holds nothing of its base.
    rules["close_range"] = [
        _argument(0), (_EQUAL, 1, 0, 0), _ALLOW, _argument(1), (_EQUAL, 1, 0, 0xFFFFFFFF), _ALLOW, _NOTIFY,
    ]  # fmt: skip
    # Shared and writable: what the base maps, every child would write to.
    rules["mmap"] = [
        *rules["mmap"][:-1], _argument(3), (_ANY_BIT, 1, 0, _SHARED), _ALLOW, *_notify_with_bits(2, _WRITTEN),
    ]  # fmt: skip
    if network:
        rules["connect"] = [_NOTIFY]
    return _program(machine, rules, listed=True)


def _boundary_rules(*, programs: bool, namespaces: bool, network: bool, locks: bool) -> dict[str, list[_Op]]:
    rules: dict[str, list[_Op]] = {
        name: [_ALLOW]
        for name in (
            "fork",
            "kill",
            "tgkill",
            "tkill",
            "prctl",
            "prlimit64",
            "sched_setaffinity",
            *_QUERIES,
            *_ONE_PROCESS,
        )
    }
    rules["clone"] = _without_bits(0, _NEW_NAMESPACES)
    # An end of a datagram pair can be sent to any address (sendto); a stream pair stays connected to its other end.
    rules["socketpair"] = [
        _argument(0), (_EQUAL, 1, 0, 1), _DENY, _argument(1), (_AND, 0, 0, 0xF), (_EQUAL, 1, 0, 1), _DENY, _ALLOW,
    ]  # fmt: skip
    for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        rules[name] = _without_bits(flags, _FAST_OPEN)
    rules["ioctl"] = _only(1, _DEVICE_CONTROLS)
    rules["fcntl"] = _only(1, (*_FILE_CONTROLS, *(_LOCK_QUERIES if locks else ())))
    rules["preadv2"] = _without_bits(5, _NO_WAIT)
    # No anonymous shared memory: each process that is forked would share it.
    rules["mmap"] = [
        _argument(3),
        (_AND, 0, 0, _SHARED | _ANONYMOUS),
        (_EQUAL, 0, 1, _SHARED | _ANONYMOUS),
        _DENY,
        _ALLOW,
    ]
    rules["open"] = _creating(1, 2)
    rules["openat"] = _creating(2, 3)
    for name, mode in (("creat", 1), ("mkdir", 1), ("mkdirat", 2)):
        rules[name] = _without_bits(mode, _SET_ID)
    if namespaces:
        rules |= {name: [_ALLOW] for name in _METADATA}
        for name, mode in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)):
            rules[name] = _without_bits(mode, _SET_ID)
    if programs:
        rules |= {name: [_ALLOW] for name in _PROGRAMS}
    if network:
        rules["connect"] = [_ALLOW]
        rules["socket"] = [  # IPv4, stream, protocol 0 or TCP: not MPTCP (262), which is another protocol
            _argument(0), (_EQUAL, 1, 0, 2), _DENY, _argument(1), (_AND, 0, 0, 0xF), (_EQUAL, 1, 0, 1), _DENY,
            _argument(2), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, 6), _DENY, _ALLOW,
        ]  # fmt: skip
    return rules


def call_filter(machine: Machine, *, programs: bool, namespaces: bool, observed: bool = False) -> bytes:
    """The second layer: what the process of one call may not do to other processes.

    `kernel.OWN_PID` stands for its own number.

    Without `namespaces` it may not query other processes either: their numbers are those of this machine. `observed`:
    calls that a manifest can grant notify the broker.
    """
    # The process has created its ruleset before it loads this filter, so another one could only be the tool's.
    rules: dict[str, list[_Op]] = {"landlock_create_ruleset": [_DENY], "prctl": _except(0, _CONTROLS)}
    rules["prlimit64"] = _only(0, (0, _OWN))
    if not programs:
        rules |= {name: [_DENY] for name in ("fork", *_PROGRAMS, *_OTHERS)}
        rules["clone"] = [_argument(0), (_ANY_BIT, 1, 0, _THREAD), _DENY, _ALLOW]
        rules["kill"] = _only(0, (_OWN,))
        rules["tgkill"] = _only(0, (_OWN,))
        rules["sched_setaffinity"] = _only(0, (0, _OWN))
        rules["setpriority"] = _of_itself("setpriority", _DENY)
    if not namespaces:
        rules |= {name: _only(0, (0, _OWN), otherwise=_MISSING) for name in _QUERIES}
        rules |= {name: _of_itself(name, _MISSING) for name in ("getpriority", "ioprio_get")}
    if observed:
        rules |= {name: [_NOTIFY] for name in (*OPENING, *STARTING, *NAMING, "socket")}
        rules["seccomp"] = [_DENY]
        if not programs:
            rules |= {"fork": [_NOTIFY], "vfork": [_NOTIFY]}
            rules["clone"] = [_argument(0), (_ANY_BIT, 1, 0, _THREAD), _NOTIFY, _ALLOW]
    return _program(machine, rules, listed=False)


def _argument(index: int) -> _Op:
    """Load the low 32 bits of an argument: the part that the kernel uses for flags, modes, types and pids.

    INVARIANT: little-endian, as both architectures are. The kernel ignores the high half, so a filter must ignore it
    too: a rule that compared it could be bypassed by setting a high bit.
    """
    return (_LOAD, 0, 0, 16 + 8 * index)


def _without_bits(index: int, mask: int) -> list[_Op]:
    return [_argument(index), (_ANY_BIT, 0, 1, mask), _DENY, _ALLOW]


def _notify_with_bits(index: int, mask: int) -> list[_Op]:
    return [_argument(index), (_ANY_BIT, 0, 1, mask), _NOTIFY, _ALLOW]


def _only(index: int, values: Iterable[int], *, otherwise: _Op = _DENY) -> list[_Op]:
    ops = [_argument(index)]
    for value in values:
        ops += [(_EQUAL, 0, 1, value), _ALLOW]
    return [*ops, otherwise]


def _of_itself(name: str, otherwise: _Op) -> list[_Op]:
    """Allowed if the first argument selects a single process, and the second is the caller."""
    return [_argument(0), (_EQUAL, 1, 0, _ONE_PROCESS[name]), otherwise, *_only(1, (0, _OWN), otherwise=otherwise)]


def _except(index: int, values: Iterable[int]) -> list[_Op]:
    ops = [_argument(index)]
    for value in values:
        ops += [(_EQUAL, 0, 1, value), _DENY]
    return [*ops, _ALLOW]


def _creating(flags: int, mode: int) -> list[_Op]:
    return [_argument(flags), (_ANY_BIT, 1, 0, _CREATES), _ALLOW, *_without_bits(mode, _SET_ID)]


def _program(machine: Machine, rules: Mapping[str, list[_Op]], *, listed: bool) -> bytes:
    """The whole filter. Each rule is a complete body that ends in a return.

    `listed`: a call without a rule must be in `ALLOWED`.
    """
    column = 0 if machine == "x86_64" else 1
    # The architecture comes first: elsewhere a number means another call (`int 0x80` uses the 32-bit numbers).
    ops: list[_Op] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE[machine]), _KILL, (_LOAD, 0, 0, 0)]
    if machine == "x86_64":  # x32 has the same calls under other numbers, which no rule below would match
        ops += [(_AT_LEAST, 0, 1, 0x40000000), _MISSING]
    every = {**ALLOWED, **CONDITIONAL}
    for name, body in rules.items():
        if (number := every[name][column]) >= 0:
            ops += [(_EQUAL, 0, len(body), number), *body]
    if not listed:
        return _assemble([*ops, _ALLOW])
    for first, last in _ranges(numbers[column] for numbers in ALLOWED.values()):
        ops += [(_AT_LEAST, 0, 2, first), (_ABOVE, 1, 0, last), _ALLOW]
    for refused, answer in ((ABSENT, _MISSING), (UNSUPPORTED, _UNSUPPORTED_ERROR)):
        for numbers in refused.values():
            ops += [(_EQUAL, 0, 1, numbers[column]), answer]
    return _assemble([*ops, (_ABOVE, 0, 1, _NEWEST), _MISSING, _DENY])


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, last): two comparisons for each run of numbers instead of one for each number."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(number for number in numbers if number >= 0):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _assemble(ops: Iterable[_Op]) -> bytes:
    return b"".join(struct.pack("=HBBI", *op) for op in ops)
