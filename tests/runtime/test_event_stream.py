"""The reader of bodies: the same documents however the bytes arrive, in linear time, within bounds."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from remit.core.events import ModelResponded
from remit.core.messages import ModelError
from remit.journal.conversation import Conversation
from remit.runtime.models.wire.answer_reader import AnswerReader
from remit.runtime.models.wire.event_stream import (
    MOST_VALUES,
    BodyReader,
    Document,
    NotJson,
    TooLong,
    read_json,
    written,
)
from remit.runtime.models.wire.provider_errors import ProviderErrors
from remit.runtime.models.wire.provider_state import ProviderState, SentState

STREAM = (
    '\ufeff: comment\r\n\r\nevent: ping\rdata: {"n": 1}\r\rdata: {"n":\ndata: 2}\n\nid: 7\nretry: 3\nunknown: x\n'
    'data:{"t": "é\\u2028\u2028"}\n\ndata: {"n": 4}\n\ndata: [DONE]\n\ndata: {"n": 9}\n\n'
).encode()


def documents(pieces: list[bytes]) -> tuple[list[Any], BodyReader]:
    reader = BodyReader()
    found: list[Document] = []
    for piece in pieces:
        found += reader.feed(piece)
    found += reader.close()
    return [item.value for item in found], reader


@pytest.mark.parametrize("seed", range(40))
def test_the_documents_of_a_stream_do_not_depend_on_how_its_bytes_arrive(seed: int) -> None:
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(len(STREAM)) for _ in range(seed))
    pieces = [STREAM[start:end] for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]

    found, reader = documents(pieces)

    assert found == [{"n": 1}, {"n": 2}, {"t": "é\u2028\u2028"}, {"n": 4}]
    assert (reader.streamed, reader.done) == (True, True)


def test_an_event_is_named_after_its_line() -> None:
    reader = BodyReader()

    (first, second) = reader.feed(b'event: error\ndata: {"a": 1}\n\ndata: {"a": 2}\n\n')

    assert (first.event, second.event) == ("error", "")


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b' \n {"a": 1}', [{"a": 1}]),
        (b'[{"a": 1}]', [[{"a": 1}]]),
        (b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (b"", []),
        (b"  ", []),
        (b'data: {"a": 1}', [{"a": 1}]),
    ],
)
def test_a_body_that_is_no_stream_is_read_as_a_whole(body: bytes, values: list[Any]) -> None:
    assert documents([body])[0] == values


@pytest.mark.parametrize("body", [b"<html>", b"no", b'{"a": 1', b"data: {oops\n\n", b'{"a": 1}\nrest', b"error: 5"])
def test_what_is_not_json_is_given_back_as_text(body: bytes) -> None:
    with pytest.raises(NotJson) as raised:
        documents([body])
    assert raised.value.text.strip() in body.decode()


def test_a_body_and_an_event_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.runtime.models.wire.event_stream.DOCUMENT_BYTES", 1000)
    monkeypatch.setattr("remit.runtime.models.wire.event_stream.BODY_BYTES", 100_000)
    for piece, repeats in ((b"x" * 100, 11), (b"data: " + b"1" * 90 + b"\n", 12), (b": comment\n\n", 10_000)):
        start = b"data: 1\n\n" if piece[:1] != b"x" else b"x"
        with pytest.raises(TooLong):
            documents([start, *[piece] * repeats])
    reader = BodyReader()
    for _ in range(2000):  # many small events are no large one
        list(reader.feed(b"data: 1\n\n"))


def test_the_values_of_one_event_are_bounded() -> None:
    """One event is read in one piece of work, which nothing can interrupt."""
    assert len(documents([b"data: 1\n" * 1000 + b"\n"])[0]) == 1000
    with pytest.raises(NotJson):
        documents([b"data: 1\n" * MOST_VALUES + b"\n"])


def test_reading_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        pieces = [b'data: {"a": "' + b"x" * 20 + b'"}\n\n'] * count + [b"data: "] + [b'"', *[b"y"] * count, b'"\n\n']
        began = time.process_time()
        documents(pieces)
        return time.process_time() - began

    small = min(seconds(4000) for _ in range(3))
    assert seconds(40_000) < 40 * small  # quadratic would be 100 times


def test_deep_and_long_values_are_errors_and_not_crashes() -> None:
    with pytest.raises(ValueError, match="nested"):
        read_json(b"[" * 200_000)
    assert len(str(read_json(b"9" * 100_000))) <= 400


def test_written_json_is_what_was_read_with_repeated_keys() -> None:
    text = '{"a":1,"a":{"b":[true,null,1.5,"é"]},"c":{}}'

    assert written(read_json(text.encode())) == text


def test_the_state_of_a_turn_that_arrives_in_fragments_is_the_state_that_arrives_at_once() -> None:
    whole = {
        "reasoning_content": "one two",
        "reasoning_details": [{"type": "t", "text": "ab", "index": 0, "signature": "s"}, {"type": "e", "data": "z"}],
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    fragments: list[dict[str, Any]] = [
        {"role": "assistant", "content": "not state", "reasoning_content": "one "},
        {"reasoning_content": "two", "reasoning_details": [{"type": "t", "text": "a", "index": 0}]},
        {"reasoning_details": [{"type": "t", "text": "b", "index": 0, "signature": "s"}, {"type": "e", "data": "z"}]},
        {"extra_content": {"google": {"thought_signature": "sig"}}, "tool_calls": [], "refusal": None},
        {"extra_content": {"google": {"thought_signature": "sig"}}},
    ]
    state = ProviderState("m")
    for fragment in fragments:
        state.add_message(fragment)

    assert SentState(state.text(), "m").message == whole
    assert json.loads(state.text())["model"] == "m"


def test_a_state_that_is_nested_too_deeply_is_not_kept() -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"a": deep, "b": 1}

    with pytest.raises(RecursionError):
        ProviderState("m").add_message({"x": deep})


@pytest.mark.parametrize("text", ["", "not JSON", "[]", '{"model": "m"}', '{"model": "m", "message": 1, "calls": [2]}'])
def test_a_state_that_cannot_be_read_is_no_state(text: str) -> None:
    state = SentState(text, "m")

    assert (state.message, state.call(0), state.function(0)) == ({}, {}, {})


def test_a_changed_state_is_another_conversation_and_no_state_is_the_conversation_of_earlier_versions() -> None:
    """The digest of the conversation is recorded with each request, so a replay checks the state of every turn."""

    def digest(state: str) -> str:
        conversation = Conversation()
        conversation.fold(ModelResponded(step=0, text="a", finish="stop", provider_state=state))
        return conversation.input_digest([])

    assert len({digest(""), digest('{"model": "m"}'), digest('{"model": "n"}')}) == 3
    assert digest("") == "sha256:f427e5917dbeaad818a0a951c1331a2049c543d7c95fbf72082864c3ecbc6bc2"


@pytest.mark.parametrize(
    "piece",
    [
        {"index": 0, "function": {"name": "a"}},
        {"index": 0, "function": {"name": "b", "arguments": "{}"}},
        {"id": "", "function": {"arguments": '"'}},
        {"function": {"name": "a", "arguments": "}"}},
        {},
    ],
)
def test_a_turn_of_many_small_pieces_is_bounded_and_takes_linear_time(piece: dict[str, Any]) -> None:
    errors = ProviderErrors(name="openai:x", key="", secret="")
    reader = AnswerReader(errors, "openai:x", ["a"], {})
    document = Document(value={"choices": [{"delta": {"tool_calls": [piece] * 1000}}]})
    began = time.process_time()

    with pytest.raises(ModelError, match="longer than"):
        fill(reader, document)

    assert time.process_time() - began < 20


def fill(reader: AnswerReader, document: Document) -> None:
    for _ in range(1000):
        reader.add(document)
