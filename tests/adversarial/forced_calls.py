"""A chat-completions server for a small model that cannot call tools: a grammar forces its words into one call or one answer.

It stands between Remit and llama.cpp. The model's own template hides tools, so their names and parameters go into the system
message, and calls and results into ordinary messages. The answer must be JSON, `{"name": …, "arguments": {…}}` for one of the
offered tools or, once the conversation has `CALLS` results, `{"answer": …}`. Each is streamed on as it comes, as OpenAI would
send it. Which call the model makes, and with what arguments, is the model's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx

from support.model_server import ModelServer

CALLS = 3  # as many results must be there before the model may answer
LONGEST_STRING, MOST_ITEMS = 48, 2  # so that a turn ends within its tokens
LONGEST_RESULT = 400  # characters of a result that the model reads again
CALL = re.compile(r'\s*\{\s*"name"\s*:\s*"(\w+)"\s*,\s*"arguments"\s*:\s*')
RULES = "Answer with one JSON object: a call of one of these tools, or the answer.\n"


@dataclass
class ForcedCalls(ModelServer):
    """Serves the model behind `upstream`, the base URL of llama.cpp's own server."""

    upstream: str

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    def chunks(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of the answer to a request of Remit."""
        asked = {**body, "messages": plain_messages(body), "response_format": response_format(body)}
        asked["seed"] = body.get("seed", 0) + len(body["messages"])  # else each turn of a run makes the same choices
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            asked.pop(name, None)
        yield from as_calls(self._events(asked), identity=f"call_{len(body['messages'])}")

    def _events(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with httpx.stream("POST", f"{self.upstream}/chat/completions", json=asked, timeout=600) as response:
            if response.status_code != 200:
                raise SystemExit(f"error: llama.cpp answers {response.status_code}: {response.read()[:500]!r}")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))


def response_format(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the model may write: a call of one of the tools, and the answer once there are enough results."""
    choices = [
        {
            "type": "object",
            "properties": {"name": {"const": tool["function"]["name"]}, "arguments": bounded(tool["function"]["parameters"])},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in body.get("tools", ())
    ]  # fmt: skip
    if sum(message["role"] == "tool" for message in body["messages"]) >= CALLS or not choices:
        answer = {"type": "object", "properties": {"answer": bounded({"type": "string"})}, "required": ["answer"]}
        choices = [{**answer, "additionalProperties": False}, *choices]
    return {"type": "json_schema", "json_schema": {"name": "turn", "schema": {"anyOf": choices}}}


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without what a grammar cannot say, and with bounds for what has none."""
    kept = {name: schema[name] for name in ("enum", "const", "required", "minimum", "maximum") if name in schema}
    if "anyOf" in schema:
        return {"anyOf": [bounded(part) for part in schema["anyOf"]]}
    kind = schema.get("type", "string")
    if kind == "object":
        members = {name: bounded(part) for name, part in schema.get("properties", {}).items()}
        return {**kept, "type": kind, "properties": members, "additionalProperties": False}
    if kind == "array":
        return {"type": kind, "items": bounded(schema.get("items", {})), "maxItems": MOST_ITEMS}
    return {**kept, "type": kind, **({"maxLength": LONGEST_STRING} if kind == "string" and not kept else {})}


def plain_messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation for a template that knows neither tools nor calls."""
    tools = [tool["function"] for tool in body.get("tools", ())]
    offered = RULES + "\n".join(f"{item['name']}({', '.join(item['parameters']['properties'])})" for item in tools)
    plain: list[dict[str, str]] = []
    for message in body["messages"]:
        text = message.get("content") or ""
        if message["role"] in ("system", "developer"):
            plain.append({"role": "system", "content": f"{text}\n{offered}"})
        elif message["role"] == "tool":
            plain.append({"role": "user", "content": f"result: {text[:LONGEST_RESULT]}"})
        else:
            calls = [call["function"] for call in message.get("tool_calls") or ()]
            written = [f'{{"name":"{call["name"]}","arguments":{call["arguments"]}}}' for call in calls]
            plain.append({"role": message["role"], "content": "\n".join([*([text] if text else []), *written])})
    return plain


def as_calls(events: Iterator[dict[str, Any]], identity: str) -> Iterator[dict[str, Any]]:
    """The chunks with their text as the delta of a call, argument text as it comes, or as an answer."""
    text, sent = "", 0  # all text, and how much of it is sent
    call: re.Match[str] | None = None
    for event in events:
        choice = next(iter(event.get("choices") or ()), None)
        if choice is None:  # the usage
            yield event
            continue
        text += choice["delta"].get("content") or ""
        deltas: list[dict[str, Any]] = []
        if call is None and (call := CALL.match(text)):
            sent = call.end()
            function = {"name": call[1], "arguments": ""}
            deltas.append({"tool_calls": [{"index": 0, "id": identity, "type": "function", "function": function}]})
        finish = choice.get("finish_reason")
        # The last brace is that of the whole, so the end of the text is kept back.
        until = len(text.rstrip()) - (finish != "length") if call else 0
        if until > sent:
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": text[sent:until]}}]})
            sent = until
        if finish and call is None:
            deltas.append({"content": answer_in(text)})
        if finish == "stop" and call:
            finish = "tool_calls"
        for delta in deltas:
            yield {**event, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if finish:
            yield {**event, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}


def answer_in(text: str) -> str:
    """The words of the answer; the text as it is, if it was cut."""
    try:
        return str(json.loads(text)["answer"])
    except (ValueError, KeyError, TypeError):
        return text


class _Handler(BaseHTTPRequestHandler):
    owner: ForcedCalls
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """What happens is in the record of the run."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for chunk in self.owner.chunks(body):
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except ConnectionError:
            return  # Remit has ended the turn
