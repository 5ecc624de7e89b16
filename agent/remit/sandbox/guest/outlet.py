"""The one way out of a sandbox: a listener that is made inside its network namespace and served outside of it.

Standard library only. It runs before anything of the tool does, and nothing inside keeps the listener.
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

# What tells HTTP libraries whom to trust.
_ROOTS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_BACKLOG = 64
_SECONDS = 1.0  # in which the proxy takes a connection


def hand_out(network: dict[str, Any], folder: str) -> None:
    """Send the listener to the broker, and write down whom the tool has to trust.

    `network["roots"]` is the descriptor that it is read from, and becomes the file.
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
    """Do what a process asked for by `connect`: to the proxy, from its call's own address, and nowhere else; an errno, or 0.

    The address that it named is read once. The socket is the very one that it has, whatever it puts under that number meanwhile.
    """
    descriptor, address, size, *_ = arguments
    try:
        named = kernel.read_memory(thread, address, min(size, 16))
        if len(named) < 8 or named[:8] != struct.pack("=H", socket.AF_INET) + struct.pack("!H4B", port, 127, 0, 0, 1):
            return errno.EACCES
        line = socket.socket(fileno=kernel.copy_descriptor(process, descriptor & 0xFFFFFFFF))
    except OSError as failure:
        return failure.errno or errno.EPERM
    with line:
        return _connect(line, source, port)


def _connect(line: socket.socket, source: str, port: int) -> int:
    if line.family != socket.AF_INET:
        return errno.EACCES
    flags = fcntl.fcntl(line, fcntl.F_GETFL)
    waits = not flags & os.O_NONBLOCK
    try:
        if line.getsockname()[0] != source:
            line.bind((source, 0))
        line.setblocking(False)  # nothing that a tool asks for holds up the others
        code = line.connect_ex(("127.0.0.1", port))
        if waits and code == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(line, select.POLLOUT)
            code = (
                line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(_SECONDS * 1000) else errno.ETIMEDOUT
            )
    except OSError as failure:
        return failure.errno or errno.EPERM
    finally:
        fcntl.fcntl(line, fcntl.F_SETFL, flags)
    return code
