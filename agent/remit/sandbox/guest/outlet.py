"""The network listener of a sandbox: made inside its network namespace, and served by the proxy outside.

Standard library only. A socket belongs to the namespace in which it was made, so the proxy can accept connections from
inside while the namespace has no other way out. This runs before code of the tool, and no process inside keeps the
listener.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel
else:
    import kernel

# The variables by which HTTP libraries find the certificates to trust.
_ROOTS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_BACKLOG = 64
_CONNECT_SECONDS = 1.0  # the proxy is on this machine and accepts at once


def hand_out(network: dict[str, Any], folder: str) -> None:
    """Send the listener to the broker, and write the file of certificates that the tool has to trust.

    `network["roots"]` is the descriptor to read them from, and is replaced by the path of the file.
    """
    with socket.socket(fileno=network["line"]) as line, socket.socket() as listener:
        listener.bind(("127.0.0.1", network["port"]))
        listener.listen(_BACKLOG)
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
        target = kernel.read_memory(thread, address, min(size, 16))
        if len(target) < 8 or target[:8] != struct.pack("=H", socket.AF_INET) + struct.pack("!H4B", port, 127, 0, 0, 1):
            return errno.EACCES
        connection = socket.socket(fileno=kernel.copy_descriptor(process, descriptor & 0xFFFFFFFF))
    except OSError as failure:
        return failure.errno or errno.EPERM
    with connection:
        return _connect(connection, source, port)


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
