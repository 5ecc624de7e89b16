"""Requirements on an agent's answer: an answer that fails them is asked for again, and the run is at last escalated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.answers import AnswerProblem
from remit.core.errors import WorkspaceError
from remit.core.events import AnswerRejected, RunFinished
from remit.journal.content_omission import omit_content
from remit.runtime import runner as run
from remit.workspace import loader as workspace
from remit.workspace.session import open_session
from support.lifecycle import killed, replayed, resumed_after_kill
from support.principals import OPERATOR
from support.runs import Command, Play, Played, turn

LOOK = turn(ledger__look={"name": "ann"})
MISSING = turn(ledger__look={"name": "gone"})
SCHEMA = {
    "type": "object",
    "properties": {"cause": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["cause"],
    "additionalProperties": False,
}


def say(**answer: Any) -> dict[str, Any]:
    return {"say": json.dumps(answer)}


def finished(played: Played) -> RunFinished:
    assert played.ended.finished is not None
    return played.ended.finished


def rejected(played: Played) -> list[AnswerRejected]:
    return [item.event for item in played.records if isinstance(item.event, AnswerRejected)]


def shaped(clerk: Callable[..., Path], turns: list[dict[str, Any]], answer: str = "") -> Path:
    """The ledger workspace, with an agent whose answer must match `SCHEMA`."""
    folder = asked(clerk(turns), f'schema = "answer.json"\n{answer}')
    (folder / "agent/clerk/answer.json").write_text(json.dumps(SCHEMA))
    return folder


def asked(folder: Path, answer: str) -> Path:
    agent = folder / "agent/clerk/agent.toml"
    agent.write_text(f"{agent.read_text()}\n[answer]\n{answer}")
    return folder


def played_in(folder: Path) -> Played:
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))


def test_an_answer_that_does_not_match_its_schema_is_asked_for_again_with_the_reason(
    clerk: Callable[..., Path],
) -> None:
    """The answer that matches is the answer of the run, also in a Markdown code block."""
    good = f"```json\n{json.dumps({'cause': 'pool', 'count': 2})}\n```"
    played = played_in(shaped(clerk, [LOOK, {"say": "It is the pool."}, say(cause="pool", count="2"), {"say": good}]))
    assert (finished(played).outcome, finished(played).answer) == ("completed", good)
    first, second = rejected(played)
    assert "not one JSON object" in first.problems[0].message
    assert "does not match the schema: count" in second.problems[0].message
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("cited", "problem"),
    [
        (["0.0"], "it cites 1 results of this run and must cite 2; results are 0.0, 1.0"),
        (["0.0", "0.0"], "it cites 1 results of this run and must cite 2; results are 0.0, 1.0"),
        (["0.0", "7.3"], "it cites '7.3', which no result of this run has; results are 0.0, 1.0"),
        (["0.0", "2.0"], "it cites '2.0', which no result of this run has; results are 0.0, 1.0"),
        ("0.0", '"citations" is not a list of texts'),
        ([0.0, 1.0], '"citations" is not a list of texts'),
        (None, '"citations" is not a list of texts'),
    ],
)
def test_an_answer_stands_on_results_of_this_run(play: Play, cited: Any, problem: str) -> None:
    """Invented, failed (2.0), repeated or missing citations do not count. The second answer cites two results."""
    turns = [LOOK, LOOK, MISSING, say(cause="x", citations=cited), say(cause="x", citations=["0.0", "1.0"])]
    played = play(turns, budget="[answer]\ncitations = 2")
    assert [event.problems[0].message for event in rejected(played)] == [problem]
    assert finished(played).outcome == "completed"


@pytest.mark.parametrize("sure", [0.5, True, "high", 1.5, None])
def test_a_guess_is_no_answer(play: Play, sure: Any) -> None:
    played = play(
        [say(cause="x", confidence=sure), say(cause="x", confidence=0.8)], budget="[answer]\nconfidence = 0.8"
    )
    assert len(rejected(played)) == 1
    assert finished(played).outcome == "completed"


def test_an_agent_that_has_no_answer_is_escalated_and_its_words_are_given_to_nobody(
    clerk: Callable[..., Path], command: Command
) -> None:
    """The model is asked again `tries` times. The rejected answers are in the trace only."""
    folder = clerk([LOOK, *[{"say": "surely it is fine"}] * 5], budget="[answer]\ncitations = 1\ntries = 2")
    result = command(folder, "run", "clerk", "x", "--json")
    assert result.code == 1
    body = result.json
    assert (body["outcome"], body["code"], body["answer"]) == ("escalated", "invalid_output", "")
    assert "a person must check the run" in body["message"]
    assert command(folder, "trace", "list", "--failed", "--json").json[0]["outcome"] == "escalated"
    assert [item.type for item in open_session(folder).journal.events(body["run"])].count("answer.rejected") == 2
    assert command(folder, "replay", body["run"]).code == 0


def test_asking_again_counts_against_the_turns_of_the_run(play: Play) -> None:
    played = play([LOOK, *[{"say": "fine"}] * 9], steps=3, budget="[answer]\ncitations = 1\ntries = 10")
    assert (finished(played).outcome, finished(played).code) == ("exhausted", "budget_exhausted")
    assert len(rejected(played)) == 2


def test_a_run_that_is_killed_between_two_answers_keeps_its_count_of_tries(clerk: Callable[..., Path]) -> None:
    folder = clerk([LOOK, *[{"say": "fine"}] * 5], budget="[answer]\ncitations = 1\ntries = 1")
    killed(folder, "answer.rejected")
    played = resumed_after_kill(folder)
    assert finished(played).outcome == "escalated"
    assert [event.step for event in rejected(played)] == [1]
    assert replayed(played).reproduced


def test_the_prompt_contains_the_requirements_on_the_answer(clerk: Callable[..., Path]) -> None:
    prompt = workspace.load_workspace(shaped(clerk, [], "citations = 2\nconfidence = 0.7\n")).agents["clerk"].prompt
    assert prompt.startswith("Keep the ledger.\n")
    assert all(word in prompt for word in ('"cause"', "at least 2 results", '"confidence"'))


def test_the_problems_of_an_answer_are_omitted_with_the_content() -> None:
    event = omit_content(
        AnswerRejected(step=1, problems=(AnswerProblem(code="wrong_citations", message="it cites 'ann'"),))
    )
    assert event == AnswerRejected(step=1, problems=())


@pytest.mark.parametrize(
    ("schema", "answer", "what"),
    [
        (None, 'schema = "nothing.json"', "'schema' is 'nothing.json', which is not a file"),
        ("[1]", 'schema = "answer.json"', "not one JSON object"),
        ('{"type": "object", "if": {}}', 'schema = "answer.json"', "if"),
        (None, "citations = -1", "citations"),
        (None, "confidence = 2", "confidence"),
        (None, "schemas = 1", "unknown key 'answer.schemas'"),
    ],
)
def test_a_requirement_that_is_not_valid_is_reported_before_a_run_starts(
    clerk: Callable[..., Path], schema: str | None, answer: str, what: str
) -> None:
    folder = asked(clerk([]), answer)
    if schema is not None:
        (folder / "agent/clerk/answer.json").write_text(schema)
    with pytest.raises(WorkspaceError, match=what):
        workspace.load_workspace(folder)
