"""The settings of a model: sent to each kind of provider, recorded with each request, and part of the agent's definition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import UsageError, WorkspaceError
from remit.core.events import ModelRequested, ModelSettings
from remit.runtime import runner as run
from remit.runtime.models.selection import open_model
from remit.workspace.session import open_session
from support.lifecycle import replayed
from support.openai_server import OpenAIServer, Reply
from support.principals import OPERATOR
from support.runs import DONE, Played

TABLE = """
[model_settings]
temperature = 0
top_p = 0.9
max_tokens = 4000
seed = 7
stop = ["END"]
reasoning_effort = "low"
extra = { verbosity = "low" }
"""


@pytest.fixture(autouse=True)
def _a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")


def played_by(server: OpenAIServer, folder: Path) -> Played:
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="look", subject="user:operator", by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))


def requests_of(played: Played) -> list[ModelRequested]:
    return [item.event for item in played.records if isinstance(item.event, ModelRequested)]


def test_the_settings_of_agent_toml_are_sent_and_recorded_with_each_request(clerk: Callable[..., Path]) -> None:
    replies = [Reply(calls=[("ledger__look", '{"name": "ann"}')]), Reply(text="done")]
    with OpenAIServer(replies) as server:
        folder = clerk([DONE], model="openai:any", budget=TABLE)
        agent = folder / "agent/clerk/agent.toml"
        agent.write_text(agent.read_text().replace("prompt =", f'base_url = "{server.base_url}"\nprompt ='))
        played = played_by(server, folder)
    assert len(server.requests) == 2
    for body in server.requests:
        most = body["max_tokens"]
        sent = {name: body[name] for name in ("temperature", "top_p", "seed", "stop", "reasoning_effort", "verbosity")}
        assert (sent, most) == (
            {
                "temperature": 0,
                "top_p": 0.9,
                "seed": 7,
                "stop": ["END"],
                "reasoning_effort": "low",
                "verbosity": "low",
            },
            4000,
        )
    expected = ModelSettings(
        temperature=0,
        top_p=0.9,
        max_tokens=4000,
        seed=7,
        stop=("END",),
        reasoning_effort="low",
        extra={"verbosity": "low"},
    )
    assert [request.settings for request in requests_of(played)] == [expected, expected]
    assert replayed(played).reproduced


def test_a_server_that_names_the_most_tokens_otherwise_is_asked_again_by_its_name() -> None:
    reason = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    with OpenAIServer([Reply(status=400, message=reason), Reply(text="one"), Reply(text="two")]) as server:
        settings = ModelSettings(max_tokens=300)
        model = open_model("openai:any", folder=Path(), base_url=server.base_url, settings=settings)
        texts = [asyncio.run(model.think(number, _question(), [])).text for number in range(2)]
    assert texts == ["one", "two"]
    sent = [{name: body.get(name) for name in ("max_tokens", "max_completion_tokens")} for body in server.requests]
    other = {"max_tokens": None, "max_completion_tokens": 300}
    assert sent == [{"max_tokens": 300, "max_completion_tokens": None}, other, other]


def test_further_members_of_a_request_do_not_replace_those_of_remit() -> None:
    with OpenAIServer([Reply(text="done")]) as server:
        settings = ModelSettings(extra={"messages": [], "model": "another", "stream": False, "verbosity": "low"})
        model = open_model("openai:any", folder=Path(), base_url=server.base_url, settings=settings)
        asyncio.run(model.think(0, _question(), []))
    (body,) = server.requests
    assert (body["model"], len(body["messages"]), body["stream"], body["verbosity"]) == (
        "any",
        len(_question()),
        True,
        "low",
    )


def test_what_agent_toml_does_not_set_is_not_sent() -> None:
    with OpenAIServer([Reply(text="done")]) as server:
        model = open_model("openai:any", folder=Path(), base_url=server.base_url)
        asyncio.run(model.think(0, _question(), []))
    assert server.requests[0].keys() <= {"model", "messages", "stream", "stream_options"}


def test_a_script_has_no_settings_and_none_are_recorded(clerk: Callable[..., Path]) -> None:
    folder = clerk([DONE], budget=TABLE)
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    assert [request.settings for request in requests_of(played)] == [ModelSettings()]


@pytest.mark.parametrize(
    ("spec", "settings", "name"),
    [
        ("anthropic:any", ModelSettings(seed=1), "seed"),
        ("ollama:any", ModelSettings(extra={"a": 1}), "extra"),
    ],
)
def test_a_setting_that_the_provider_does_not_have_keeps_the_run_from_starting(
    monkeypatch: pytest.MonkeyPatch, spec: str, settings: ModelSettings, name: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    with pytest.raises(UsageError, match=rf"has no setting '{name}': remove it from \[model_settings\] in agent.toml"):
        open_model(spec, folder=Path(), settings=settings)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("temperature = 3", "temperature"),
        ("top_p = 0", "top_p"),
        ("max_tokens = 0", "max_tokens"),
        ('reasoning_effort = "hard"', "reasoning_effort"),
        ("extra = { messages = [] }", "which Remit writes itself"),
        ("extra = { temperature = 1 }", "which is a setting of its own"),
        ("heat = 1", "heat"),
    ],
)
def test_a_setting_that_is_not_valid_is_reported_with_its_line(
    clerk: Callable[..., Path], line: str, what: str
) -> None:
    with pytest.raises(WorkspaceError) as found:
        open_session(clerk([DONE], budget=f"\n[model_settings]\n{line}"))
    (problem,) = found.value.problems
    assert problem.file == "agent/clerk/agent.toml"
    assert what in problem.what
    assert problem.line is not None


def test_other_settings_are_another_definition_so_a_run_does_not_resume_under_them(clerk: Callable[..., Path]) -> None:
    """The settings are in the policy bundle, whose digest each run names."""
    folder = clerk([DONE], budget=TABLE)
    before = open_session(folder).workspace
    agent = folder / "agent/clerk/agent.toml"
    agent.write_text(agent.read_text().replace("seed = 7", "seed = 8"))
    after = open_session(folder).workspace
    assert (before.agents["clerk"].model_settings.seed, after.agents["clerk"].model_settings.seed) == (7, 8)
    assert before.files["agent/clerk/agent.toml"] != after.files["agent/clerk/agent.toml"]


def _question() -> Any:
    from remit.core.messages import Message

    return (Message(role="user", text="Why?"),)
