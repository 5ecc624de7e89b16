"""If a model fails, the next one of the list is asked, and the first one again when its time has come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from remit.client import Remit
from remit.core.errors import WorkspaceError
from remit.core.events import RunFinished, RunStarted
from remit.core.messages import Message, ModelError, ModelTurn, ToolSpec
from remit.runtime import open_fallbacks_of
from remit.runtime import runner as run
from remit.testing import capture_run
from remit.workspace.session import open_session
from support.lifecycle import RUN, Killed, die_at, resumed_after_kill
from support.outages import (
    LOOK,
    PAY,
    Unsteady,
    asked,
    busy,
    completed,
    ended,
    failures_of,
    gone,
    replayed_from_journal,
)
from support.principals import OPERATOR
from support.runs import DONE, Command

pytestmark = pytest.mark.usefixtures("soon")

Clerk = Callable[..., Path]


def scripted(folder: Path, name: str, failures: Mapping[int, ModelError] | None = None) -> Unsteady:
    opened = open_session(folder)
    return Unsteady(run.open_model_of(opened, "clerk"), failures or {}, name=name)


def test_the_next_model_is_asked_at_once_and_the_first_one_again_when_its_time_has_come(clerk: Clerk) -> None:
    class Late(Unsteady):
        async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
            await asyncio.sleep(0.8 if step == 2 else 0)
            return await super().think(step, messages, tools)

    folder = clerk([PAY, LOOK, LOOK, DONE])
    second = Late(run.open_model_of(open_session(folder), "clerk"), {}, name="script:b")
    played = ended(folder, {1: busy(after=0.7)}, second)
    completed(played)
    first = "script:script.yaml"
    assert asked(played) == [(0, first), (1, first), (1, "script:b"), (2, "script:b"), (3, first)]


def test_a_model_that_fails_for_good_is_not_asked_again_and_the_next_one_goes_on(clerk: Clerk) -> None:
    folder = clerk([PAY, LOOK, DONE])
    played = ended(folder, {1: gone("no credit left")}, scripted(folder, "script:b"))
    completed(played)
    assert [name for _, name in asked(played)] == ["script:script.yaml"] * 2 + ["script:b"] * 2
    (failed,) = failures_of(played)
    assert (failed.passing, failed.model) == (False, "script:script.yaml")


def test_a_run_ends_with_the_words_of_the_last_model_when_none_is_left(clerk: Clerk) -> None:
    folder = clerk([PAY, DONE])
    played = ended(folder, {1: gone("the key is wrong")}, scripted(folder, "script:b", {0: gone("no such model")}))
    finished = played.ended.finished
    assert isinstance(finished, RunFinished)
    assert (finished.outcome, finished.message.partition("\n")[0]) == ("failed", "no such model")
    assert replayed_from_journal(played.opened).reproduced
    assert len(played.effects) == 1


def test_one_model_for_good_and_one_in_passing_means_waiting_for_the_second(clerk: Clerk) -> None:
    folder = clerk([PAY, DONE])
    played = ended(folder, {1: gone()}, scripted(folder, "script:b", {0: busy(after=0.3)}))
    completed(played)
    assert [name for _, name in asked(played)] == ["script:script.yaml"] * 2 + ["script:b"] * 2


def short_and_whole(clerk: Clerk) -> Path:
    """An agent with two models: the first script ends after one turn, which does not pass; the second one has all turns."""
    folder = clerk([PAY, DONE])
    (folder / "agent/clerk/short.yaml").write_text(json.dumps({"turns": [PAY]}))
    agent = folder / "agent/clerk/agent.toml"
    listed = 'models = ["script:short.yaml", "script:script.yaml"]'
    agent.write_text(agent.read_text().replace('model = "script:script.yaml"', listed))
    return folder


@pytest.mark.parametrize(
    ("dies_at", "models"),
    [
        # The first model is asked again, because what a process knows of failures ends with it.
        ("model.failed", ["short", "short", "short", "script"]),
        # The request to the second model stands in the record, so that model is asked.
        ("model.requested/1/-/2", ["short", "short", "script"]),
    ],
)
def test_the_list_of_models_in_the_agents_file_is_used_recorded_and_resumed(
    clerk: Clerk, dies_at: str, models: list[str]
) -> None:
    folder = short_and_whole(clerk)
    opened = open_session(folder)
    die_at(opened.journal, dies_at)
    request = run.RunRequest(
        agent="clerk",
        task="pay",
        subject="user:operator",
        by=OPERATOR,
        model=run.open_model_of(opened, "clerk"),
        fallbacks=open_fallbacks_of(opened, "clerk"),
        run=RUN,
    )
    with pytest.raises(Killed):
        asyncio.run(run.start_run(opened, request))
    played = resumed_after_kill(folder)
    completed(played)
    begun = played.records[0].event
    assert isinstance(begun, RunStarted)
    assert (begun.model, begun.fallbacks) == ("script:short.yaml", ("script:script.yaml",))
    assert [name for _, name in asked(played)] == [f"script:{name}.yaml" for name in models]


def test_several_models_can_be_named_for_one_run_and_else_those_of_the_agent_are_asked(
    clerk: Clerk, command: Command
) -> None:
    folder = short_and_whole(clerk)
    listed = command(folder, "run", "clerk", "pay")
    assert listed.code == 0, listed.out + listed.err
    assert "script:short.yaml, then script:script.yaml" in listed.out
    named = command(folder, "run", "clerk", "pay", "--model", "script:short.yaml")
    assert named.code == 1
    both = command(folder, "run", "clerk", "pay", "--model", "script:short.yaml", "--model", "script:script.yaml")
    assert both.code == 0, both.out + both.err


def test_a_client_asks_the_models_of_the_agent_in_order(clerk: Clerk) -> None:
    folder = short_and_whole(clerk)
    with Remit.open(folder) as client:
        assert client.run("clerk", "pay").outcome == "completed"
        assert client.run("clerk", "pay", model="script:short.yaml").outcome == "failed"
    assert capture_run(folder, "clerk", "pay").outcome == "completed"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the key 'model' is missing"),
        ("models = []", "'models'"),
        ('model = "openai:x"\nmodels = ["openai:y"]', "'model' and 'models' are both there"),
        ('models = ["openai:x", "openai:x"]', "'models' names a model twice"),
        ('models = ["openai:x", "gpt"]', "which is not the name of a model"),
        ('models = ["openai:x", "script:none.yaml"]', "'models' names the script 'none.yaml', which is not a file"),
        ('models = ["openai:x"]\nbase_urls = { "openai:x" = "http://h" }', "'base_urls' names 'openai:x'"),
        ('model = "openai:x"\nbase_urls = { "openai:y" = "ftp://h" }', "not an address"),
    ],
)
def test_a_list_of_models_that_cannot_be_meant_is_refused(clerk: Clerk, text: str, what: str) -> None:
    folder = clerk([])
    agent = folder / "agent/clerk/agent.toml"
    agent.write_text(agent.read_text().replace('model = "script:script.yaml"', text))
    with pytest.raises(WorkspaceError, match=what.replace("(", r"\(")):
        open_session(folder)


def test_each_model_of_a_list_has_its_own_address(clerk: Clerk) -> None:
    folder = clerk([])
    agent = folder / "agent/clerk/agent.toml"
    text = (
        'models = ["openai:a", "openai:b", "anthropic:c"]\nbase_url = "http://first/v1"\n'
        'base_urls = { "openai:b" = "http://second/v1" }'
    )
    agent.write_text(agent.read_text().replace('model = "script:script.yaml"', text))
    clerk_agent = open_session(folder).workspace.agents["clerk"]
    addresses = [clerk_agent.address_of(name) for name in (*clerk_agent.models, "openai:other")]
    assert addresses == ["http://first/v1", "http://second/v1", None, "http://first/v1"]
