"""An answer without words is asked for again, and is never the answer of a run."""

from __future__ import annotations

from typing import Final

import pytest

from support.lifecycle import replayed
from support.wire_player import DONE, Answer, call, calls, delta, finish, says, stream
from support.wire_runs import ANN, END, LOOK, WireRun, outcome

EMPTY: Final[dict[str, tuple[Answer, str]]] = {
    "no text": (says(""), "no words"),
    "null as text": (stream(delta(content=None), finish("stop"), DONE), "no words"),
    "blanks": (says(" \n\t\u3000 "), "no words"),
    "invisible characters": (says("\u200b\u2060\ufeff\u2800"), "no words"),
    "reasoning only": (
        stream(delta(reasoning_content="All is clear."), finish("stop"), DONE),
        "reasoning and no words",
    ),
    "a refusal": (stream(delta(refusal="I cannot help with that."), finish("stop"), DONE), "a refusal"),
    "a call as tagged text": (
        says('I look.\n<tool_call>{"name": "ledger__look", "arguments": {"name": "ann"}}</tool_call>'),
        "a call of 'ledger__look' as text",
    ),
    "a call as bare JSON": (
        says('```json\n{"name": "ledger.look", "parameters": {"name": "ann"}}\n```'),
        "a call of 'ledger__look' as text",
    ),
    "a call in the format of Mistral": (
        says('[TOOL_CALLS][{"name": "ledger__look", "arguments": {"name": "ann"}}]'),
        "a call of 'ledger__look' as text",
    ),
    "a call in the format of XML": (
        says('<function_calls>\n<invoke name="ledger__look"><parameter name="name">ann</parameter></invoke>'),
        "a call of 'ledger__look' as text",
    ),
    "a call that the provider could not read": (
        stream(delta(content=""), finish("malformed_function_call"), DONE),
        "a call that the provider could not read",
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_answer_without_words_is_asked_for_again(against: WireRun, name: str) -> None:
    answer, reason = EMPTY[name]

    played, player = against([calls(call(LOOK, ANN, id="a", index=0)), answer, END])

    assert (outcome(played).outcome, outcome(played).answer) == ("completed", "the ledger is in order")
    asked = player.requests[2]["messages"][-1]
    assert asked["role"] == "user"
    assert reason in asked["content"]
    assert replayed(played).reproduced


@pytest.mark.parametrize("name", EMPTY)
def test_a_run_whose_model_gives_no_words_fails_with_the_reason(against: WireRun, name: str) -> None:
    answer, reason = EMPTY[name]

    played, player = against([answer])

    assert outcome(played).outcome == "failed"
    assert reason in outcome(played).message
    assert len(player.requests) == 3
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "…",
        "A server without a parser writes <tool_call> as text; vLLM has an option for it.",
        '{"name": "ann", "balance": 10}',
        '{"name": "ledger__look", "balance": 10}',
        "I called ledger__look and all is in order.",
        "See `[TOOL_CALLS]` in the documentation of Mistral.",
        "The server sent <tool_call> as text for ledger__look, so I asked again.",
    ],
)
def test_an_answer_with_words_is_the_answer(against: WireRun, text: str) -> None:
    played, _ = against([says(text)])

    assert (outcome(played).outcome, outcome(played).answer) == ("completed", text)
