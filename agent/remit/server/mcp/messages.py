"""Messages of a client, parsed strictly before the library sees them.

The library takes the last of two values under one key. Here a text that two readers could read differently is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from remit.core import Json, Refusal
from remit.core.parsing import parse_json

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
LONGEST_ID: Final = 200  # characters


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The answer to a message that is refused, as JSON-RPC 2.0 writes it."""

    body: dict[str, Json]


def checked(data: bytes) -> dict[str, Any] | Refused:
    """The message, or why it is refused. Its size is bounded by who has read it."""
    try:
        message = parse_json(data.decode())
    except UnicodeDecodeError as failure:
        return refused(PARSE_ERROR, "the message is not UTF-8", {"at": failure.start})
    except Refusal as refusal:
        code = PARSE_ERROR if refusal.details.get("problem") == "not_json" else INVALID_REQUEST
        return refused(code, f"the message is refused: {refusal.message}", dict(refusal.details))
    if not isinstance(message, dict):
        return refused(INVALID_REQUEST, "a message is one JSON object")
    found = cast("dict[str, Any]", message)
    id = found.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int | None) or (isinstance(id, str) and len(id) > LONGEST_ID):
        return refused(INVALID_REQUEST, f"an id is a number, or a text of at most {LONGEST_ID} characters")
    return found


def refused(code: int, message: str, details: dict[str, Json] | None = None) -> Refused:
    error: dict[str, Json] = {"code": "invalid_request", "message": message, "details": details or {}}
    body: dict[str, Json] = {"code": code, "message": message, "data": {"ok": False, "error": error}}
    return Refused(body={"jsonrpc": "2.0", "id": None, "error": body})
