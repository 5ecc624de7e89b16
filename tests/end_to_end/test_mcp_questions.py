"""What an MCP server asks a person in the middle of a call is recorded, answered by a person, and replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.core.events import QuestionAnswered, QuestionAsked
from remit.journal import StoredRecord
from remit.runtime import runner
from support.lifecycle import replayed
from support.principals import OPERATOR
from support.runs import Command, Played, turn
from support.workspaces.ledger import pin
from support.workspaces.mcp import again, made, played, text_of

ASK = turn(kit__do={"text": "elicit How large?"})
SEND = turn(kit__send={"text": "elicit How large?"})


def asked(folder: Path, turns: Sequence[Mapping[str, object]], **behaviour: Any) -> Played:
    """A run that waits for the answer to one question."""
    run = played(folder, turns, behaviour)
    assert run.ended.finished is None, "it waits"
    assert len(events(run, QuestionAsked)) == 1
    return run


def events(run: Played, of: type[Any]) -> list[Any]:
    return [item.event for item in run.records if isinstance(item.event, of)]


def resumed(run: Played) -> None:
    asyncio.run(runner.resume_run(run.opened, run.ended.run, by=OPERATOR))


def answered(run: Played, command: Command, *words: str) -> None:
    done = command(run.folder, "answer", run.ended.run, *words)
    assert done.code == 0, done.out + done.err
    resumed(run)


@pytest.mark.parametrize(("turns", "modern"), [(ASK, False), (ASK, True), (SEND, True)])
def test_a_question_waits_for_a_person_whose_answer_the_server_gets_and_the_run_is_replayed(
    tmp_path: Path, command: Command, turns: Mapping[str, object], modern: bool
) -> None:
    run = asked(tmp_path, [turns], modern=modern)
    (listed,) = command(tmp_path, "answer", "--json").json
    assert (listed["asks"]["message"], listed["question"]) == ("How large?", f"{run.ended.run[:8]}/0.0")
    assert "size: integer, required  How large" in command(tmp_path, "answer").out
    answered(run, command, "size=3", "colour=red")
    given = {"action": "accept", "content": {"size": 3, "colour": "red"}}
    assert json.loads(text_of(run, 0)) == given
    (answer,) = events(run, QuestionAnswered)
    assert (answer.answer, answer.by.subject) == (given, "user:operator")
    assert command(tmp_path, "answer", "--json").json == []
    assert not replayed(run).divergences


def test_a_person_may_decline_and_the_server_reads_that(tmp_path: Path, command: Command) -> None:
    run = asked(tmp_path, [ASK])
    answered(run, command, "--decline")
    assert json.loads(text_of(run, 0)) == {"action": "decline"}
    assert not replayed(run).divergences


def test_an_answer_that_does_not_fit_the_question_or_comes_second_is_refused(tmp_path: Path, command: Command) -> None:
    run = asked(tmp_path, [ASK])
    for words in (["size=0"], ["size=large"], ["colour=red"], []):
        done = command(tmp_path, "answer", run.ended.run, *words)
        assert done.code != 0, done.out
    assert command(tmp_path, "answer", run.ended.run, "size=1").code == 0
    assert "0 questions" in command(tmp_path, "answer", run.ended.run, "size=2").err
    resumed(run)
    assert json.loads(text_of(run, 0))["content"] == {"size": 1}


def test_an_answer_is_given_only_to_the_question_that_the_person_has_read(tmp_path: Path, command: Command) -> None:
    run = asked(tmp_path, [turn(kit__do={"text": "elicit-other How large?"})])
    answered(run, command, "size=1")
    assert len(events(run, QuestionAsked)) == 2, "the server asks something else, so a person reads that too"
    assert StoredRecord(run.opened.journal, run.ended.run).state.status == "waiting"


def test_an_older_server_that_asks_in_the_middle_of_an_irreversible_call_gets_no_answer_and_no_second_call(
    tmp_path: Path,
) -> None:
    run = played(tmp_path, [SEND, SEND])
    assert run.error(0)["code"] == "outcome_unknown"
    assert "in the middle of a call that cannot be made again" in run.error(0)["message"]
    assert run.error(1)["code"] == "outcome_unknown"
    assert not events(run, QuestionAsked)
    assert not replayed(run).divergences


def test_a_question_that_is_a_link_is_refused(tmp_path: Path) -> None:
    run = played(tmp_path, [turn(kit__do={"text": "elicit-url Log in"})])
    assert run.error(0)["code"] == "invalid_output"
    assert "a link to open, which Remit does not offer" in run.error(0)["message"]


def test_without_recorded_content_nobody_is_asked_because_no_answer_could_arrive(tmp_path: Path) -> None:
    settings = made(tmp_path) / "remit.toml"
    settings.write_text(f"{settings.read_text()}\n[traces]\ncontent = false\n")
    pin(tmp_path)
    run = again(tmp_path, [ASK])
    assert run.ended.finished is not None
    assert not events(run, QuestionAsked)
