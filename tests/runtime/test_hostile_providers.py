"""A provider that wants to harm: what it sends is recorded without its secrets, and neither ends the run by a fault nor fills memory."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final

import pytest

from remit.core import RunEnded
from support.lifecycle import replayed
from support.wire_player import DONE, Answer, call, delta, finish, stream
from support.wire_runs import ANN, END, LOOK, WireRun, outcome

TOKEN: Final = "correct-horse-42"
HALF: Final = "\ud83d"  # one half of a character


def calls_with(**members: Any) -> Answer:
    return stream(delta(tool_calls=[{**call(LOOK, ANN, id="a", index=0), **members}]), finish("tool_calls"), DONE)


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        pytest.param(calls_with(id=HALF), "completed", id="id"),
        pytest.param(calls_with(function={"name": HALF, "arguments": ANN}), "completed", id="name"),
        pytest.param(calls_with(function={"name": LOOK, "arguments": f'{{"name": "{HALF}"}}'}), "completed", id="arguments"),
        pytest.param(calls_with(index=HALF), "completed", id="index"),
        pytest.param(calls_with(id="x" * 1_000_000), "completed", id="long-id"),
        pytest.param(stream(delta(content="a"), finish(HALF), DONE), "failed", id="finish"),
        pytest.param(stream({"model": HALF, "choices": [{"delta": {"content": "a"}}]}, finish("stop"), DONE), "completed", id="model"),
        pytest.param(stream(delta(content=HALF), finish("stop"), DONE), "completed", id="text"),
    ],
)  # fmt: skip
def test_half_a_character_anywhere_in_an_answer_is_recorded_as_a_whole_one(
    against: WireRun, answer: Answer, ending: str
) -> None:
    try:
        played, _ = against([answer, END])
    except RunEnded as failure:
        pytest.fail(f"the run ended by {failure}")

    assert outcome(played).outcome == ending, outcome(played).message
    assert max(len(item.event.model_dump_json()) for item in played.records) < 100_000
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(calls_with(id=TOKEN), id="id"),
        pytest.param(stream(delta(content="a"), finish(TOKEN), DONE), id="finish"),
        pytest.param(stream({"model": TOKEN, "choices": [{"delta": {"content": "a"}}]}, finish("stop"), DONE), id="model"),
    ],
)  # fmt: skip
def test_a_known_secret_is_recorded_from_no_part_of_an_answer(
    against: WireRun, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setenv("LEDGER_TOKEN", TOKEN)

    played, _ = against([answer, END])

    recorded = "".join(item.event.model_dump_json() for item in played.records)
    assert TOKEN not in recorded
    assert "[redacted:" in recorded


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(("times", "encoding"), [(2, "gzip, gzip"), (1, "br")])
def test_an_answer_that_may_grow_without_a_bound_is_not_unpacked(
    against: WireRun, times: int, encoding: str, status: int
) -> None:
    """Each layer of compression multiplies what a received part becomes by up to a thousand, before its size can be checked."""
    body = json.dumps({"choices": [{"message": {"content": "a" * 3_000_000}, "finish_reason": "stop"}]}).encode()
    for _ in range(times):
        body = gzip.compress(body)
    answer = Answer(pieces=[body], status=status, headers={"content-encoding": encoding})

    played, _ = against([answer])

    assert outcome(played).outcome == "failed"
    assert f"answers with the content encoding '{encoding}', which is not read" in outcome(played).message


def test_an_answer_that_is_compressed_once_is_read(against: WireRun) -> None:
    body = b"".join(calls_with().pieces)

    played, _ = against([Answer(pieces=[gzip.compress(body)], headers={"content-encoding": "gzip"}), END])

    assert outcome(played).outcome == "completed"
