"""Seccomp user notifications: a filter holds a system call until this process answers it.

Standard library only. The numbers and arguments in a notification come from the kernel and can be relied on. What a
pointer argument points to is memory of the caller, which can change at any time.
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
    """One system call that waits for its answer.

    `thread` is the caller, `number` the call, `id` the kernel's name of the notification.
    """

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]


class Notices:
    """The listener of one filter."""

    def __init__(self, listener: int) -> None:
        self.descriptor = listener

    def receive(self) -> Notice | None:
        """The next notification; None if its caller is gone."""
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
        """Let the kernel run the system call; False if its caller is gone."""
        return self._send(notice, 0, 0, _GO_ON)

    def refuse(self, notice: Notice, code: int) -> bool:
        """Fail the system call with that errno; False if its caller is gone."""
        return self._send(notice, 0, -code, 0)

    def answer(self, notice: Notice, value: int) -> bool:
        """Return `value` to the caller without running the system call; False if its caller is gone."""
        return self._send(notice, value, 0, 0)

    def install_descriptor(self, notice: Notice, descriptor: int, number: int, *, on_exec: int = 0) -> None:
        """Install a copy of the descriptor in the caller under that number; what is open there is closed.

        `on_exec` is O_CLOEXEC if the copy is closed when the caller starts a program.

        Raises:
            OSError: the caller is gone, or has no free descriptor.
        """
        fcntl.ioctl(self.descriptor, _ADD, struct.pack("=QIIII", notice.id, _AT_NUMBER, descriptor, number, on_exec))

    def _send(self, notice: Notice, value: int, code: int, flags: int) -> bool:
        try:
            fcntl.ioctl(self.descriptor, _SEND, bytearray(struct.pack("=QqiI", notice.id, value, code, flags)))
        except OSError as failure:
            if failure.errno == errno.ENOENT:
                return False
            raise
        return True
