"""The side of the command: asks a running service, or says that this process has to do it by itself."""

from __future__ import annotations

import json
import os
import socket
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, cast

from remit.cli.local.forwarded import command_of
from remit.cli.local.peers import NotTrusted, connected_to, service_folder

MARKER: Final = "remit.toml"
SHOWN: Final = (
    "NO_COLOR",
    "COLUMNS",
    "LINES",
    "TERM",
)  # how the output looks; a service takes nothing else of the environment
LARGEST: Final = 128 * 1024  # bytes of a packet
INTERRUPT: Final = b"interrupt"


def answered_by_service(words: Sequence[str]) -> int | None:
    """The exit code of the command, once a service has executed it; None: there is no service for it, and nothing has happened."""
    if not command_of(words) or os.environ.get("REMIT_DEBUG") or not _is_utf8():
        return None
    root = _workspace()
    if root is None:
        return None
    try:
        with service_folder(root) as folder, connected_to(folder) as connection:
            return _ask(connection, root, words)
    except NotTrusted as failure:
        _print(f"warning: the service is not used: {failure}")
    except (OSError, ValueError):
        pass
    return None


def _ask(connection: socket.socket, root: str, words: Sequence[str]) -> int | None:
    place = os.stat(root)
    request = {
        "words": list(words),
        "workspace": [place.st_dev, place.st_ino],
        "shown": {name: os.environ[name] for name in SHOWN if name in os.environ},
    }
    sys.stdout.flush()
    sys.stderr.flush()
    files = array("i", [0, 1, 2])
    connection.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    first = _received(connection)
    if "refused" in first:
        _print(f"error: {first['refused']}")
        return 1
    if not first.get("begun"):
        return None
    # INVARIANT: from here on this process never does it by itself: it may have happened.
    connection.settimeout(None)  # it takes as long as the command
    while True:
        try:
            code = _received(connection).get("code")
            if isinstance(code, int):
                return code
            _print("error: the service ended before the command did; to see what happened: remit trace list")
            return 1
        except KeyboardInterrupt:
            connection.send(INTERRUPT)


def _received(connection: socket.socket) -> dict[str, Any]:
    """The next packet; empty at the end of the connection."""
    data = connection.recv(LARGEST)
    value: object = json.loads(data) if data else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _workspace() -> str | None:
    folder, above = os.getcwd(), ""
    while folder != above:
        if os.path.isfile(os.path.join(folder, MARKER)):
            return folder
        folder, above = os.path.dirname(folder), folder
    return None


def _print(line: str) -> None:
    """Print a line on standard error."""
    from remit.cli.output import echo

    echo(line, err=True)


def _is_utf8() -> bool:
    return all((stream.encoding or "").lower().replace("-", "") == "utf8" for stream in (sys.stdout, sys.stderr))
