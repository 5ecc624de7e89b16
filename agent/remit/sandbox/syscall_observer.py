"""Records what one call really does: files, names, programs, sockets. The kernel notifies the broker of each (seccomp).

An observed call runs in the same sandbox as any other. Only its second filter differs: it notifies the broker of the
system calls that a manifest can grant. The broker answers what the filter would have answered, so the tool gets the
results of a normal run.

Every system call of the tool and of all that it starts is recorded, made by Python, a C library or a program. Two
things are not: what C code reads from its environment, because that is no system call; and what a tool hides on
purpose, because it can change a path in its memory after the broker has read it. The sandbox stops that, too; this
module only reports.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EPERM
from typing import Final, Literal, TypeAlias, cast

from remit.core import Json, Refusal
from remit.core.parsing import covered, parse_json
from remit.sandbox.guest.serving import readable
from remit.sandbox.profile import Profile, Runtime
from remit.sandbox.seccomp import CONDITIONAL, FORKING, NAMING, OPENING, STARTING, this_machine

Doing: TypeAlias = Literal["read", "write", "start", "connect"]

_RECEIVE: Final = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, of 80 bytes
_SEND: Final = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND, of 24 bytes
_IS_VALID: Final = 0x40082102  # SECCOMP_IOCTL_NOTIF_ID_VALID
_CONTINUE: Final = 1
_HERE: Final = -100  # AT_FDCWD
_LONGEST_PATH: Final = 4096
_MOST: Final = 100_000  # recorded events of one call; further notifications are answered and not recorded
_GUEST_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # with these, `onecall` opens the written files

# Which arguments of a system call are paths: for each, (descriptor of the folder or None, path, flags or None). Making
# or removing a name counts as writing it.
_Place: TypeAlias = tuple[int | None, int, int | None]
_PLACES: Final[Mapping[str, tuple[_Place, ...]]] = {
    "open": ((None, 0, 1),), "creat": ((None, 0, None),), "openat": ((0, 1, 2),),
    "execve": ((None, 0, None),), "execveat": ((0, 1, None),),
    "mkdir": ((None, 0, None),), "mkdirat": ((0, 1, None),), "rmdir": ((None, 0, None),),
    "unlink": ((None, 0, None),), "unlinkat": ((0, 1, None),), "truncate": ((None, 0, None),),
    "rename": ((None, 0, None), (None, 1, None)), "renameat": ((0, 1, None), (2, 3, None)),
    "renameat2": ((0, 1, None), (2, 3, None)), "link": ((None, 1, None),), "linkat": ((2, 3, None),),
    "symlink": ((None, 1, None),), "symlinkat": ((1, 2, None),),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ObservedAccess:
    """One access that a call tried, whether it succeeded or not.

    `what` is a path relative to the working folder, or an absolute path outside it; or the name of a program; or a kind
    of socket. `decided` is True if the decision or the manifest grants it, `inside` if it lies in the working folder.
    """

    doing: Doing
    what: str
    decided: bool
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All accesses of one call.

    `variables` are the environment variables that it has and read; `lacking` are those that the tool's own code looked
    up and did not find. Both are known for Python code only.
    """

    seen: tuple[ObservedAccess, ...] = ()
    variables: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Event:
    name: str
    paths: tuple[str, ...] = ()
    flags: int = 0


class Observer:
    """Answers the notifications of one call's filter, and records them."""

    def __init__(self, profile: Profile, runtime: Runtime) -> None:
        self.seen = Observed()
        self._profile = profile
        self._links = [path for _, path in runtime.links]
        self._programs = bool(profile.executables)
        self._listener = -1
        self._events: dict[_Event, None] = {}  # an ordered set
        column = 0 if this_machine() == "x86_64" else 1
        watched = {**OPENING, **STARTING, **FORKING, **NAMING, "socket": CONDITIONAL["socket"]}
        self._names = {numbers[column]: name for name, numbers in watched.items()}

    def take(self, listener: int) -> None:
        """Answer the notifications on that descriptor from now on. The observer now owns it."""
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._answer)

    def close(self) -> None:
        """Stop answering. The kernel then refuses every further call of the filter with ENOSYS."""
        if self._listener >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            os.close(self._listener)
            self._listener = -1

    def end(self, boundary: Mapping[str, Json], layout: Mapping[str, Json], answer: bytes | None) -> None:
        """Complete `seen` from the recorded events, after the call has ended."""
        place = _Places(self._profile, boundary, layout, self._links)
        accesses: dict[ObservedAccess, None] = {}
        for event in self._events:
            accesses.update(dict.fromkeys(place.seen(event)))
        accesses.update(dict.fromkeys(place.left()))
        variables, lacking = (_names(answer, key) for key in ("variables", "lacking"))
        self.seen = Observed(seen=tuple(accesses), variables=variables, lacking=lacking)

    def _answer(self) -> None:
        notification = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
        except OSError:  # the caller died; at the end of the last one the descriptor hangs up
            if _hung_up(self._listener):
                self.close()
            return
        number, pid, _, call, _ = struct.unpack_from("=QIIiI", notification)
        arguments = struct.unpack_from("=6Q", notification, 32)
        name = self._names.get(call, "")
        event = self._event_of(name, pid, arguments)
        if event is not None and len(self._events) < _MOST and self._still_waits(number):
            self._events[event] = None
        # INVARIANT: nothing continues that the first layer refuses without observation. Sockets are checked by the
        # first layer itself.
        continues = (
            name in OPENING
            or name in NAMING
            or (name in STARTING and self._programs)
            or (name == "socket" and self._profile.network is not None)
        )
        with suppress(OSError):  # it died meanwhile
            fcntl.ioctl(
                self._listener, _SEND, struct.pack("=QqiI", number, 0, *((0, _CONTINUE) if continues else (-EPERM, 0)))
            )

    def _still_waits(self, number: int) -> bool:
        """True if the caller still waits.

        INVARIANT: checked after its memory was read. Otherwise the memory may be that of another process with the same
        number.
        """
        try:
            fcntl.ioctl(self._listener, _IS_VALID, struct.pack("=Q", number))
        except OSError:
            return False
        return True

    def _event_of(self, name: str, pid: int, arguments: tuple[int, ...]) -> _Event | None:
        if name == "socket":
            return _Event(name=name, flags=arguments[0])
        if name not in _PLACES:
            return _Event(name=name)
        places = _PLACES[name]
        flags = next((arguments[at] for _, _, at in places if at is not None), os.O_WRONLY)
        try:
            paths = tuple(
                _path(pid, _HERE if folder is None else _signed(arguments[folder]), arguments[at])
                for folder, at, _ in places
            )
        except OSError:
            return None
        return _Event(name=name, paths=paths, flags=flags)


class _Places:
    """Maps the paths of system calls to the names that the decision uses."""

    def __init__(
        self, profile: Profile, boundary: Mapping[str, Json], layout: Mapping[str, Json], links: Iterable[str]
    ) -> None:
        self._profile = profile
        self._root: str = boundary["root"]
        self._scratch: str = boundary["scratch"]
        self._mirrored: bool = layout["mirrored"]
        self._reads = {*layout["reads"], *(name.removesuffix("/**") for name in profile.reads)}
        self._sets = [name for name in profile.reads if name.endswith("**")]
        self._runtime = [*readable(boundary), *links, "/dev/zero", "/dev/urandom"]
        # Folders where an interpreter looks for its own files before it finds them.
        parts = (*boundary["runtime"], *boundary["packages"].values())
        self._beside = [folder for folder in map(os.path.dirname, parts) if folder != "/"]
        self._own = [boundary["temporary"], "/dev/null", *([] if self._mirrored else [self._scratch])]
        self._left: dict[str, None] = {}  # names in scratch that were not granted and still exist

    def seen(self, event: _Event) -> tuple[ObservedAccess, ...]:
        if event.name == "socket":
            return (
                ()
                if self._profile.network is not None
                else (ObservedAccess(doing="connect", what=_family(event.flags), decided=False),)
            )
        if event.name in FORKING:
            return (ObservedAccess(doing="start", what="a process", decided=False),)
        if event.name in STARTING:
            program = os.path.basename(event.paths[0])
            return (ObservedAccess(doing="start", what=program, decided=program in self._profile.executables),)
        if event.name in OPENING:
            if event.flags & _GUEST_FLAGS == _GUEST_FLAGS:
                return ()
            writes = bool(event.flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            return self._file(event.paths[0], writes=writes, reads=not event.flags & os.O_WRONLY)
        if event.name.startswith("mkdir") and self._name(event.paths[0])[1]:
            return ()  # only files are saved from scratch
        accesses = tuple(item for path in event.paths for item in self._file(path, writes=True, reads=False))
        if event.name.startswith(("rename", "unlink", "rmdir")):
            self._left.pop(self._name(event.paths[0])[0], None)
        return accesses

    def left(self) -> tuple[ObservedAccess, ...]:
        """Files left in scratch that were not granted. The broker does not save them."""
        return tuple(ObservedAccess(doing="write", what=name, decided=False, inside=True) for name in self._left)

    def _name(self, path: str) -> tuple[str, bool]:
        """The name in the working folder, and True if the path is the copy in scratch.

        The name is "" for a path elsewhere.
        """
        if _beneath(path, [self._root]):
            return os.path.relpath(path, self._root), False
        if self._mirrored and _beneath(path, [self._scratch]):
            return os.path.relpath(path, self._scratch), True
        return "", False

    def _file(self, path: str, *, writes: bool, reads: bool) -> tuple[ObservedAccess, ...]:
        if _beneath(path, self._own):
            return ()
        name, copied = self._name(path)
        if not name:
            if not writes and _beneath(path, [*self._runtime, *self._beside]):
                return ()
            return (ObservedAccess(doing="write" if writes else "read", what=path, decided=False),)
        if any(_beneath(name, [f"stores/{store}"]) for store in self._profile.stores):
            return (ObservedAccess(doing="write" if writes else "read", what=name, decided=True, inside=True),)
        if any(_beneath(name, [f"stores/{store}"]) for store in self._profile.read_stores):
            return (ObservedAccess(doing="write" if writes else "read", what=name, decided=not writes, inside=True),)
        accesses: list[ObservedAccess] = []
        if writes and not self._is_scratch_only(name, copied):
            accesses.append(ObservedAccess(doing="write", what=name, decided=name in self._profile.writes, inside=True))
        if reads and not self._reads_nothing(name, copied):
            accesses.append(ObservedAccess(doing="read", what=name, decided=self._may_read(name), inside=True))
        return tuple(accesses)

    def _is_scratch_only(self, name: str, copied: bool) -> bool:
        """True for a file that only exists in scratch, such as one that is renamed to a granted name when complete."""
        if not copied or name in self._profile.writes:
            return False
        if name != "." and not any(_beneath(granted, [name]) for granted in self._profile.writes):
            self._left[name] = None
        return True

    def _reads_nothing(self, name: str, copied: bool) -> bool:
        """True if reading it gives nothing of the working folder: the file does not exist, or only exists in scratch."""
        if self._may_read(name):
            return False
        real = f"{self._profile.root}/{name}"
        if copied:
            return name in self._profile.writes or name in self._left or not os.path.isfile(real)
        return not os.path.lexists(real)

    def _may_read(self, name: str) -> bool:
        return (
            name in self._reads
            or covered(self._sets, name)
            or any(covered([item], f"{name}/**") for item in self._sets)
        )


def _path(pid: int, folder: int, address: int) -> str:
    """The path in the memory of the process, absolute and without `..`. Symlinks are not resolved."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        raw = os.pread(memory.fileno(), _LONGEST_PATH, address).partition(b"\0")[0]
    name = os.fsdecode(raw)
    if not name.startswith("/"):
        name = os.path.join(os.readlink(f"/proc/{pid}/{'cwd' if folder == _HERE else f'fd/{folder}'}"), name)
    return os.path.normpath(name)


def _signed(value: int) -> int:
    """A descriptor as a signed number: the low 32 bits, as the kernel reads them."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _hung_up(listener: int) -> bool:
    poll = select.poll()
    poll.register(listener, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _family(number: int) -> str:
    try:
        return f"a socket of {socket.AddressFamily(number).name}"
    except ValueError:
        return f"a socket of family {number}"


def _names(answer: bytes | None, key: str) -> tuple[str, ...]:
    """A list of names that the process itself reports. It is untrusted, so anything else gives none."""
    try:
        frame = parse_json((answer or b"{}").decode())
        names: Json = cast("dict[str, Json]", frame).get(key, [])
        return tuple(name for name in cast("list[object]", names) if isinstance(name, str))
    except (UnicodeDecodeError, Refusal, AttributeError, TypeError):
        return ()


def _beneath(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)
