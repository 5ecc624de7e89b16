"""`remit doctor --model`: what works with a model, and what to do about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remit.runtime.models import check_model, shapes
from remit.runtime.models.conformance import UNICODE
from support.runs import Command
from support.wire_player import Answer, WirePlayer, call, calls, document, says

PING = "remit__ping"
ECHO = "remit__echo"


def able(body: dict[str, Any]) -> Answer:
    """A server whose model does all that it is asked."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return says(f"It is {json.loads(last['content'])['value']}.")
    asked = last["content"]
    if "two times" in asked:
        pieces = [call(ECHO, json.dumps({"text": text}), id=text, index=n) for n, text in enumerate(("one", "two"))]
        return calls(*pieces)
    if UNICODE in asked:
        return calls(call(ECHO, json.dumps({"text": UNICODE}), id="a", index=0))
    return calls(call(PING, "", id="a", index=0)) if PING in asked else says("ready")


def unable(body: dict[str, Any]) -> Answer:
    """A server without a parser of calls."""
    return says('<tool_call>{"name": "remit__ping"}</tool_call>' if body.get("tools") else "ready")


def nulls(body: dict[str, Any]) -> Answer:
    """A server whose model writes null for an optional argument, and gives no index."""
    if UNICODE in body["messages"][-1]["content"]:
        return calls(call(ECHO, json.dumps({"text": UNICODE, "times": None}), id="a"))
    return able(body)


@pytest.mark.parametrize(
    ("server", "failing"),
    [
        (able, []),
        (
            unable,
            [
                "calls a tool without arguments",
                "calls a tool twice in one turn",
                "keeps characters of every script, and leaves an optional argument out",
                "answers after the result of a tool",
            ],
        ),
        (nulls, ["keeps characters of every script, and leaves an optional argument out"]),
    ],
)
async def test_the_questions_that_a_model_fails_are_named_with_a_fix(server: Any, failing: list[str]) -> None:
    with WirePlayer([server]) as player:
        report = await check_model("openai:some", base_url=player.base_url)

    assert len(report.questions) == 5
    assert [check.name for check in report.questions if not check.ok] == failing
    assert all(check.fix for check in report.questions if not check.ok)
    assert report.ok is (failing == [])
    assert report.deviations == (("calls_without_index",) if server is nulls else ())


async def test_a_model_that_does_not_answer_is_asked_one_question() -> None:
    with WirePlayer([document({"error": "model 'some' not found"}, status=404)]) as player:
        report = await check_model("openai:some", base_url=player.base_url)

    (only,) = report.questions
    assert "model 'some' not found" in only.detail
    assert len(player.requests) == 1


async def test_the_adapter_reads_every_shape_and_a_shape_that_it_cannot_read_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = shapes.Shape(name="a broken one", body=b"data: {}\n\n", state="lost")
    monkeypatch.setattr("remit.runtime.models.conformance.SHAPES", (*shapes.SHAPES, broken))
    with WirePlayer([able]) as player:
        report = await check_model("openai:some", base_url=player.base_url)

    assert len(report.shapes) >= 16
    assert [check.name for check in report.shapes if not check.ok] == ["a broken one"]


def test_doctor_prints_what_will_not_work_and_fails(tmp_path: Path, command: Command) -> None:
    with WirePlayer([unable]) as player:
        failed = command(tmp_path, "doctor", "--model", "openai:some", "--base-url", player.base_url)
    with WirePlayer([able]) as player:
        fine = command(tmp_path, "doctor", "--model", "openai:some", "--base-url", player.base_url, "--json")

    assert failed.code == 1
    assert "FAILS calls a tool without arguments: <tool_call>" in failed.out
    assert "fix: start the server with its parser of tool calls" in failed.out
    assert (fine.code, fine.json["ok"], len(fine.json["questions"])) == (0, True, 5)


def test_doctor_says_what_a_model_needs(tmp_path: Path, command: Command) -> None:
    wrong = command(tmp_path, "doctor", "--model", "acme:large")

    assert wrong.code == 2
    assert "unknown model provider 'acme'" in wrong.err
