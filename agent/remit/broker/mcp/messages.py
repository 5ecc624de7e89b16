"""One JSON-RPC 2.0 message of a server, read strictly: what two readers could read differently ends the server.

https://modelcontextprotocol.io/specification/2025-11-25/basic and https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from remit.core import Json, Refusal
from remit.core.parsing import parse_json

METHOD_NOT_FOUND: Final = -32601
UNSUPPORTED_VERSION: Final = -32022
_LONGEST_TEXT: Final = 2_000


class NotMcp(Exception):
    """The server wrote something that is no message of MCP."""


class ServerError(Exception):
    """The server answered a request with an error. `code` is that of JSON-RPC, and `data` what else it says."""

    def __init__(self, code: int, message: str, data: Mapping[str, Json] | None = None) -> None:
        self.code = code
        self.data = data or {}
        super().__init__(message[:_LONGEST_TEXT])


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message of the server. `method` is "" for a response, `id` None for a notification.

    `result` is that of a response; `error` is its error, None if it has none.
    """

    method: str = ""
    id: int | str | None = None
    params: Mapping[str, Json]
    result: Mapping[str, Json]
    error: ServerError | None = None


def members(value: Json) -> Mapping[str, Json]:
    """The members of an object; none of any other value."""
    return cast("dict[str, Json]", value) if isinstance(value, dict) else {}


def request(number: int, method: str, params: Mapping[str, Json]) -> bytes:
    return _line({"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)})


def notification(method: str, params: Mapping[str, Json] | None = None) -> bytes:
    return _line({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": dict(params)})})


def response(number: int | str, result: Mapping[str, Json]) -> bytes:
    return _line({"jsonrpc": "2.0", "id": number, "result": dict(result)})


def refusal(number: int | str, message: str) -> bytes:
    return _line({"jsonrpc": "2.0", "id": number, "error": {"code": METHOD_NOT_FOUND, "message": message}})


def _line(value: Mapping[str, Json]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def read_message(line: bytes) -> Message:
    """The message in one line.

    Raises:
        NotMcp: it is not one message of JSON-RPC 2.0, or it can be read in two ways.
    """
    try:
        value: Json = parse_json(line.decode("utf-8"), longest=len(line))
    except (UnicodeDecodeError, Refusal) as failure:
        raise NotMcp(f"a line that is not JSON: {failure}") from failure
    if not isinstance(value, dict):
        raise NotMcp("a line that is not a message of JSON-RPC 2.0")
    fields = cast("dict[str, Json]", value)
    method, number = fields.get("method", ""), fields.get("id")
    if fields.get("jsonrpc") != "2.0" or not isinstance(method, str) or not _is_id(number):
        raise NotMcp("a line that is not a message of JSON-RPC 2.0")
    result, error = fields.get("result", {}), fields.get("error")
    if not method and (number is None or ("result" in fields) is ("error" in fields)):
        if number is None and isinstance(error, dict):  # of a request that the server could not read
            raise NotMcp(f"an error of a request without a number: {_error(error)}")
        raise NotMcp("a response without one result")
    params = fields.get("params", {})
    if not isinstance(params, dict) or not isinstance(result, dict):
        raise NotMcp("a message whose parameters, or whose result, are no object")
    return Message(
        method=method,
        id=cast("int | str | None", number),
        params=cast("dict[str, Json]", params),
        result=cast("dict[str, Json]", result),
        error=None if error is None else _error(error),
    )


def _is_id(value: Json) -> bool:
    return value is None or (isinstance(value, (int, str)) and not isinstance(value, bool))


def _error(value: Json) -> ServerError:
    fields = cast("dict[str, Json]", value) if isinstance(value, dict) else {}
    code, message = fields.get("code"), fields.get("message")
    words = message if isinstance(message, str) else ""
    return ServerError(code if isinstance(code, int) else 0, words, members(fields.get("data")))
