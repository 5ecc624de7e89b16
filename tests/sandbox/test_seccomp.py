"""The filters of system calls, run by a small interpreter of classic BPF: for both architectures, on any machine."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from adversarial.attack_list import abuse
from remit.sandbox import Tier
from remit.sandbox.guest import kernel
from remit.sandbox.seccomp import (
    ABSENT,
    ALLOWED,
    CONDITIONAL,
    FORKING,
    NAMING,
    OPENING,
    STARTING,
    UNSUPPORTED,
    Machine,
    boundary_filter,
    call_filter,
    this_machine,
)
from support.sandbox import ToolHarness

MACHINES = get_args(Machine)
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# System calls that no tool may make, with their numbers on x86_64 and aarch64 (-1: there is none).
NEVER = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "statmount": (457, 457), "listmount": (458, 458), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "msgsnd": (69, 189), "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "acct": (163, 89), "quotactl": (179, 60), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "syslog": (103, 116), "personality": (135, 92), "modify_ldt": (154, -1), "iopl": (172, -1),
    "ioperm": (173, -1), "sethostname": (170, 161), "vhangup": (153, 58), "lookup_dcookie": (212, 18),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mbind": (237, 235), "move_pages": (279, 239),
    "vmsplice": (278, 75), "splice": (275, 76), "tee": (276, 77), "remap_file_pages": (216, 234), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "getxattr": (191, 8), "listxattr": (194, 11),
    "inotify_init": (253, -1), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27), "capget": (125, 90),
    "get_robust_list": (274, 100), "mknod": (133, -1), "mknodat": (259, 33),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "seccomp": (317, 277), "setuid": (105, 146), "setgid": (106, 144), "setgroups": (116, 159),
    "setresuid": (117, 147), "setfsuid": (122, 151), "capset": (126, 91), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "io_setup": (206, 0), "sync": (162, 81), "nfsservctl": (180, 42), "clone3": (435, 435),
    "openat2": (437, 437), "a number of tomorrow": (500, 500), "a number without a name": (335, 244),
}  # fmt: skip


def judge(program: bytes, number: int, arguments: Iterable[int] = (), *, machine: Machine) -> str:
    """The decision of the kernel: "allow", "notify", "kill", or the name of the error."""
    data = struct.pack("=IIQ", number & 0xFFFFFFFF, AUDIT[machine], 0)
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data += struct.pack("=6Q", *(value & (2**64 - 1) for value in padded))
    return run(program, data)


def run(program: bytes, data: bytes) -> str:
    ops = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = held = 0
    while True:
        code, yes, no, value = ops[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x54:
                held &= value
            case 0x15:
                at += yes if held == value else no
            case 0x25:
                at += yes if held > value else no
            case 0x35:
                at += yes if held >= value else no
            case 0x45:
                at += yes if held & value else no
            case 0x06:
                if value == 0x7FFF0000:
                    return "allow"
                if value == 0x7FC00000:
                    return "notify"
                return "kill" if value == 0x80000000 else errno.errorcode[value & 0xFFFF]
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def number(name: str, machine: Machine) -> int:
    return {**ALLOWED, **CONDITIONAL}[name][MACHINES.index(machine)]


@pytest.mark.parametrize("programs", [False, True], ids=["no programs", "programs"])
@pytest.mark.parametrize("namespaces", [False, True], ids=["no namespaces", "namespaces"])
@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_not_listed_is_refused(machine: Machine, namespaces: bool, programs: bool) -> None:
    """Every dangerous call by name, and every number that is not listed; what is listed is allowed."""
    program = boundary_filter(machine, programs=programs, namespaces=namespaces)
    column = MACHINES.index(machine)
    never = {
        name: judge(program, numbers[column], machine=machine)
        for name, numbers in NEVER.items()
        if numbers[column] >= 0
    }
    assert {name for name, verdict in never.items() if verdict == "allow"} == set()
    assert set(never.values()) == {"EPERM", "ENOSYS", "ENOTSUP"}
    known = {numbers[column] for numbers in (*ALLOWED.values(), *CONDITIONAL.values())}
    assert all(judge(program, one, machine=machine) != "allow" for one in range(600) if one not in known)
    assert all(
        judge(program, numbers[column], machine=machine) == "allow"
        for numbers in ALLOWED.values()
        if numbers[column] >= 0
    )


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("clone", (0x00010F00,), "allow"),
        ("clone", (0x10000000,), "EPERM"),
        ("clone", (0x7E020000,), "EPERM"),
        ("socketpair", (1, 1), "allow"),
        ("socketpair", (1, 0x80801), "allow"),
        ("socketpair", (1, 2), "EPERM"),
        ("socketpair", (1, 5), "EPERM"),
        ("socketpair", (2, 1), "EPERM"),
        ("sendto", (3, 0, 0, 0), "allow"),
        ("sendto", (3, 0, 0, 0x20000000), "EPERM"),
        ("sendmsg", (3, 0, 0x20000000), "EPERM"),
        ("ioctl", (0, 0x5413), "allow"),
        ("ioctl", (0, 0x5412), "EPERM"),
        ("ioctl", (0, 0x1_0000_5412), "EPERM"),
        ("ioctl", (0, 0x541C), "EPERM"),
        ("ioctl", (0, 0x8901), "EPERM"),
        ("ioctl", (0, 0x40086602), "EPERM"),
        ("fcntl", (0, 6), "allow"),
        ("fcntl", (0, 1030), "allow"),
        ("fcntl", (0, 8), "EPERM"),
        ("fcntl", (0, 10), "EPERM"),
        ("fcntl", (0, 15), "EPERM"),
        ("fcntl", (0, 1024), "EPERM"),
        ("mmap", (0, 4096, 3, 0x22), "allow"),
        ("mmap", (0, 4096, 3, 0x01), "allow"),
        ("mmap", (0, 4096, 3, 0x21), "EPERM"),
        ("openat", (0, 0, 0, 0o6755), "allow"),
        ("openat", (0, 0, 0o101, 0o755), "allow"),
        ("openat", (0, 0, 0o101, 0o4755), "EPERM"),
        ("openat", (0, 0, 0o20200000, 0o2755), "EPERM"),
        ("mkdirat", (0, 0, 0o755), "allow"),
        ("mkdirat", (0, 0, 0o2755), "EPERM"),
        ("fchmod", (0, 0o644), "allow"),
        ("fchmod", (0, 0o4755), "EPERM"),
    ],
)  # fmt: skip
def test_arguments_are_judged_by_what_the_kernel_looks_at(
    machine: Machine, name: str, arguments: tuple[int, ...], verdict: str
) -> None:
    """Flags, modes and types in the low half of the register, whatever is in the high half."""
    program = boundary_filter(machine, programs=False, namespaces=True)
    assert judge(program, number(name, machine), arguments, machine=machine) == verdict
    assert judge(program, number(name, machine), [one | 1 << 40 for one in arguments], machine=machine) == verdict


@pytest.mark.parametrize("machine", MACHINES)
def test_metadata_and_programs_are_allowed_only_where_they_are_meant(machine: Machine) -> None:
    """Modes, owners and times in the tier with mounts, where they are harmless; programs if the manifest names some."""
    metadata = ("fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat")
    for name in metadata:
        verdicts = [
            judge(boundary_filter(machine, programs=False, namespaces=one), number(name, machine), machine=machine)
            for one in (True, False)
        ]
        assert verdicts == ["allow", "EPERM"], name
    for name in ("execve", "execveat"):
        verdicts = [
            judge(boundary_filter(machine, programs=one, namespaces=True), number(name, machine), machine=machine)
            for one in (True, False)
        ]
        assert verdicts == ["allow", "EPERM"], name


@abuse(69, 70, 71)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ((2, 1, 0), "allow"),
        ((2, 0o2004001, 6), "allow"),
        ((2, 1, 262), "EPERM"),
        ((2, 1, 132), "EPERM"),
        ((2, 2, 0), "EPERM"),
        ((2, 3, 0), "EPERM"),
        ((10, 1, 0), "EPERM"),
        ((1, 1, 0), "EPERM"),
        ((16, 3, 0), "EPERM"),
        ((17, 3, 0), "EPERM"),
    ],
)
def test_a_tool_with_network_opens_plain_tcp_sockets_and_one_without_opens_none(
    machine: Machine, arguments: tuple[int, ...], verdict: str
) -> None:
    """69 to 72: family, type and protocol, whatever is in the high half; no tool binds, listens or accepts."""
    program = boundary_filter(machine, programs=False, namespaces=True, network=True)
    assert judge(program, number("socket", machine), arguments, machine=machine) == verdict
    assert judge(program, number("socket", machine), [one | 1 << 40 for one in arguments], machine=machine) == verdict
    without = boundary_filter(machine, programs=False, namespaces=True)
    assert judge(without, number("socket", machine), arguments, machine=machine) == "EPERM"
    assert judge(without, number("connect", machine), machine=machine) == "EPERM"
    for name in ("bind", "listen", "accept", "accept4"):
        one = {"bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242)}[name]
        assert judge(program, one[MACHINES.index(machine)], machine=machine) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_process_of_a_call_starts_and_signals_no_other_process(machine: Machine) -> None:
    """Only its own number is allowed. A tool that starts programs may fork and signal, in its own namespaces."""

    def verdicts(name: str, *arguments: int, namespaces: bool = True) -> tuple[str, str]:
        both = [call_filter(machine, programs=programs, namespaces=namespaces) for programs in (False, True)]
        own = [one.replace(struct.pack("=I", kernel.OWN_PID), struct.pack("=I", 77)) for one in both]
        alone, starts = (judge(one, number(name, machine), arguments, machine=machine) for one in own)
        return alone, starts

    assert verdicts("kill", 77, 9) == ("allow", "allow")
    for other in (1, 0, -1, 78):
        assert verdicts("kill", other, 9) == ("EPERM", "allow")
        assert verdicts("tgkill", other, other, 9) == ("EPERM", "allow")
    assert verdicts("clone", 0x00010F00) == ("allow", "allow")
    assert verdicts("clone", 0x01200011) == ("EPERM", "allow")
    assert verdicts("prlimit64", 0) == verdicts("prlimit64", 77) == ("allow", "allow")
    assert verdicts("prlimit64", 1) == ("EPERM", "EPERM")
    for option in (1, 4, 22, 35, 0x59616D61):
        assert verdicts("prctl", option) == ("EPERM", "EPERM")
    assert verdicts("prctl", 15) == ("allow", "allow")
    assert verdicts("setpriority", 0, 77, 5) == verdicts("setpriority", 0, 0, 5) == ("allow", "allow")
    assert verdicts("setpriority", 0, 78, 5) == verdicts("setpriority", 2, 0, 5) == ("EPERM", "allow")
    assert verdicts("sched_setaffinity", 0) == ("allow", "allow")
    assert verdicts("sched_setaffinity", 78) == ("EPERM", "allow")
    for name, first in (
        ("getpgid", ()),
        ("getsid", ()),
        ("sched_getaffinity", ()),
        ("getpriority", (0,)),
        ("ioprio_get", (1,)),
    ):
        assert verdicts(name, *first, 78) == ("allow", "allow")
        assert verdicts(name, *first, 78, namespaces=False) == ("ENOSYS", "ENOSYS")
        assert verdicts(name, *first, 0, namespaces=False) == ("allow", "allow")
    assert verdicts("landlock_create_ruleset") == ("EPERM", "EPERM")


def test_another_architecture_is_killed_and_its_numbers_do_not_exist() -> None:
    """A call of the wrong architecture kills the process; x32 numbers do not exist."""
    program = boundary_filter("x86_64", programs=True, namespaces=True)
    assert judge(program, 39, machine="aarch64") == "kill"
    assert judge(boundary_filter("aarch64", programs=True, namespaces=True), 39, machine="x86_64") == "kill"
    assert judge(program, 0x40000000 + 39, machine="x86_64") == "ENOSYS"
    assert judge(program, 39, machine="x86_64") == "allow"


# What the kernel's headers hold for each machine. Linux gives arm64 the generic table, with these parts (its uapi/asm/unistd.h).
GENERIC = """
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_SYS_CLONE3
#define __ARCH_WANT_MEMFD_SECRET
#include <asm-generic/unistd.h>
"""
HEADERS = {"x86_64": "#include <asm/unistd_64.h>", "aarch64": GENERIC}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: Machine, tmp_path: Path) -> None:
    """Compared with the headers of this machine, if it has a compiler and headers. They know the calls up to their own version."""
    if machine == "x86_64" != this_machine():
        pytest.skip("the headers of x86_64 are those of another machine")
    tables = {
        **ALLOWED,
        **CONDITIONAL,
        **ABSENT,
        **UNSUPPORTED,
        **{name: NEVER[name] for name in NEVER if " " not in name},
    }
    names = "\n".join(f"#ifdef __NR_{name}\n{name} __NR_{name}\n#endif" for name in tables)
    source = tmp_path / "numbers.c"
    source.write_text(f"{HEADERS[machine]}\nnewest __NR_syscalls\n{names}\n")
    try:
        output = subprocess.run(["cc", "-E", "-P", source], capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip("no compiler on this machine")
    if output.returncode:
        pytest.skip("no kernel headers on this machine")
    found = {
        name: int(value)
        for line in output.stdout.splitlines()
        for name, _, value in [line.partition(" ")]
        if value.isdigit()
    }
    first_unknown = found.pop("newest", 424)  # from 424 on, a call has the same number everywhere
    assert len(found) > 250
    numbers = {name: pair[MACHINES.index(machine)] for name, pair in tables.items()}
    assert {name: numbers[name] for name in found} == found
    of_headers = {name for name, number in numbers.items() if 0 <= number < first_unknown}
    assert of_headers - set(found) == set()  # and no call without a number on this machine is given one


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit system calls exist on x86_64 only")
@pytest.mark.parametrize("tier", get_args(Tier))
@abuse(66)
async def test_a_32_bit_system_call_ends_the_process(tmp_path: Path, tier: Tier) -> None:
    """`int 0x80` uses the 32-bit numbers, where 20 is a harmless call; the filter sees the architecture."""
    code = """
    import ctypes, mmap
    def act() -> int:
        page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
        page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    """
    output = await ToolHarness(base=tmp_path, tier=tier).run(code)
    assert (output.code, output.message) == ("tool_crashed", "the tool was ended by SIGSYS")


@pytest.mark.parametrize("programs", [False, True], ids=["no programs", "programs"])
@pytest.mark.parametrize("namespaces", [False, True], ids=["no namespaces", "namespaces"])
@pytest.mark.parametrize("machine", MACHINES)
def test_an_observed_call_is_allowed_nothing_that_another_is_not(
    machine: Machine, namespaces: bool, programs: bool
) -> None:
    """Both layers together, for every number: only the observed calls notify the broker; all others are unchanged."""
    column = MACHINES.index(machine)
    asked = {numbers[column] for numbers in {**OPENING, **STARTING, **FORKING, **NAMING}.values()}
    asked.add(number("socket", machine))

    def verdicts(one: int, observed: bool) -> set[str]:
        return {judge(layer, one, machine=machine) for layer in layers[observed]} - {"allow"}

    kinds = [{"programs": programs, "namespaces": namespaces, "observed": observed} for observed in (False, True)]
    layers = [(boundary_filter(machine, **kind), call_filter(machine, **kind)) for kind in kinds]

    for one in range(600):
        before, now = verdicts(one, False), verdicts(one, True)
        if one in asked:
            assert now <= {"notify", *before}, one
            assert now or not before, one
        elif one == number("seccomp", machine):
            assert (before, now) == ({"EPERM"}, {"EPERM"})
        else:
            assert now == before, one
    assert verdicts(number("socket", machine), True) == verdicts(number("execve", machine), True) == {"notify"}
