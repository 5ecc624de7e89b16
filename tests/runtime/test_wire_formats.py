"""What servers other than OpenAI's send: a run completes, or it fails or waits with the provider's words.

Each case is a whole run of the ledger workspace against a server that plays bytes.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from remit.core.events import ModelFailed
from support.lifecycle import replayed
from support.wire_player import DONE, Answer, call, calls, delta, document, finish, stream
from support.wire_runs import ANN, END, LOOK, WireRun, outcome, responses, whole

BEN: Final = '{"name": "ben"}'

# Each answer is one turn that calls `look` for ann, or for ann and ben; with the deviations that it counts as.
CALLS: Final[dict[str, tuple[Answer, int, tuple[str, ...]]]] = {
    "as OpenAI sends it": (calls(call(LOOK, ANN, id="a", index=0)), 1, ()),
    "arguments as an object": (calls(call(LOOK, {"name": "ann"}, id="a", index=0)), 1, ("arguments_not_text",)),
    "one call without an index": (calls(call(LOOK, ANN, id="a")), 1, ("calls_without_index",)),
    "two calls without an index": (
        calls(call(LOOK, ANN, id="a"), call(LOOK, BEN, id="b")),
        2,
        ("calls_without_index",),
    ),
    "two calls of index 0": (
        calls(call(LOOK, ANN, id="a", index=0), call(LOOK, BEN, id="b", index=0)),
        2,
        ("calls_without_index",),
    ),
    "two calls of index 0 with empty ids": (
        calls(call(LOOK, ANN, id="", index=0), call(LOOK, BEN, id="", index=0)),
        2,
        ("calls_without_index",),
    ),
    "two calls without index and id": (calls(call(LOOK, ANN), call(LOOK, BEN)), 2, ("calls_without_index",)),
    "arguments in pieces without an index": (
        calls(call(LOOK, '{"name": ', id="a"), call(None, '"ann"}')),
        1,
        ("calls_without_index",),
    ),
    "the name in each piece": (calls(call(LOOK, '{"name"', index=0), call(LOOK, ': "ann"}', index=0)), 1, ()),
    "the name in two pieces": (calls(call("ledger__", "", id="a", index=0), call("look", ANN, index=0)), 1, ()),
    "another id in each piece": (
        calls(call(LOOK, '{"name": ', id="a", index=0), call("", '"ann"}', id="b", index=0)),
        1,
        (),
    ),
    "an index that is text": (calls(call(LOOK, ANN, id="a", index="0")), 1, ()),
    "indexes from 1": (calls(call(LOOK, ANN, id="a", index=1), call(LOOK, BEN, id="b", index=2)), 2, ()),
    "the same id twice": (calls(call(LOOK, ANN, id="a", index=0), call(LOOK, BEN, id="a", index=1)), 2, ()),
    "pieces of two calls mixed": (
        calls(
            call(LOOK, "", id="a", index=0),
            call(LOOK, "", id="b", index=1),
            call(None, '{"name": "a', index=0),
            call(None, '{"name": "b', index=1),
            call(None, 'nn"}', index=0),
            call(None, 'en"}', index=1),
        ),
        2,
        (),
    ),
    "a function that is null": (
        calls(call(LOOK, ANN, id="a", index=0), {"index": 0, "id": "a", "type": "function", "function": None}),
        1,
        (),
    ),
    "name and arguments beside the function": (
        calls({"index": 0, "id": "a", "name": LOOK, "arguments": ANN}),
        1,
        (),
    ),
    "the older form of calls": (
        stream(delta(function_call={"name": LOOK, "arguments": ANN}), finish("function_call"), DONE),
        1,
        ("legacy_function_call",),
    ),
    "one document although a stream was asked for": (document(whole(call(LOOK, ANN, id="a"))), 1, ("not_streamed",)),
    "one document with two calls without ids": (
        document(whole(call(LOOK, ANN), call(LOOK, BEN))),
        2,
        ("not_streamed",),
    ),
    "one document sent as a stream": (
        Answer(
            pieces=[json.dumps(whole(call(LOOK, ANN, id="a"))).encode()], headers={"content-type": "text/event-stream"}
        ),
        1,
        ("not_streamed",),
    ),
    "one document a line": (
        Answer(
            pieces=[
                json.dumps(chunk).encode() + b"\n"
                for chunk in (delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]), finish("tool_calls"))
            ]
        ),
        1,
        ("not_streamed",),
    ),
    "a whole message in an event": (stream(whole(call(LOOK, ANN, id="a")), DONE), 1, ()),
    "events without empty lines between": (
        stream(
            f"data: {json.dumps(delta(tool_calls=[call(LOOK, ANN, id='a', index=0)]))}\n",
            f"data: {json.dumps(finish('tool_calls'))}\n",
        ),
        1,
        (),
    ),
    "line ends of Windows, comments, no space": (
        stream(
            ": PROCESSING\r\n\r\n",
            f"data:{json.dumps(delta(tool_calls=[call(LOOK, ANN, id='a', index=0)]))}\r\n\r\n",
            f"data:{json.dumps(finish('tool_calls'))}\r\n\r\ndata:[DONE]\r\n\r\n",
        ),
        1,
        (),
    ),
    "a chunk without choices, and null everywhere": (
        stream(
            {"id": "", "choices": [], "prompt_filter_results": [], "usage": None},
            delta(content=None, tool_calls=None, function_call=None),
            {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
            delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
            finish("tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 11.0, "completion_tokens": None, "total_tokens": 5}},
            DONE,
        ),
        1,
        (),
    ),
    "the finish reason eos": (calls(call(LOOK, ANN, id="a", index=0), reason="eos"), 1, ()),
    "the finish reason in capitals": (calls(call(LOOK, ANN, id="a", index=0), reason="STOP"), 1, ()),
    "the finish reason stop with calls": (calls(call(LOOK, ANN, id="a", index=0), reason="stop"), 1, ()),
    "two finish reasons": (
        stream(delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]), finish("tool_calls"), finish("stop"), DONE),
        1,
        (),
    ),
}

# Answers after which the run fails or waits, and what the person must read of it.
FAILURES: Final[dict[str, tuple[Answer, str]]] = {
    "an error as a text": (
        document({"error": "model 'x' does not support tools"}, status=400),
        "does not support tools",
    ),
    "a list of errors": (
        document([{"error": {"code": 400, "message": "missing a thought_signature"}}], status=400),
        "missing a thought_signature",
    ),
    "a list of details": (
        document({"detail": [{"loc": ["body", "tools"], "msg": "extra fields not permitted"}]}, status=422),
        "body.tools: extra fields not permitted",
    ),
    "a detail as a text": (document({"detail": "Not authenticated"}, status=403), "Not authenticated"),
    "plain text": (document("bad request: model is busy", status=400, content_type="text/plain"), "model is busy"),
    "a web page": (document("<html><title>503 upstream</title></html>", status=503), "503 upstream"),
    "a page to sign in, under 200": (document("<html><h1>Sign in</h1></html>"), "gave a web page: Sign in"),
    "an error under 200": (
        document({"error": {"message": "Provider returned an error: overloaded", "code": 502}}),
        "Provider returned an error: overloaded",
    ),
    "an error of the provider behind": (
        document(
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": '{"error": {"message": "tools are not supported"}}'},
                }
            },
            status=400,
        ),
        "Provider returned error: tools are not supported",
    ),
    "an error in a chunk": (
        stream(
            delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]),
            {"error": {"message": "Upstream is gone", "type": "server_error", "code": 502}},
        ),
        "Upstream is gone",
    ),
    "an event of the kind error": (
        stream(delta(content="I lo"), 'event: error\ndata: {"message": "Overloaded", "type": "overloaded_error"}\n\n'),
        "Overloaded",
    ),
    "an error in a choice": (
        stream(delta(content="I lo"), finish("error", error={"code": 502, "message": "the provider went away"}), DONE),
        "the provider went away",
    ),
    "an event that is not JSON": (stream(delta(content="I"), "data: upstream timed out\n\n"), "upstream timed out"),
    "a stream that breaks off": (stream(delta(content="I lo"), dropped=True), "lost in the middle of its answer"),
    "no credit": (
        document({"error": {"message": "Insufficient credits", "code": 402}}, status=402),
        "Insufficient credits",
    ),
    "an unpaid quota": (
        document({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, status=429),
        "no credit or quota left: You exceeded your quota",
    ),
    "a region": (
        document({"error": {"message": "Country not supported", "code": "unsupported_country"}}, status=403),
        "does not permit this request: Country not supported",
    ),
    "a redirection": (document("", status=307, location="http://127.0.0.1:9/v1"), "redirection (307)"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_run_completes_whatever_the_form_of_its_calls(against: WireRun, name: str) -> None:
    answer, count, deviations = CALLS[name]

    played, player = against([answer, END])

    assert (outcome(played).outcome, outcome(played).answer) == ("completed", "the ledger is in order")
    assert [played.result(0, index)["value"]["name"] for index in range(count)] == ["ann", "ben"][:count]
    first = responses(played)[0]
    assert (len(first.proposed_calls), first.deviations) == (count, deviations)
    answered = [message for message in player.requests[1]["messages"] if message["role"] == "tool"]
    assert len(answered) == count
    assert replayed(played).reproduced


# Those that may pass: the run waits for the provider. After the others it fails.
PASSING: Final = frozenset(
    {
        "a web page",
        "an error under 200",
        "an error in a chunk",
        "an event of the kind error",
        "an error in a choice",
        "a stream that breaks off",
    }
)


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_fails_or_waits_with_the_words_of_the_provider(against: WireRun, name: str) -> None:
    answer, words = FAILURES[name]

    played, _ = against([answer], budget='model_wait = "1ms"')

    failed = [item.event for item in played.records if isinstance(item.event, ModelFailed)][-1]
    assert words in failed.message
    assert "\n    fix: " in failed.message
    assert failed.passing is (name in PASSING)
    if name in PASSING:
        assert played.ended.finished is None
    else:
        assert (outcome(played).outcome, outcome(played).message) == ("failed", failed.message)
        assert replayed(played).reproduced


@pytest.mark.parametrize("reason", ["", "unknown", "length", "content_filter", None])
def test_calls_of_a_turn_that_may_be_cut_do_not_run(against: WireRun, reason: str | None) -> None:
    cut = stream(delta(tool_calls=[call(LOOK, ANN, id="a", index=0)]), finish(reason), DONE)

    played, _ = against([cut, END])

    assert played.error(0)["code"] == "invalid_arguments"
    assert outcome(played).outcome == "completed"


def test_an_object_of_arguments_with_a_repeated_key_is_refused_as_such(against: WireRun) -> None:
    """Reading the object must not drop one of the two values."""
    twice = 'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "ledger__look", "arguments": {"name": "ann", "name": "ben"}}}]}}]}\n\n'

    played, _ = against([stream(twice, finish("tool_calls"), DONE), END])

    assert played.error(0)["details"]["problem"] == "duplicate_key"


def test_a_server_that_rejects_stream_options_is_asked_without_them(against: WireRun) -> None:
    def picky(body: dict[str, Any]) -> Answer:
        if "stream_options" in body:
            return document({"error": {"message": "Unrecognized request argument: stream_options"}}, status=400)
        return END

    played, player = against([picky])

    assert outcome(played).outcome == "completed"
    assert ["stream_options" in body for body in player.requests] == [True, False]


def test_a_server_that_cannot_stream_is_asked_for_one_document(against: WireRun) -> None:
    def picky(body: dict[str, Any]) -> Answer:
        if body["stream"]:
            return document({"detail": "streaming is not supported with tools"}, status=400)
        return document(whole(content="in order", reason="stop"))

    played, player = against([picky])

    assert (outcome(played).outcome, outcome(played).answer) == ("completed", "in order")
    assert [body["stream"] for body in player.requests] == [True, False]
