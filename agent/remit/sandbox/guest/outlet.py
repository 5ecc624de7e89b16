"""The network listener of a sandbox, served by the proxy outside, and the connections of a tool to it.

Standard library only. The listener is made before code of the tool runs, and no process inside keeps it.

With namespaces, it is made inside of the network namespace: a socket belongs to the namespace in which it was made, so the
proxy can accept connections from inside while the namespace has no other way out. Without them, it is on the loopback
interface of this machine. Then no process of the tool connects at all: Landlock refuses it, and a filter sends each `connect`
to a process that runs no code of the tool. That process makes a connection of its own, always to the proxy, and puts it in
place of the socket.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel, notices
else:
    import kernel
    import notices

# The variables by which HTTP libraries find the certificates to trust.
_ROOTS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_BACKLOG = 64
_CONNECT_SECONDS = 1.0  # the proxy is on this machine and accepts at once


def hand_out(network: dict[str, Any], folder: str) -> None:
    """Send the listener to the broker, and write the file of certificates that the tool has to trust.

    `network["roots"]` is the descriptor to read them from, and is replaced by the path of the file. `network["port"]` is 0 for a free
    port, and is replaced by it.
    """
    with socket.socket(fileno=network["line"]) as line, socket.socket() as listener:
        listener.bind(("127.0.0.1", network["port"]))
        listener.listen(_BACKLOG)
        network["port"] = listener.getsockname()[1]
        socket.send_fds(line, [b"listening"], [listener.fileno()])
    roots = os.path.join(folder, "roots.pem")
    with open(network["roots"], "rb") as given, open(roots, "wb") as file:
        file.write(given.read())
    os.chmod(roots, 0o444)
    network["roots"] = roots
    os.environ.update(dict.fromkeys(_ROOTS, roots))


def connect(process: int, thread: int, arguments: tuple[int, ...], source: str, port: int) -> int:
    """Make the connection that a process asked for by `connect`, to the proxy only, from the address of its call.

    An errno, or 0.

    The supervisor connects in its place, instead of letting the call continue: the process could change the address in
    its memory after it was checked. The address is read once. The socket is a copy of its descriptor, so it cannot be
    swapped either.
    """
    descriptor, address, size, *_ = arguments
    try:
        if not _names_proxy(thread, address, size, port):
            return errno.EACCES
        connection = socket.socket(fileno=kernel.copy_descriptor(process, descriptor & 0xFFFFFFFF))
    except OSError as failure:
        return failure.errno or errno.EPERM
    with connection:
        return _connect(connection, source, port)


def connect_instead(asked: notices.Notices, notice: notices.Notice, source: str, port: int) -> None:
    """Answer a `connect`: put a new connection to the proxy in place of the socket of the process, if it asked for the proxy.

    INVARIANT: what the process could change after the look at its memory decides nothing. This process always connects to the same
    address, and the kernel installs the connection only in the process that waits for this answer.
    """
    descriptor, address, size, *_ = notice.arguments
    number = descriptor & 0xFFFFFFFF
    try:
        if not _names_proxy(notice.thread, address, size, port):
            asked.refuse(notice, errno.EACCES)
            return
        flags = _socket_flags(notice.thread, number)
        with socket.socket() as connection:
            if code := _connect(connection, source, port):
                asked.refuse(notice, code)
                return
            connection.setblocking(not flags & os.O_NONBLOCK)
            asked.install_descriptor(notice, connection.fileno(), number, on_exec=flags & os.O_CLOEXEC)
    except OSError as failure:
        asked.refuse(notice, failure.errno or errno.EPERM)
    else:
        asked.answer(notice, 0)


def answer_until_ended(listener: int, process: int, port: int) -> None:
    """Answer every `connect` of the process and of its threads, until it ends."""
    asked, ended, poll = notices.Notices(listener), os.pidfd_open(process), select.poll()
    for descriptor in (ended, listener):
        poll.register(descriptor, select.POLLIN)
    while ended not in (ready := [descriptor for descriptor, _ in poll.poll()]):
        if ready and (notice := asked.receive()) is not None:
            with suppress(OSError):  # it was killed meanwhile
                connect_instead(asked, notice, "127.0.0.1", port)


def _names_proxy(thread: int, address: int, size: int, port: int) -> bool:
    """True if the memory of the process has the address of the proxy there. It is read once."""
    target = kernel.read_memory(thread, address, min(size, 16))
    return target[:8] == struct.pack("=H", socket.AF_INET) + struct.pack("!H4B", port, 127, 0, 0, 1)


def _socket_flags(thread: int, number: int) -> int:
    """The flags with which a socket of another process is open. Raises OSError for anything but a socket."""
    if not stat.S_ISSOCK(os.stat(f"/proc/{thread}/fd/{number}").st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    with open(f"/proc/{thread}/fdinfo/{number}") as file:
        lines = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    return int(lines["flags"], 8)


def _connect(connection: socket.socket, source: str, port: int) -> int:
    if connection.family != socket.AF_INET:
        return errno.EACCES
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    blocks = not flags & os.O_NONBLOCK
    try:
        if connection.getsockname()[0] != source:
            connection.bind((source, 0))
        connection.setblocking(False)  # one process must not block the supervisor, which serves all calls
        code = connection.connect_ex(("127.0.0.1", port))
        if blocks and code == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            code = (
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if poll.poll(_CONNECT_SECONDS * 1000)
                else errno.ETIMEDOUT
            )
    except OSError as failure:
        return failure.errno or errno.EPERM
    finally:
        fcntl.fcntl(connection, fcntl.F_SETFL, flags)
    return code
