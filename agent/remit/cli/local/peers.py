"""The folder of the socket, and who is at its other end. Each side checks the other one by what the kernel says."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

FOLDER: Final = ".remit/service"  # below the folder of the workspace
SOCKET: Final = "commands"
PATIENCE_S: Final = 5.0  # of each side, until the other one has said what it wants or that it begins
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERFLOW: Final = 65534  # what the kernel names in place of an account of another user namespace


class NotTrusted(Exception):
    """What is at that place does not belong to the owner of the workspace."""


def peer_uid(connected: socket.socket) -> int:
    """The account of the process that connected, or that listens (SO_PEERCRED of unix(7)).

    macOS answers LOCAL_PEERCRED of SOL_LOCAL with a `struct xucred` (its unix(4) and <sys/ucred.h>): version 0, then the account.
    """
    if sys.platform == "darwin":
        version, own = struct.unpack_from("=II", connected.getsockopt(0, 1, 76))
        if version:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        return int(own)
    _, uid, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def is_overflow(uid: int) -> bool:
    """True for the number that stands for every account that this user namespace does not have, as those of a container."""
    try:
        overflow = int(_text("/proc/sys/kernel/overflowuid"))
    except (OSError, ValueError):
        overflow = _OVERFLOW
    return uid in (overflow, _OVERFLOW) or uid < 0


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


@contextmanager
def service_folder(root: str | os.PathLike[str]) -> Generator[int]:
    """The folder of the socket, open. Raises FileNotFoundError without a service, and NotTrusted for the folder of another account.

    INVARIANT: it is opened once. What is checked and what is used afterwards, through its descriptor, is the same folder.
    """
    place = f"{os.fspath(root)}/{FOLDER}"
    try:
        folder = os.open(place, _OPEN)
    except (FileNotFoundError, PermissionError):
        raise FileNotFoundError(FOLDER) from None
    except OSError as failure:
        raise NotTrusted(f"{place} is no folder: {failure.strerror}") from None
    try:
        if not _is_of_owner_alone(os.fstat(folder), os.stat(root).st_uid):
            raise NotTrusted(f"{place} does not belong to the owner of the workspace alone")
        yield folder
    finally:
        os.close(folder)


def _is_of_owner_alone(folder: os.stat_result, owner: int) -> bool:
    return folder.st_uid in (0, owner) and not stat.S_IMODE(folder.st_mode) & 0o022


def _is_socket_of(found: os.stat_result, owner: int) -> bool:
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == owner


def place_in(folder: int, name: str = SOCKET) -> str:
    """The path of the socket in an open folder: short enough for a socket, and of that very folder.

    macOS has no path of a descriptor. There it is the folder's present path, which its account and root alone can change.
    """
    if sys.platform == "darwin":
        return f"{os.fsdecode(fcntl.fcntl(folder, fcntl.F_GETPATH, bytes(1024)).rstrip(bytes(1)))}/{name}"
    return f"/proc/self/fd/{folder}/{name}"


def connected_to(folder: int) -> socket.socket:
    """A connection to the service. Raises OSError without one that accepts it, and NotTrusted for another account's."""
    found = os.stat(SOCKET, dir_fd=folder, follow_symlinks=False)
    owner = os.fstat(folder).st_uid
    if not _is_socket_of(found, owner):
        raise NotTrusted(f"the socket of the service does not belong to the account {owner}")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(PATIENCE_S)  # a listener that accepts nothing must not hold up the command
    try:
        connection.connect(place_in(folder))
        if peer_uid(connection) not in (0, owner):
            raise NotTrusted(f"the process that listens there is not one of the account {owner}")
    except BaseException:
        connection.close()
        raise
    return connection
