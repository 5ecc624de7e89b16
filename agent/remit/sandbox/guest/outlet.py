"""The one way out of a sandbox: a listener that is made inside its network namespace and served outside of it.

Standard library only. It runs before anything of the tool does, and nothing inside keeps the listener.
"""

from __future__ import annotations

import os
import socket
from typing import Any

# What tells HTTP libraries whom to trust.
_ROOTS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
_BACKLOG = 64


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
