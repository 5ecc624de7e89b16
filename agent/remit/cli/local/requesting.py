"""Sends one request to the service of a workspace on this machine. Only the standard library: hooks of coding agents have to be fast."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from remit.cli.local.peers import NotTrusted, peer_uid, place_in, service_folder

REQUESTS: Final = "requests"  # the name of the socket
PATIENCE_S: Final = 70.0  # the service answers within a minute
_LARGEST_ANSWER: Final = 4 << 20


class NotAnswered(Exception):
    """The service gives no answer, or none that can be read."""


def posted(root: Path, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that the service answers. The kernel shows it which account asks.

    Raises:
        NotAnswered: there is no service, or no complete answer.
        NotTrusted: what is at the place of its socket does not belong to the owner of the workspace.
    """
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    try:
        with service_folder(root) as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(place_in(folder, REQUESTS))
            if peer_uid(connection) not in (0, os.fstat(folder).st_uid):
                raise NotTrusted("the process that listens there is not one of the owner of the workspace")
            connection.sendall(head.encode() + data)
            received = _read(connection)
    except OSError as failure:
        why = failure.strerror or str(failure)
        raise NotAnswered(f"no service answers in {str(root)!r} ({why}): start it with `remit serve`") from None
    return _parsed(received)


def error_text(answer: Mapping[str, Any], status: int) -> str:
    """What an answer says that is an error, and what to do next."""
    error = answer.get("error")
    named = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    message, step = named.get("message") or f"the service answered with {status}", named.get("next_step")
    return f"{message}; {step}" if step else str(message)


def _read(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    read = 0
    while part := connection.recv(1 << 16):
        parts.append(part)
        read += len(part)
        if read > _LARGEST_ANSWER:
            raise NotAnswered("the answer of the service is too long")
    return b"".join(parts)


def _parsed(data: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    lengths = [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"content-length:")]
    if (
        len(parts) < 2
        or not parts[0].startswith(b"HTTP/1.")
        or not parts[1].isdigit()
        or lengths != [b"%d" % len(body)]
    ):
        raise NotAnswered("the answer of the service is not complete")
    value: object = json.loads(body)
    if not isinstance(value, dict):
        raise NotAnswered("the answer of the service is no JSON object")
    return int(parts[1]), cast("dict[str, Any]", value)
