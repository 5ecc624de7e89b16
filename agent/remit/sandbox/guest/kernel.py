"""System calls without a Python function, by number, through ctypes: Landlock, openat2, seccomp, mounts and others.

Standard library only: this file is also mounted into the sandbox. The numbers are those of x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_MACHINE = os.uname().machine if hasattr(os, "uname") else ""
_X86 = _MACHINE == "x86_64"
_SUPPORTED = sys.platform == "linux" and _MACHINE in ("x86_64", "aarch64")
if _SUPPORTED:
    _libc.syscall.restype = ctypes.c_long

# name: (x86_64, aarch64)
_NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "prctl": (157, 167), "capset": (126, 91), "openat2": (437, 437), "close_range": (436, 436),
    "tgkill": (234, 131), "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
    "clone": (56, 220), "accept4": (288, 242), "connect": (42, 203), "kill": (62, 129), "mmap": (9, 222),
    "prlimit64": (302, 261), "getpgid": (121, 155), "getsid": (124, 156), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_rr_get_interval": (148, 127), "sched_getattr": (315, 275),
    "sched_setaffinity": (203, 122), "sched_getaffinity": (204, 123), "getpriority": (140, 141),
    "setpriority": (141, 140), "ioprio_get": (252, 31), "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442),
    "pidfd_getfd": (438, 438), "process_vm_readv": (310, 270),
}  # fmt: skip


def syscall_number(name: str) -> int:
    """The number of the system call on this machine."""
    return _NUMBERS[name][0 if _X86 else 1]


def syscall(name: str, *arguments: int | ctypes.c_void_p | bytes | None) -> int:
    """Make one system call; return its result.

    Raises:
        OSError: the kernel returned an error; ENOSYS on a system or machine whose numbers are not known here.
    """
    if not _SUPPORTED:  # elsewhere the same number is another call, with another effect
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    ctypes.set_errno(0)
    # ctypes passes a plain int as 32 bits, which would cut flags and addresses.
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(_libc.syscall(ctypes.c_long(syscall_number(name)), *wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


# ---- files -----------------------------------------------------------------------------------------------------------

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


def open_beneath(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` beneath the folder `root` (openat2). No symlink is followed, in no part of the path. Close-on-exec.

    The kernel checks each part while it walks the path, so a folder that is swapped for a symlink meanwhile cannot lead
    out.

    Raises:
        OSError: ELOOP for a symlink, EXDEV for a path that leaves `root`, or another error of the kernel.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    try:
        return syscall("openat2", root, os.fsencode(path) + b"\0", how, len(how))
    except OSError as failure:
        failure.filename = path
        raise


def close_all_from(first: int) -> None:
    """Close every descriptor from `first` on, in one system call."""
    syscall("close_range", first, 0xFFFFFFFF, 0)


# ---- process ---------------------------------------------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def no_new_privileges() -> None:
    """Ignore set-user-id bits from now on.

    The kernel loads filters and Landlock layers of ordinary accounts only after this.
    """
    syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def not_dumpable() -> None:
    """No core dump; and no process of the same account may trace this one or read its memory."""
    syscall("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def traceable() -> None:
    """Undo `not_dumpable`, also as inherited: the process that answers for this one must read its memory without any capability."""
    syscall("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """End this process with SIGKILL when its parent ends. `parent` is the expected parent."""
    syscall("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)
    # The parent may have ended before the signal was set; then this process has another parent already.
    if os.getppid() != parent:
        os._exit(1)


# CLONE_PARENT, CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID, SIGCHLD: the only flags with which the filter lets a base
# fork.
FORK_SIBLING_FLAGS: Final = 0x8000 | 0x01000000 | 0x00200000 | 17
_PR_GET_TID_ADDRESS = 40


def fork_sibling() -> int:
    """Fork with CLONE_PARENT: the child belongs to this process's parent, which alone can wait for it.

    Its number; 0 in the child.

    `os.fork` cannot do this, so its steps are repeated here.
    """
    # PyDLL keeps the interpreter's lock during the call, as `os.fork` does: no other thread may run Python code in
    # between.
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # The C library caches the thread's number at this address. With CHILD_SETTID the kernel writes the child's number
    # there.
    own = ctypes.c_void_p()
    libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(own), 0, 0, 0)
    place = ctypes.c_void_p(own.value)
    words = (place, None) if _X86 else (None, place)  # the order of the last two arguments differs
    # These calls take and release the locks of the import system, and repair the interpreter's state in the child.
    ctypes.pythonapi.PyOS_BeforeFork()
    child = int(
        libc.syscall(ctypes.c_long(syscall_number("clone")), ctypes.c_long(FORK_SIBLING_FLAGS), None, None, *words)
    )
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()  # read first: the next call may change it
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if child < 0:
        raise OSError(code, os.strerror(code), "clone")
    return child


def copy_descriptor(process: int, descriptor: int) -> int:
    """A copy of a descriptor of another process, for the same open file. Needs the right to trace that process."""
    handle = os.pidfd_open(process)
    try:
        return syscall("pidfd_getfd", handle, descriptor, 0)
    finally:
        os.close(handle)


def read_memory(process: int, address: int, size: int) -> bytes:
    """Read the memory of another process. Needs the right to trace that process."""
    buffer = ctypes.create_string_buffer(size)
    ours = struct.pack("PN", ctypes.addressof(buffer), size)
    theirs = struct.pack("PN", address, size)
    read = syscall("process_vm_readv", process, ours, 1, theirs, 1, 0)
    return buffer.raw[:read]


def adopt_orphans() -> None:
    """Become a child subreaper: descendants whose parent ends become children of this process."""
    syscall("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_thread(process: int, number: int) -> bool:
    """True if the process has a thread with that number. Signal 0 checks without sending anything."""
    try:
        syscall("tgkill", process, number, 0)
    except OSError:
        return False
    return True


def drop_capabilities() -> None:
    """Drop every capability from every set. Without any, this changes nothing."""
    # The bounding set first: emptying it needs a capability (CAP_SETPCAP) that `capset` takes away.
    for capability in range(64):
        try:
            syscall("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:  # past the last capability of this kernel, or without the right to drop any
            break
    header = struct.pack("=Ii", 0x20080522, 0)
    syscall("capset", header, bytes(24))


# ---- mounts ----------------------------------------------------------------------------------------------------------

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096


def mount_tmpfs(at: str, *, size: int, files: int) -> None:
    """Mount an empty tmpfs with at most `size` bytes and `files` inodes. Only its owner may enter it."""
    options = f"size={size},nr_inodes={files},mode=700".encode() + b"\0"
    syscall("mount", b"tmpfs\0", os.fsencode(at) + b"\0", b"tmpfs\0", _MS_NOSUID | _MS_NODEV, options)


def unmount(at: str) -> None:
    """Detach the mount. It disappears when the last process that uses it has ended."""
    syscall(
        "umount2", os.fsencode(at) + b"\0", 2
    )  # MNT_DETACH: a process that is ending may still have it as its current folder


def mount_read_only(at: str) -> None:
    """Make the mount at that path read-only."""
    # A remount replaces all flags, so those that are set are repeated: in a user namespace, the kernel refuses to
    # remove them.
    kept = os.statvfs(at).f_flag & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    syscall("mount", None, os.fsencode(at) + b"\0", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept, None)


def open_detached_clone(at: str) -> int:
    """Open the folder of the mount at that path through a detached copy of the mount.

    No path leads to the copy, and it stays writable when the original becomes read-only.
    """
    tree = syscall("open_tree", -100, os.fsencode(at) + b"\0", 1 | os.O_CLOEXEC)  # OPEN_TREE_CLONE
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)


def bind_mount(folder: int, at: str) -> None:
    """Bind-mount the folder of the descriptor at another path, too.

    It keeps the flags of the mount that it was opened through.
    """
    tree = syscall("open_tree", folder, b"\0", 1 | os.O_CLOEXEC | 0x1000 | 0x8000)  # CLONE, AT_EMPTY_PATH, AT_RECURSIVE
    try:
        syscall("move_mount", tree, b"\0", -100, os.fsencode(at) + b"\0", 4)  # MOVE_MOUNT_F_EMPTY_PATH
    finally:
        os.close(tree)


_AT_EMPTY_PATH, _MOUNT_ATTRIBUTES = 0x1000, 0x1 | 0x2 | 0x4 | 0x8  # read-only, no set-user-id, no devices, no programs


def mount_file(descriptor: int, at: str) -> None:
    """Mount the file or folder of the descriptor at the path, read-only and without programs: that inode, whatever its name is now."""
    tree = syscall("open_tree", descriptor, b"\0", 1 | os.O_CLOEXEC | _AT_EMPTY_PATH)  # OPEN_TREE_CLONE
    try:
        attributes = struct.pack("QQQQ", _MOUNT_ATTRIBUTES, 0, 0, 0)
        syscall("mount_setattr", tree, b"\0", _AT_EMPTY_PATH, attributes, len(attributes))
        syscall("move_mount", tree, b"\0", -100, os.fsencode(at) + b"\0", 4)  # MOVE_MOUNT_F_EMPTY_PATH
    finally:
        os.close(tree)


def move_mount(source: str, at: str) -> None:
    """Move the mount at one path to another, with every mount below it."""
    syscall("move_mount", -100, os.fsencode(source) + b"\0", -100, os.fsencode(at) + b"\0", 0)


# ---- Landlock --------------------------------------------------------------------------------------------------------

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13  # ABI 2
TRUNCATE = 1 << 14  # ABI 3
IOCTL_DEV = 1 << 15  # ABI 5

READ = READ_FILE | READ_DIR
CHANGE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
STORE = CHANGE & ~MAKE_SYM  # a store stays on the disk, where another program could follow a planted symlink
_OF_FILES = (
    EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
)  # the kernel rejects a rule on a file with any other right

_HANDLED_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def landlock_abi() -> int:
    """The version of the kernel's Landlock; 0 if there is none."""
    if not _SUPPORTED:
        return 0
    try:
        return syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


class OpenedPath(NamedTuple):
    """A path that a rule allows, opened."""

    descriptor: int
    access: int
    is_file: bool


def open_paths(paths: Iterable[tuple[str, int]]) -> Iterator[OpenedPath]:
    """Open paths of the runtime for rules; the caller closes them. A path that does not exist is skipped."""
    for path, access in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            raise
        yield OpenedPath(descriptor, access, not os.path.isdir(path))


class Ruleset:
    """One Landlock layer. What no rule allows is refused.

    TCP ports and signals to the outside are refused always, if the kernel can.
    """

    def __init__(self) -> None:
        # The size of the attributes names the version that the caller knows, so older kernels get the shorter
        # structure.
        abi = landlock_abi()
        self._handled = _HANDLED_BY_ABI[min(abi, 5)]
        network = 0b11 if abi >= 4 else 0  # bind and connect TCP
        scoped = 0b11 if abi >= 6 else 0  # abstract unix sockets, signals
        attributes = struct.pack("=QQQ", self._handled, network, scoped)
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        self.descriptor = syscall("landlock_create_ruleset", attributes[:size], size, 0)

    def allow(self, descriptor: int, access: int, *, is_file: bool) -> None:
        """Grant `access` on the inode of the descriptor and on everything beneath it."""
        access &= self._handled & (_OF_FILES if is_file else ~0)
        syscall("landlock_add_rule", self.descriptor, 1, struct.pack("=Qi", access, descriptor), 0)

    def allow_path(self, path: str, access: int) -> None:
        """Grant `access` on a path of the runtime. A path that does not exist is skipped."""
        for opened in open_paths([(path, access)]):
            try:
                self.allow(opened.descriptor, access, is_file=opened.is_file)
            finally:
                os.close(opened.descriptor)

    def allow_connect(self, port: int) -> None:
        """Allow TCP connections to that port. Landlock before version 4 has no rules for ports: then nothing is added."""
        if landlock_abi() >= 4:
            syscall("landlock_add_rule", self.descriptor, 2, struct.pack("=QQ", 2, port), 0)

    def enforce(self) -> None:
        """Restrict this process, and all it starts, from now on. This cannot be undone."""
        syscall("landlock_restrict_self", self.descriptor, 0)
        os.close(self.descriptor)


# ---- seccomp ---------------------------------------------------------------------------------------------------------

_NEW_LISTENER = 1 << 3
OWN_PID: Final = 0x7EADBEEF  # placeholder in a filter for the number of the process that loads it


def install(program: bytes) -> None:
    """Load a filter of `seccomp.py` for this process and all it starts. This cannot be undone."""
    header, _memory = _prepared(program)
    syscall("prctl", _PR_SET_SECCOMP, 2, header, 0, 0)


def install_with_listener(program: bytes) -> int:
    """Load a filter that sends notifications; return its listener, the descriptor on which they are answered."""
    header, _memory = _prepared(program)
    return syscall("seccomp", 1, _NEW_LISTENER, header)


def _prepared(program: bytes) -> tuple[bytes, ctypes.Array[ctypes.c_char]]:
    """The header for the kernel, and the memory that it points to. The caller keeps both until the filter is loaded."""
    program = program.replace(struct.pack("=I", OWN_PID), struct.pack("=I", os.getpid()))
    buffer = ctypes.create_string_buffer(program, len(program))
    return struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)), buffer
