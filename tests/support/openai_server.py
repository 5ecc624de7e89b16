"""An OpenAI-compatible chat-completions server on loopback, for tests: it answers with a list of turns.

It uses the real wire format (server-sent events, tool calls in fragments, a usage chunk). It refuses what OpenAI refuses, with
OpenAI's status and messages: tool names outside the pattern, calls without answers, answers without calls.

    with OpenAIServer([Reply(calls=[("files__read", '{"path": "a.md"}')]), Reply(text="done")]) as server:
        ... OPENAI_BASE_URL=server.base_url OPENAI_API_KEY=any ...
    server.requests   # the bodies of the requests
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from support.model_server import ModelServer

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. `calls` are (name, raw argument text), streamed in fragments of `fragment` characters.

    `cut` streams only that many characters of the last call's arguments (or of the text) and finishes with "length".
    `ending` "silent" leaves the finish reason out; "broken" drops the connection in the middle.
    `status` other than 200 answers with that error instead.
    """

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()
    ids: Sequence[str] | None = None
    indexes: Sequence[int | None] | None = None
    cut: int | None = None
    finish: str | None = None
    ending: Literal["whole", "silent", "broken"] = "whole"
    fragment: int = 5
    status: int = 200
    message: str = "the server had an error"


@dataclass
class OpenAIServer(ModelServer):
    """Answers with the turns in order. Requests that are refused take no turn."""

    turns: Sequence[Reply]
    key: str | None = None  # the only key accepted; None accepts any
    model: str = "any-2026-11-01"
    requests: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    _played: int = field(default=0, init=False)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    @property
    def played(self) -> int:
        """How many turns have been sent."""
        return self._played

    def next_turn(self) -> tuple[int, Reply] | None:
        with self._lock:
            if self._played >= len(self.turns):
                return None
            self._played += 1
            return self._played - 1, self.turns[self._played - 1]


class Invalid(Exception):
    """A request that OpenAI refuses."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        self.status, self.param, self.code = status, param, code
        super().__init__(message)


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small chunks: each would wait 40 ms for the last one's acknowledgement

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read results, not logs."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            if self.path != "/v1/chat/completions":
                raise Invalid(f"Invalid URL (POST {self.path})", status=404)
            scheme, _, key = self.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or not key or self.owner.key not in (None, key):
                raise Invalid("Incorrect API key provided.", status=401, code="invalid_api_key")
            try:
                body = json.loads(raw)
            except ValueError:
                raise Invalid("We could not parse the JSON body of your request.") from None
            validate(body)
            taken = self.owner.next_turn()
            if taken is None:
                raise Invalid("the test has no more turns")
            number, turn = taken
            self.owner.requests.append(body)
            if turn.status != 200:
                raise Invalid(turn.message, status=turn.status)
        except Invalid as refusal:
            self.owner.refusals.append(str(refusal))
            error = {"message": str(refusal), "type": "invalid_request_error", "param": refusal.param}
            self._json(refusal.status, {"error": {**error, "code": refusal.code}})
            return
        usage = {
            "prompt_tokens": len(raw) // 4,
            "completion_tokens": 7 + number,
            "total_tokens": len(raw) // 4 + 7 + number,
        }
        if body.get("stream"):
            self._stream(number, turn, usage if (body.get("stream_options") or {}).get("include_usage") else None)
        else:
            self._json(200, self._complete(number, turn, usage))

    def _json(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, number: int, turn: Reply, usage: dict[str, int] | None) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        # The client keeps connections beyond one test's event loop, which then cannot close them.
        self.send_header("connection", "close")
        self.end_headers()
        head = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000 + number,
            "model": self.owner.model,
            "service_tier": "default",
            "system_fingerprint": "fp_test",
        }
        pieces = list(deltas(number, turn))
        if turn.ending == "broken":
            pieces = pieces[: len(pieces) // 2]
        self._chunk(b": keepalive\n\n")
        for delta in pieces:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            self._event({**head, "choices": [choice], **({"usage": None} if usage else {})})
        if turn.ending == "broken":
            self.close_connection = True  # without the last chunk: the client sees a connection that died
            return
        if turn.ending == "whole":
            finish = finish_of(turn)
            choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
            self._event({**head, "choices": [choice], **({"usage": None} if usage else {})})
            if usage:
                self._event({**head, "choices": [], "usage": usage})
            self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _complete(self, number: int, turn: Reply, usage: dict[str, int]) -> dict[str, Any]:
        text, calls = shown(turn)
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = [
                {"id": id_of(number, turn, i), "type": "function", "function": {"name": name, "arguments": args}}
                for i, (name, args) in enumerate(calls)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_of(turn)}
        head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_790_000_000 + number}
        return {**head, "model": self.owner.model, "choices": [choice], "usage": usage}


def finish_of(turn: Reply) -> str:
    if turn.finish:
        return turn.finish
    return "length" if turn.cut is not None else "tool_calls" if turn.calls else "stop"


def shown(turn: Reply) -> tuple[str, list[tuple[str, str]]]:
    """The text and the calls of the turn, up to its cut."""
    calls = list(turn.calls)
    if turn.cut is None:
        return turn.text, calls
    if calls:
        name, arguments = calls[-1]
        return turn.text, [*calls[:-1], (name, arguments[: turn.cut])]
    return turn.text[: turn.cut], calls


def id_of(number: int, turn: Reply, index: int) -> str:
    return turn.ids[index] if turn.ids else f"call_{number:02}{index:02}AbCdEf"


def deltas(number: int, turn: Reply) -> Iterator[dict[str, Any]]:
    """The deltas of one turn: the role first, then text, then each call's name, then its arguments in fragments."""
    text, calls = shown(turn)
    yield {"role": "assistant", "content": "" if text else None, "refusal": None}
    for at in range(0, len(text), turn.fragment):
        yield {"content": text[at : at + turn.fragment]}
    for i, (name, arguments) in enumerate(calls):
        where = {"index": turn.indexes[i] if turn.indexes else i}
        opening = {"id": id_of(number, turn, i), "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [{**where, **opening}]}
        for at in range(0, len(arguments), turn.fragment):
            yield {"tool_calls": [{**where, "function": {"arguments": arguments[at : at + turn.fragment]}}]}


def validate(body: Any) -> None:
    """Raise Invalid for what OpenAI refuses, in the parts that Remit sends."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise Invalid("you must provide a model parameter")
    names = set[str]()
    for i, tool in enumerate(body.get("tools") or []):
        where = f"tools[{i}].function.name"
        if tool.get("type") != "function":
            raise Invalid(f"Invalid value: {tool.get('type')!r}.", param=f"tools[{i}].type")
        function = tool.get("function") or {}
        name = function.get("name")
        _check_name(name, where)
        if name in names:
            raise Invalid(f"Invalid '{where}': duplicate function name.", param=where)
        names.add(name)
        parameters = function.get("parameters", {"type": "object"})
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            text = f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'."
            raise Invalid(text, param=f"tools[{i}].function.parameters", code="invalid_function_parameters")
        if not isinstance(function.get("description", ""), str):
            raise Invalid("Invalid type for description", param=f"tools[{i}].function.description")
    if body.get("tools") == []:
        raise Invalid("Invalid 'tools': empty array. Expected an array with minimum length 1.", param="tools")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("Invalid 'messages': empty array. Expected an array with minimum length 1.", param="messages")
    unanswered: list[str] = []
    for i, message in enumerate(messages):
        unanswered = _check_message(i, message, unanswered)
    if unanswered:
        raise _unanswered(unanswered)


def _check_message(i: int, message: dict[str, Any], unanswered: list[str]) -> list[str]:
    """The ids of calls that still lack an answer after this message."""
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise Invalid(f"Invalid value: {role!r}.", param=f"messages[{i}].role")
    if role == "tool":
        if message.get("tool_call_id") not in unanswered:
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise Invalid(f"Invalid parameter: {text}", param=f"messages.[{i}].role")
        if not isinstance(content, str | list):
            raise Invalid(f"Invalid value for 'content': expected a string, got {content!r}.")
        return [id_ for id_ in unanswered if id_ != message["tool_call_id"]]
    if unanswered:
        raise _unanswered(unanswered)
    calls = message.get("tool_calls")
    if role != "assistant" or calls is None:
        if not isinstance(content, str | list):
            raise Invalid("Invalid value for 'content': expected a string, got null.", param=f"messages.[{i}].content")
        return []
    if not calls:
        raise Invalid(f"Invalid 'messages[{i}].tool_calls': empty array.", param=f"messages[{i}].tool_calls")
    ids: list[str] = []
    for j, call in enumerate(calls):
        where = f"messages[{i}].tool_calls[{j}]"
        if call.get("type") != "function" or not isinstance(call.get("id"), str) or not call["id"]:
            raise Invalid(f"Missing required parameter: '{where}.id'.", param=where)
        if call["id"] in ids:
            raise Invalid(f"Duplicate value for 'tool_call_id' of '{call['id']}'", param=where)
        _check_name(call["function"].get("name"), f"{where}.function.name")
        if not isinstance(call["function"].get("arguments"), str):
            raise Invalid(f"Invalid type for '{where}.function.arguments'", param=where)
        ids.append(call["id"])
    return ids


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        text = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        raise Invalid(f"Invalid '{where}': {text}", param=where, code="invalid_value")


def _unanswered(ids: list[str]) -> Invalid:
    return Invalid(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(ids)}",
        param="messages",
    )
