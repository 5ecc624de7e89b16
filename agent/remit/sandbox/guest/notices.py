"""What a filter of system calls asks about, and the answers: the kernel waits with the caller until it is told.

Standard library only. What stands in a notice is the kernel's word. What a pointer in it leads to is the caller's, and may change.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from dataclasses import dataclass

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, of 80 bytes
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND, of 24 bytes
_ADD = 0x40182103  # SECCOMP_IOCTL_NOTIF_ADDFD, of 24 bytes
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_AT_NUMBER = 1  # SECCOMP_ADDFD_FLAG_SETFD


@dataclass(frozen=True)
class Notice:
    """One system call that waits for its answer; `thread` makes it."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]


class Notices:
    """The line on which one filter asks."""

    def __init__(self, listener: int) -> None:
        self.descriptor = listener

    def receive(self) -> Notice | None:
        """The next one; None where its caller is gone."""
        data = bytearray(80)
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, data)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        id_, thread, _ = struct.unpack_from("=QII", data)
        number, _, _, *arguments = struct.unpack_from("=iIQ6Q", data, 16)
        return Notice(id_, thread, number, tuple(arguments))

    def let_continue(self, notice: Notice) -> bool:
        """Let it happen; whether its caller is still there."""
        return self._send(notice, 0, 0, _GO_ON)

    def refuse(self, notice: Notice, code: int) -> bool:
        return self._send(notice, 0, -code, 0)

    def answer(self, notice: Notice, value: int) -> bool:
        """It does not happen, and its caller reads `value`."""
        return self._send(notice, value, 0, 0)

    def install_descriptor(self, notice: Notice, descriptor: int, number: int) -> None:
        """Open it in the calling process too, under that number, in the place of what is there."""
        fcntl.ioctl(self.descriptor, _ADD, struct.pack("=QIIII", notice.id, _AT_NUMBER, descriptor, number, 0))

    def _send(self, notice: Notice, value: int, code: int, flags: int) -> bool:
        try:
            fcntl.ioctl(self.descriptor, _SEND, bytearray(struct.pack("=QqiI", notice.id, value, code, flags)))
        except OSError as failure:
            if failure.errno == errno.ENOENT:
                return False
            raise
        return True
