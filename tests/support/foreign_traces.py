"""Traces as another tool writes them, in the GenAI conventions of OpenTelemetry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

FILES: Final = Path(__file__).parents[1] / "tracing" / "imported"
SECOND: Final = 1_000_000_000
BEGIN: Final = 1_780_000_000 * SECOND

ToolCall: TypeAlias = tuple[str, dict[str, Any], Any]  # the name of a tool, its arguments, and what it returned


def span(trace: str, name: str, at: int, parent: str = "", error: str = "", **attributes: Any) -> dict[str, Any]:
    """One span of half a second. A name of an attribute is written with `__` for each point."""
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    return {
        "traceId": trace,
        "spanId": f"{at % 2**60:015x}{len(name) % 16:x}",
        **({"parentSpanId": parent} if parent else {}),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(at),
        "endTimeUnixNano": str(at + SECOND // 2),
        "attributes": [{"key": key, "value": _value(value)} for key, value in named.items()],
        "status": {"code": 2, "message": error} if error else {},
    }


def document(*spans: dict[str, Any], scope: str = "other.tool") -> dict[str, Any]:
    """An OTLP document with these spans."""
    scoped = {"scope": {"name": scope, "version": "1"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [scoped]}]}


def trace_of(
    number: int,
    *calls: ToolCall,
    task: str = "Look at the logs",
    asked_only: Sequence[ToolCall] = (),
    begin: int = BEGIN,
) -> dict[str, Any]:
    """A trace in which a model asks for each call in a turn of its own; `asked_only` are asked for in the last turn, and no tool runs."""
    trace, at = f"{number + 1:032x}", begin + number * 1000 * SECOND
    root = span(trace, "invoke_agent desk", at, gen_ai__operation__name="invoke_agent", gen_ai__agent__name="desk")
    root["endTimeUnixNano"] = str(at + (2 * len(calls) + 2) * SECOND)
    spans = [root]
    for index, (name, arguments, result) in enumerate(calls):
        spans.append(
            _chat(trace, at + (2 * index + 1) * SECOND, root["spanId"], task, [(f"c{index}", name, arguments)])
        )
        spans.append(
            span(
                trace,
                f"execute_tool {name}",
                at + (2 * index + 2) * SECOND,
                root["spanId"],
                gen_ai__operation__name="execute_tool",
                gen_ai__tool__name=name,
                gen_ai__tool__call__id=f"c{index}",
                gen_ai__tool__call__arguments=json.dumps(arguments),
                gen_ai__tool__call__result=json.dumps(result),
            )
        )
    last = [(f"x{index}", name, arguments) for index, (name, arguments, _) in enumerate(asked_only)]
    spans.append(_chat(trace, at + (2 * len(calls) + 1) * SECOND + 1, root["spanId"], task, last))
    return document(*spans)


def write_lines(path: Path, documents: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> Path:
    """Write them as JSON Lines."""
    path.write_text("".join(f"{json.dumps(one)}\n" for one in documents))
    return path


def _chat(
    trace: str, at: int, parent: str, task: str, calls: Sequence[tuple[str, str, dict[str, Any]]]
) -> dict[str, Any]:
    parts = [{"type": "tool_call", "id": id, "name": name, "arguments": given} for id, name, given in calls]
    written = [{"role": "assistant", "parts": parts or [{"type": "text", "content": "done"}]}]
    return span(
        trace,
        "chat",
        at,
        parent,
        gen_ai__operation__name="chat",
        gen_ai__request__model="some-model",
        gen_ai__usage__input_tokens=10,
        gen_ai__input__messages=json.dumps([{"role": "user", "parts": [{"type": "text", "content": task}]}]),
        gen_ai__output__messages=json.dumps(written),
    )


def _value(value: Any) -> dict[str, Any]:
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
