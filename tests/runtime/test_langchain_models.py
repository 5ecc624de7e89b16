"""Anthropic and Ollama through their libraries, against streams written from the providers' published event formats.

These are not recordings of the providers: the formats are those of
https://docs.anthropic.com/en/docs/build-with-claude/streaming and https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remit.core.messages import Message, ModelError, ModelTurn, ToolSpec
from remit.runtime.models.selection import open_model
from support.wire_player import Answer, Turn, WirePlayer, document

QUESTION = (Message(role="system", text="You keep a ledger."), Message(role="user", text="Look at ann."))
LOOK = ToolSpec(
    name="ledger__look",
    description="Read an account",
    input={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)
USAGE = {"input_tokens": 25, "output_tokens": 1}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")


def events(*items: dict[str, Any]) -> Answer:
    """A stream of Anthropic: each event is named after its type."""
    return Answer(
        pieces=[f"event: {item['type']}\ndata: {json.dumps(item)}\n\n".encode() for item in items],
        headers={"content-type": "text/event-stream"},
    )


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def claude(*blocks: list[dict[str, Any]], reason: str = "end_turn", **usage: int) -> Answer:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return events(
        {"type": "message_start", "message": {**head, "stop_reason": None, "stop_sequence": None, "usage": USAGE}},
        {"type": "ping"},
        *(item for items in blocks for item in items),
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 9, **usage},
        },
        {"type": "message_stop"},
    )


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def use(index: int, id_: str, *pieces: str) -> list[dict[str, Any]]:
    start = {"type": "tool_use", "id": id_, "name": "ledger__look", "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def lines(*items: dict[str, Any]) -> Answer:
    """A stream of Ollama: one object a line."""
    pieces = [
        json.dumps({"model": "llama", "created_at": "2026-01-01T00:00:00Z", **item}).encode() + b"\n" for item in items
    ]
    return Answer(pieces=pieces, headers={"content-type": "application/x-ndjson"})


async def asked(
    spec: str, turns: list[Turn], messages: tuple[Message, ...] = QUESTION
) -> tuple[ModelTurn, list[dict[str, Any]]]:
    with WirePlayer(turns) as player:
        model = open_model(spec, folder=Path(), base_url=player.base_url.removesuffix("/v1"))
        turn = await model.think(0, messages, [LOOK])
        return turn, player.requests


def continued(turn: ModelTurn) -> tuple[Message, ...]:
    calls = tuple(call.model_copy(update={"id": str(index)}) for index, call in enumerate(turn.proposed_calls))
    own = Message(role="assistant", text=turn.text, proposed_calls=calls, provider_state=turn.provider_state)
    return (*QUESTION, own, *(Message(role="tool", text="10", call_id=call.id) for call in calls))


async def test_a_turn_of_anthropic_keeps_the_text_of_its_arguments() -> None:
    raw = ['{"name": "a', 'nn",  "name": "ann"}']

    turn, requests = await asked(
        "anthropic:claude-x",
        [
            claude(
                text(0, "I ", "look."),
                use(1, "toolu_1", *raw),
                use(2, "toolu_2", '{"name": "ben"}'),
                reason="tool_use",
                input_tokens=25,
            )
        ],
    )

    assert (turn.text, turn.finish, turn.response_model) == ("I look.", "tool_calls", "claude-x")
    assert [call.arguments for call in turn.proposed_calls] == ["".join(raw), '{"name": "ben"}']
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (25, 9)
    assert requests[0]["tools"][0]["name"] == "ledger__look"


async def test_thinking_blocks_of_anthropic_are_sent_back_with_their_signatures() -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "I should "},
        {"type": "thinking_delta", "thinking": "look."},
        {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
    )
    hidden = block(1, {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"})
    first, _ = await asked(
        "anthropic:claude-x", [claude(thinking, hidden, use(2, "toolu_1", '{"name": "ann"}'), reason="tool_use")]
    )

    answer, requests = await asked("anthropic:claude-x", [claude(text(0, "10"))], continued(first))

    assert (first.text, answer.text) == ("", "10")
    sent = requests[0]["messages"][1]["content"]
    assert [part["type"] for part in sent] == ["thinking", "redacted_thinking", "tool_use"]
    assert (sent[0]["thinking"], sent[0]["signature"]) == ("I should look.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h")
    assert sent[1]["data"] == "EmwKAhgBEgy3va3pzix"


async def test_a_turn_of_anthropic_that_reached_its_limit_is_incomplete() -> None:
    """Its last event has no count of what it read, so that count is unknown, and not 0."""
    turn, _ = await asked("anthropic:claude-x", [claude(text(0, "I lo"), reason="max_tokens")])

    assert (turn.finish, turn.usage.input_tokens, turn.usage.output_tokens) == ("length", None, 9)


@pytest.mark.parametrize(
    ("answer", "words", "retryable"),
    [
        (
            document({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, status=529),
            "failed with 529: Overloaded",
            True,
        ),
        (
            document(
                {"type": "error", "error": {"type": "rate_limit_error", "message": "too many tokens a minute"}},
                status=429,
                retry_after="0.01",
            ),
            "is busy: too many tokens a minute",
            True,
        ),
        (
            events(
                {
                    "type": "message_start",
                    "message": {
                        "id": "m",
                        "type": "message",
                        "role": "assistant",
                        "model": "c",
                        "content": [],
                        "stop_reason": None,
                        "stop_sequence": None,
                        "usage": USAGE,
                    },
                },
                {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            ),
            "Overloaded",
            True,
        ),
        (
            document(
                {
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 5"},
                },
                status=400,
            ),
            "cannot read a conversation of this length",
            False,
        ),
        (
            document("<h1>blocked by the proxy</h1>", status=403, content_type="text/html"),
            "blocked by the proxy",
            False,
        ),
    ],
)
async def test_an_error_of_anthropic_is_reported_in_its_words_and_its_library_does_not_ask_again(
    answer: Answer, words: str, retryable: bool
) -> None:
    requests: list[dict[str, Any]] = []

    def fails(body: dict[str, Any]) -> Answer:
        requests.append(body)
        return answer

    with pytest.raises(ModelError) as raised:
        await asked("anthropic:claude-x", [fails])

    assert len(requests) == 1
    assert words in raised.value.message
    assert raised.value.retryable is retryable
    assert raised.value.overflow is ("too long" in raised.value.message)
    assert "sk-ant-secret" not in raised.value.message


async def test_a_turn_of_ollama_has_the_arguments_that_its_library_parsed() -> None:
    call = {"function": {"name": "ledger__look", "arguments": {"name": "ann"}}}

    turn, _ = await asked(
        "ollama:llama",
        [
            lines(
                {"message": {"role": "assistant", "content": "I look."}, "done": False},
                {"message": {"role": "assistant", "content": "", "tool_calls": [call, call]}, "done": False},
                {
                    "message": {"role": "assistant", "content": ""},
                    "done": True,
                    "done_reason": "stop",
                    "prompt_eval_count": 26,
                    "eval_count": 9,
                },
            )
        ],
    )

    assert turn.text == "I look."
    assert [(call.arguments, call.parsed) for call in turn.proposed_calls] == [(None, {"name": "ann"})] * 2
    assert (turn.finish, turn.usage.input_tokens, turn.usage.output_tokens) == ("stop", 26, 9)


async def test_a_conversation_of_ollama_is_sent_with_its_results() -> None:
    call = {"function": {"name": "ledger__look", "arguments": {"name": "ann"}}}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1}
    first, _ = await asked(
        "ollama:llama", [lines({"message": {"role": "assistant", "content": "", "tool_calls": [call]}, **end})]
    )

    answer, requests = await asked(
        "ollama:llama", [lines({"message": {"role": "assistant", "content": "10"}, **end})], continued(first)
    )

    assert answer.text == "10"
    assert [message["role"] for message in requests[0]["messages"]] == ["system", "user", "assistant", "tool"]
    assert requests[0]["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"name": "ann"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (document({"error": "model 'llama' not found"}, status=404), "was not found: model 'llama' not found"),
        (document({"error": "llama does not support tools"}, status=400), "llama does not support tools"),
        (lines({"error": "the runner has stopped"}), "the runner has stopped"),
    ],
)
async def test_an_error_of_ollama_is_reported_in_its_words(answer: Answer, words: str) -> None:
    with pytest.raises(ModelError) as raised:
        await asked("ollama:llama", [answer])

    assert words in raised.value.message
