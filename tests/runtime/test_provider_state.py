"""What a reasoning model needs back with its turns is recorded, sent back as it was, and sent to nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from remit.core.events import ModelResponded
from remit.journal.content_omission import omit_content
from remit.runtime.models.wire.provider_state import SentState
from support.lifecycle import replayed
from support.wire_player import DONE, Answer, call, calls, delta, document, finish, stream
from support.wire_runs import ANN, END, LOOK, WireRun, outcome, responses, whole


def needs(*words: str) -> Callable[[dict[str, Any]], Answer]:
    """A server that rejects a conversation without these words, as reasoning models do in the second turn."""

    def second(body: dict[str, Any]) -> Answer:
        missing = [word for word in words if word not in json.dumps(body["messages"])]
        return document({"error": {"message": f"{missing} must be passed back"}}, status=400) if missing else END

    return second


# It looks like a key of AWS, and must stay as it is.
SIGNATURE: Final = "EpwCCpkCAXrI2nwMKhRhYzE4Y2M4NGZj+AKIAIOSFODNN7EXAMPLE/ODdkMDk0ZjI3YzU2OGI2NTQ3MGIz=="

STATES: Final[dict[str, tuple[Answer, dict[str, Any], dict[str, Any]]]] = {
    "a signature of a thought in a call": (
        calls(call(LOOK, ANN, id="a", index=0, extra_content={"google": {"thought_signature": SIGNATURE}})),
        {},
        {"extra_content": {"google": {"thought_signature": SIGNATURE}}},
    ),
    "a signature in a delta of its own": (
        stream(
            delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
            delta(content="", extra_content={"google": {"thought_signature": SIGNATURE}}),
            finish("stop"),
            DONE,
        ),
        {"extra_content": {"google": {"thought_signature": SIGNATURE}}},
        {},
    ),
    "reasoning in fragments": (
        stream(
            delta(content=None, reasoning_content="I should "),
            delta(reasoning_content="look."),
            delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
            finish("tool_calls"),
            DONE,
        ),
        {"reasoning_content": "I should look."},
        {},
    ),
    "details of reasoning in fragments": (
        stream(
            delta(reasoning="hm", reasoning_details=[{"type": "reasoning.text", "text": "I ", "index": 0}]),
            delta(reasoning_details=[{"type": "reasoning.text", "text": "look", "signature": "s1", "index": 0}]),
            delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "eNc==", "id": "r_1", "index": 1}]),
            delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
            finish("tool_calls"),
            DONE,
        ),
        {
            "reasoning": "hm",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "I look", "signature": "s1", "index": 0},
                {"type": "reasoning.encrypted", "data": "eNc==", "id": "r_1", "index": 1},
            ],
        },
        {},
    ),
    "an unknown member, in one document": (
        document(whole(call(LOOK, ANN, id="a", seal={"n": [1, 2.5, None, True, "\ud83d\ude00 é"]}), proof="p" * 500)),
        {"proof": "p" * 500},
        {"seal": {"n": [1, 2.5, None, True, "😀 é"]}},
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_what_a_provider_needs_back_is_sent_back_as_it_was(against: WireRun, name: str) -> None:
    answer, of_message, of_call = STATES[name]
    words = [word for word in (SIGNATURE, "look.", "eNc==", "p" * 500) if word in json.dumps([of_message, of_call])]

    played, player = against([answer, needs(*words)])

    assert outcome(played).outcome == "completed", outcome(played).message
    sent = player.requests[1]["messages"][2]
    own = {key: value for key, value in sent.items() if key not in ("role", "content", "tool_calls")}
    (sent_call,) = sent["tool_calls"]
    assert own == of_message
    assert {key: value for key, value in sent_call.items() if key not in ("id", "type", "function")} == of_call
    assert replayed(played).reproduced


def test_a_known_secret_in_the_state_is_not_recorded(against: WireRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", "correct-horse-42")
    answer = stream(
        delta(reasoning_content="the token is correct-horse-42"),
        delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
        finish("tool_calls"),
        DONE,
    )

    played, player = against([answer, END])

    state = responses(played)[0].provider_state
    assert "correct-horse-42" not in state
    assert "[redacted:" in state
    assert "[redacted:" in player.requests[1]["messages"][2]["reasoning_content"]


def test_the_state_is_omitted_with_the_content() -> None:
    event = ModelResponded(step=0, text="a", finish="stop", provider_state='{"model": "m"}')

    assert omit_content(event) == ModelResponded(step=0, text="", finish="stop")


def test_the_state_is_sent_to_the_model_that_wrote_it_only(against: WireRun) -> None:
    answer, _, _ = STATES["reasoning in fragments"]

    played, _ = against([answer, END])

    state = responses(played)[0].provider_state
    assert SentState(state, "openai:some").message == {"reasoning_content": "I should look."}
    assert SentState(state, "openai:another").message == {}
