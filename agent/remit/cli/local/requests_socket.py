"""The socket by which programs of this machine send requests to the service: hooks of coding agents do."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from remit.cli.local.peers import is_overflow, peer_uid, place_in, service_folder
from remit.cli.local.requesting import REQUESTS
from remit.core import UsageError

_WAITING: Final = 128


@contextmanager
def requests_socket(root: Path) -> Generator[socket.socket]:
    """A socket in the folder of the service that `local_commands` has made, with its group. Raises UsageError if that is not possible."""
    try:
        with service_folder(root) as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            of_folder = os.fstat(folder)
            with suppress(FileNotFoundError):
                os.unlink(REQUESTS, dir_fd=folder)
            listener.bind(place_in(folder, REQUESTS))
            # INVARIANT: who may enter the folder may connect, and nobody else: so the group of the folder is that of the socket.
            os.chown(REQUESTS, -1, of_folder.st_gid, dir_fd=folder)
            os.chmod(REQUESTS, 0o660 if of_folder.st_mode & 0o050 else 0o600, dir_fd=folder)
            listener.listen(_WAITING)
            yield listener
            with suppress(OSError):
                os.unlink(REQUESTS, dir_fd=folder)
    except OSError as failure:
        raise UsageError(f"cannot listen in the folder of the service: {failure.strerror or failure}") from failure


def account_at(connected: socket.socket) -> str:
    """The account at the other end; "" for one that this machine does not name."""
    from remit.workspace import account_of

    uid = peer_uid(connected)
    return "" if is_overflow(uid) else account_of(uid)
