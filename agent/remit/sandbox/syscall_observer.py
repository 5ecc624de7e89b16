"""What one call really does, as the kernel asks the broker about it: files, names, programs, sockets.

The call runs in the sandbox of any other call; only its second filter asks before what a manifest has a word for. The answer
is what the filter itself would have said, so the tool meets what it meets in a run.

Every system call of the tool and of all it starts is seen, whoever makes it: Python, a C library, a program. What is not: what
C code reads from the environment, which no system call does; and what a tool hides on purpose, as it can swap a name in its
memory after it was looked at. The sandbox holds that one too; this only reports.
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
_STILL_THERE: Final = 0x40082102  # SECCOMP_IOCTL_NOTIF_ID_VALID
_GO_ON: Final = 1
_HERE: Final = -100  # AT_FDCWD
_LONGEST_PATH: Final = 4096
_MOST: Final = 100_000  # of what one call did, written down; it goes on being answered
_OWN_LOOK: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # how `onecall` collects what was written

# Where a call's paths stand: (folder's descriptor or None, path, flags or None) of each. A name that is made or unmade is written.
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
    """One thing that a call reached for, whether it got it or not.

    `what` is a file or folder of the working folder by its name there, else a whole path; a program's name; a kind of socket.
    `decided`: the decision, or the manifest, grants it. `inside`: it lies in the working folder.
    """

    doing: Doing
    what: str
    decided: bool
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All that one call reached for. `variables` are those that it was given and read, `lacking` those that its own lines asked
    for in vain; only Python code tells them."""

    seen: tuple[ObservedAccess, ...] = ()
    variables: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Event:
    name: str
    paths: tuple[str, ...] = ()
    flags: int = 0


class Observer:
    """Answers the filter of one call, and keeps what it asked about."""

    def __init__(self, profile: Profile, runtime: Runtime) -> None:
        self.seen = Observed()
        self._profile = profile
        self._links = [path for _, path in runtime.links]
        self._programs = bool(profile.executables)
        self._listener = -1
        self._events: dict[_Event, None] = {}  # in order, each once
        column = 0 if this_machine() == "x86_64" else 1
        watched = {**OPENING, **STARTING, **FORKING, **NAMING, "socket": CONDITIONAL["socket"]}
        self._names = {numbers[column]: name for name, numbers in watched.items()}

    def take(self, listener: int) -> None:
        """Answer what comes there from now on."""
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._answer)

    def close(self) -> None:
        """Whatever still asks is refused from now on."""
        if self._listener >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            os.close(self._listener)
            self._listener = -1

    def end(self, boundary: Mapping[str, Json], layout: Mapping[str, Json], answer: bytes | None) -> None:
        """The call is over: `seen` is whole."""
        place = _Places(self._profile, boundary, layout, self._links)
        found: dict[ObservedAccess, None] = {}
        for event in self._events:
            found.update(dict.fromkeys(place.seen(event)))
        found.update(dict.fromkeys(place.left()))
        variables, lacking = (_names(answer, key) for key in ("variables", "lacking"))
        self.seen = Observed(seen=tuple(found), variables=variables, lacking=lacking)

    def _answer(self) -> None:
        asked = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, asked)
        except OSError:  # who asked has died; where nobody is left, nothing comes any more
            if _hung_up(self._listener):
                self.close()
            return
        number, pid, _, call, _ = struct.unpack_from("=QIIiI", asked)
        arguments = struct.unpack_from("=6Q", asked, 32)
        name = self._names.get(call, "")
        event = self._understood(name, pid, arguments)
        if event is not None and len(self._events) < _MOST and self._still_there(number):
            self._events[event] = None
        # INVARIANT: nothing that the first layer would have refused; of sockets it lets only the right ones come this far.
        goes_on = (
            name in OPENING
            or name in NAMING
            or (name in STARTING and self._programs)
            or (name == "socket" and self._profile.network is not None)
        )
        with suppress(OSError):  # it died meanwhile
            fcntl.ioctl(
                self._listener, _SEND, struct.pack("=QqiI", number, 0, *((0, _GO_ON) if goes_on else (-EPERM, 0)))
            )

    def _still_there(self, number: int) -> bool:
        """INVARIANT: asked after its memory was read, or that may have been another process's under the same number."""
        try:
            fcntl.ioctl(self._listener, _STILL_THERE, struct.pack("=Q", number))
        except OSError:
            return False
        return True

    def _understood(self, name: str, pid: int, arguments: tuple[int, ...]) -> _Event | None:
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
    """Turns what a call named into what its decision has a word for."""

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
        # Where an interpreter looks for its own parts before it finds them.
        parts = (*boundary["runtime"], *boundary["packages"].values())
        self._beside = [folder for folder in map(os.path.dirname, parts) if folder != "/"]
        self._own = [boundary["temporary"], "/dev/null", *([] if self._mirrored else [self._scratch])]
        self._left: dict[str, None] = {}  # undecided names in scratch that are still there

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
            if event.flags & _OWN_LOOK == _OWN_LOOK:
                return ()
            writes = bool(event.flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            return self._file(event.paths[0], writes=writes, reads=not event.flags & os.O_WRONLY)
        if event.name.startswith("mkdir") and self._name(event.paths[0])[1]:
            return ()  # only files are put in place
        found = tuple(one for path in event.paths for one in self._file(path, writes=True, reads=False))
        if event.name.startswith(("rename", "unlink", "rmdir")):
            self._left.pop(self._name(event.paths[0])[0], None)
        return found

    def left(self) -> tuple[ObservedAccess, ...]:
        """What it would have put into the working folder beside what was decided; the broker drops it."""
        return tuple(ObservedAccess(doing="write", what=name, decided=False, inside=True) for name in self._left)

    def _name(self, path: str) -> tuple[str, bool]:
        """Its name in the working folder, and whether that is scratch's copy of it; "" for what lies elsewhere."""
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
        found: list[ObservedAccess] = []
        if writes and not self._own_scratch(name, copied):
            found.append(ObservedAccess(doing="write", what=name, decided=name in self._profile.writes, inside=True))
        if reads and not self._nothing_to_read(name, copied):
            found.append(ObservedAccess(doing="read", what=name, decided=self._may_read(name), inside=True))
        return tuple(found)

    def _own_scratch(self, name: str, copied: bool) -> bool:
        """A file of its own beside the decided ones, such as one that is renamed to its place when it is whole."""
        if not copied or name in self._profile.writes:
            return False
        if name != "." and not any(_beneath(one, [name]) for one in self._profile.writes):
            self._left[name] = None
        return True

    def _nothing_to_read(self, name: str, copied: bool) -> bool:
        """Looking for what is not there is no use; nor is scratch's own."""
        if self._may_read(name):
            return False
        real = f"{self._profile.root}/{name}"
        if copied:
            return name in self._profile.writes or name in self._left or not os.path.isfile(real)
        return not os.path.lexists(real)

    def _may_read(self, name: str) -> bool:
        return (
            name in self._reads or covered(self._sets, name) or any(covered([one], f"{name}/**") for one in self._sets)
        )


def _path(pid: int, folder: int, address: int) -> str:
    """The path that the process names, whole and without `..`; symlinks are as it sees them."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        raw = os.pread(memory.fileno(), _LONGEST_PATH, address).partition(b"\0")[0]
    name = os.fsdecode(raw)
    if not name.startswith("/"):
        name = os.path.join(os.readlink(f"/proc/{pid}/{'cwd' if folder == _HERE else f'fd/{folder}'}"), name)
    return os.path.normpath(name)


def _signed(value: int) -> int:
    """A descriptor's number: the low 32 bits, as the kernel reads them."""
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
    """What the process says of itself."""
    try:
        frame = parse_json((answer or b"{}").decode())
        named: Json = cast("dict[str, Json]", frame).get(key, [])
        return tuple(name for name in cast("list[object]", named) if isinstance(name, str))
    except (UnicodeDecodeError, Refusal, AttributeError, TypeError):
        return ()


def _beneath(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)
