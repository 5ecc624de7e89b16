"""Models: a script, and the wire format of a real provider."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from remit.core.calls import ProposedCall
from remit.core.errors import UsageError, WorkspaceError
from remit.core.messages import COMPLETE_FINISHES, Message, Model, ModelError, ModelTurn, ToolSpec
from remit.runtime.models.scripted import ScriptedModel
from remit.runtime.models.selection import open_model
from support.openai_server import OpenAIServer, Reply

QUESTION = (Message(role="system", text="You triage."), Message(role="user", text="Why does checkout fail?"))
READ = ToolSpec(
    name="files__read",
    description="Read one text file",
    input={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_PROXY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def openai(server: OpenAIServer) -> Model:
    return open_model("openai:any", folder=Path(), base_url=server.base_url)


async def turn_of(*replies: Reply) -> ModelTurn:
    with OpenAIServer(replies) as server:
        return await openai(server).think(0, QUESTION, [READ])


# The script


def script(tmp_path: Path, text: str) -> ScriptedModel:
    (tmp_path / "script.yaml").write_text(text)
    model = open_model("script:script.yaml", folder=tmp_path)
    assert isinstance(model, ScriptedModel)
    return model


async def test_a_script_answers_step_by_step_with_the_arguments_as_written(tmp_path: Path) -> None:
    model = script(
        tmp_path,
        """\
turns:
  - say: I look at the logs.
    calls:
      - files__read: {path: logs/a.log, deep: {n: 1.5, none: null, yes: true, list: [1, é]}}
      - files__read: '{"path": "a", "path": "b"}'
  - calls: [{mail__send: '{"amount": 10'}]
    finish: length
  - say: The cache is full.
approvals:
  - {action: tickets.close, approver: user:ben, role: role:lead, note: asked in the demo}
""",
    )

    assert (model.name, model.scripted) == ("script:script.yaml", True)
    assert await model.think(0, QUESTION, []) == ModelTurn(
        text="I look at the logs.",
        proposed_calls=(
            ProposedCall(
                name="files__read",
                arguments='{"path":"logs/a.log","deep":{"n":1.5,"none":null,"yes":true,"list":[1,"é"]}}',
                id="call_0_0",
            ),
            ProposedCall(name="files__read", arguments='{"path": "a", "path": "b"}', id="call_0_1"),
        ),
        finish="tool_calls",
        response_model="script",
    )
    cut = await model.think(1, QUESTION, [])
    assert (cut.finish, cut.finish in COMPLETE_FINISHES, cut.proposed_calls[0].arguments) == (
        "length",
        False,
        '{"amount": 10',
    )
    assert (await model.think(2, QUESTION, [])).finish == "stop"
    assert [(a.action, a.approver, a.role, a.note) for a in model.approvals] == [
        ("tickets.close", "user:ben", "role:lead", "asked in the demo")
    ]


async def test_a_script_that_has_ended_is_an_error_with_a_fix(tmp_path: Path) -> None:
    model = script(tmp_path, "turns:\n  - say: Done.\n")

    with pytest.raises(
        ModelError, match=r"the script has ended: it has 1 turns, and turn 2 was requested\n    fix: add a turn"
    ):
        await model.think(1, QUESTION, [])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("turns:\n  - say: a\n    say: b\n", 3, "duplicate key"),
        ("turns: [", 1, "not valid YAML"),
        ("- a\n", 1, "a script is a mapping"),
        ("approvals: []\n", 1, "the script has no turns"),
        ("turns:\n  - say: a\n  - speak: b\n", 3, "unknown key 'speak'"),
        ("turns:\n  - just text\n", 2, "a turn is a mapping"),
        ("turns:\n  - say: 1\n", 2, "`say` is not text"),
        ("turns: 1\n", 1, "`turns` is not a list"),
        ("turns:\n  - say: a\n    finish: maybe\n", 3, "`finish` is 'maybe'"),
        ("turns:\n  - calls:\n      - {a: {}, b: {}}\n", 3, "a call is one name"),
        ("turns:\n  - calls:\n      - files__read: 7\n", 3, "neither a mapping nor text"),
        ("turns:\n  - calls:\n      - 1: {}\n", 3, "the call's name is 1"),
        ("turns:\n  - calls:\n      - a:\n          when: 2024-01-01\n", 4, "'2024-01-01' is not a JSON value"),
        ("turns:\n  - calls:\n      - a:\n          size: .nan\n", 4, "'nan' is not a JSON value"),
        ("turns:\n  - calls:\n      - a:\n          1: x\n", 4, "the key 1 is not text"),
        ("turns: []\napprovals:\n  - {action: a}\n", 3, "approval: 'approver': field required"),
        (
            "turns: []\napprovals:\n  - {action: a, approver: user:b, role: c, who: d}\n",
            3,
            "approval: 'who': extra inputs",
        ),
        (
            "turns: []\napprovals:\n  - {action: a, approver: b, role: c}\n",
            3,
            "approval: 'approver': not the name of a user",
        ),
    ],
)
def test_a_broken_script_is_named_by_file_and_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    with pytest.raises(WorkspaceError) as raised:
        script(tmp_path, text)

    first = raised.value.problems[0]
    assert first.file.endswith("script.yaml")
    assert what in first.what
    assert first.line == line


def test_all_problems_of_a_script_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError) as raised:
        script(tmp_path, "turns:\n  - say: 1\n  - finish: x\nmore: 1\n")

    assert [problem.line for problem in raised.value.problems] == [4, 2, 3]


@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "cannot be read: No such file"), (b"\xff", "not UTF-8"), (b"a: \x01", "not valid YAML")],
)
def test_a_script_that_cannot_be_read_is_one_clear_problem(tmp_path: Path, content: bytes | None, what: str) -> None:
    if content is not None:
        (tmp_path / "s.yaml").write_bytes(content)

    with pytest.raises(WorkspaceError, match=what):
        open_model("script:s.yaml", folder=tmp_path)


# Names


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gpt-5", "is not a model: write script:FILE, openai:MODEL"),
        ("script:", "is not a model"),
        ("acme:large", "unknown model provider 'acme'"),
        ("openai:gpt-5", "needs a key: set OPENAI_API_KEY"),
    ],
)
def test_an_unknown_model_name_is_an_error_that_says_what_to_write(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_model(spec, folder=Path())


def test_a_missing_provider_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_ollama", None)

    with pytest.raises(UsageError, match=r"needs the package 'langchain_ollama': pip install 'remit\[ollama\]'"):
        open_model("ollama:llama4", folder=Path())


# The wire


async def test_a_streamed_turn_keeps_the_text_of_each_call_as_the_model_wrote_it() -> None:
    raw = '{"path": "docs/a.md",  "path":"docs/b.md", "n": NaN}'

    turn = await turn_of(Reply(text="I read two.", calls=[("files__read", raw), ("files__read", '{"path":"é"}')]))

    assert turn == ModelTurn(
        text="I read two.",
        proposed_calls=(
            ProposedCall(name="files__read", arguments=raw, id="call_0000AbCdEf"),
            ProposedCall(name="files__read", arguments='{"path":"é"}', id="call_0001AbCdEf"),
        ),
        finish="tool_calls",
        usage=turn.usage,
        response_model="any-2026-11-01",
    )
    assert turn.usage.output_tokens == 7
    assert turn.usage.input_tokens


async def test_a_turn_cut_by_length_is_incomplete_and_its_text_is_not_repaired() -> None:
    turn = await turn_of(Reply(calls=[("mail__send", '{"to":"ann","amount": 1000}')], cut=24))

    assert (turn.finish, turn.finish in COMPLETE_FINISHES) == ("length", False)
    assert turn.proposed_calls[0].arguments == '{"to":"ann","amount": 10'


async def test_a_stream_that_ends_without_a_reason_counts_as_cut() -> None:
    turn = await turn_of(Reply(calls=[("files__read", '{"path":"a"}')], ending="silent"))

    assert (turn.finish, turn.finish in COMPLETE_FINISHES) == ("length", False)


@pytest.mark.parametrize("indexes", [(0, 0), (None, None)])
async def test_calls_that_share_an_index_stay_two_calls(indexes: tuple[int | None, int | None]) -> None:
    turn = await turn_of(Reply(calls=[("a", '{"a":1}'), ("b", '{"b":2}')], indexes=indexes))

    assert [(call.name, call.arguments) for call in turn.proposed_calls] == [("a", '{"a":1}'), ("b", '{"b":2}')]


async def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert (await turn_of(Reply(calls=[("now", "")]))).proposed_calls[0].arguments == "{}"


async def test_divided_surrogates_are_joined_and_lone_ones_stay_visible() -> None:
    turn = await turn_of(
        Reply(text="\ud83d\ude00 \ud800", calls=[("a", '{"a":"\ud83d\ude00\udc00"}')], fragment=1)  # halves apart
    )

    assert turn.text == "😀 \ufffd"
    assert turn.proposed_calls[0].arguments == '{"a":"😀\\udc00"}'


async def test_a_turn_that_announces_calls_and_has_none_is_an_error() -> None:
    with pytest.raises(ModelError, match="no readable call"):
        await turn_of(Reply(text="I call.", finish="tool_calls"))


async def test_a_turn_stopped_by_a_filter_keeps_the_providers_reason_and_is_incomplete() -> None:
    turn = await turn_of(Reply(calls=[("a", '{"a":1}')], finish="content_filter"))

    assert (turn.finish, turn.finish in COMPLETE_FINISHES) == ("content_filter", False)


async def test_a_turn_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.runtime.models.wire.turns.TURN_CHARACTERS", 1000)

    with pytest.raises(ModelError, match="longer than 1000 characters"):
        await turn_of(Reply(text="x" * 2000, fragment=100))


async def test_the_conversation_is_sent_with_every_answer_paired_with_its_call() -> None:
    proposed_calls = (
        ProposedCall(name="files.read", arguments='{"path": "a"}', id="same"),
        ProposedCall(name="files__read", arguments='{"path": ', id="same"),
        ProposedCall(name="ü" * 80, arguments='{"n": 1e999}', id=""),
        ProposedCall(name="sql__query", arguments=None, parsed={"q": 1}, id="x"),
    )
    messages = (
        *QUESTION,
        Message(role="assistant", text="", proposed_calls=proposed_calls),
        Message(role="tool", text="first", call_id="same"),
        Message(role="tool", text="second", call_id="same"),
        Message(role="tool", text="fourth", call_id="x"),
        Message(role="tool", text="third", call_id=""),
    )
    with OpenAIServer([Reply(text="ok")]) as server:
        await openai(server).think(1, messages, [READ])

    sent = server.requests[0]
    calls, answers = sent["messages"][2]["tool_calls"], sent["messages"][3:]
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        ("files_read", '{"path": "a"}'),
        ("files__read", '{"unparsed": "{\\"path\\": "}'),
        ("_" * 64, '{"unparsed": "{\\"n\\": 1e999}"}'),
        ("sql__query", '{"q": 1}'),
    ]
    assert [(calls[i]["id"], text) for i, text in ((0, "first"), (1, "second"), (3, "fourth"), (2, "third"))] == [
        (answer["tool_call_id"], answer["content"]) for answer in answers
    ]
    assert sent["tools"] == [
        {
            "type": "function",
            "function": {"name": "files__read", "description": READ.description, "parameters": READ.input},
        }
    ]
    assert sent["stream"] is True


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ((Message(role="tool", text="", call_id="x"),), "message 0 answers the call 'x', which does not exist"),
        (
            (Message(role="assistant", text="", proposed_calls=(ProposedCall(name="a", arguments="{}", id="x"),)),),
            "the call 'x' has no answer",
        ),
        (
            (
                Message(role="assistant", text="", proposed_calls=(ProposedCall(name="a", arguments="{}", id="x"),)),
                QUESTION[1],
            ),
            "message 1 comes before the answer to the call 'x'",
        ),
    ],
)
async def test_a_conversation_with_unanswered_calls_is_never_sent(messages: tuple[Message, ...], says: str) -> None:
    with OpenAIServer([Reply(text="ok")]) as server:
        with pytest.raises(ModelError, match=says):
            await openai(server).think(0, messages, [])
        assert server.requests == []


async def test_a_tool_name_outside_the_providers_pattern_is_refused_in_one_sentence() -> None:
    with OpenAIServer([Reply(text="ok")]) as server:
        with pytest.raises(
            ModelError, match=r"rejected the request with 400: .*string does not match pattern"
        ) as raised:
            await openai(server).think(0, QUESTION, [READ.model_copy(update={"name": "files.read"})])
        assert server.played == 0
    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("reply", "says", "retryable"),
    [
        (Reply(status=429, message="slow down, sk-secret\nplease"), "is busy: slow down, … please", True),
        (Reply(status=503), "failed with 503: the server had an error", True),
        (Reply(status=401), "rejected the key", False),
        (Reply(status=404), "was not found", False),
        (Reply(text="a long answer", ending="broken", fragment=1), "cannot be reached: ", True),
    ],
)
async def test_a_failing_provider_is_one_sentence_without_secrets(
    monkeypatch: pytest.MonkeyPatch, reply: Reply, says: str, retryable: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    with pytest.raises(ModelError) as raised:
        await turn_of(reply)

    assert says in raised.value.message
    assert raised.value.retryable is retryable
    assert "sk-secret" not in str(raised.value)
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_a_request_that_fails_in_passing_is_made_once(status: int) -> None:
    """The run makes it again, and records that."""
    with OpenAIServer([Reply(status=status), Reply(text="hello")]) as server:
        with pytest.raises(ModelError) as raised:
            await openai(server).think(0, QUESTION, [])
        assert (raised.value.retryable, server.played) == (True, 1)


async def test_an_unreachable_server_is_one_sentence() -> None:
    with OpenAIServer([]) as server:
        model = openai(server)

    with pytest.raises(ModelError, match="cannot be reached") as raised:
        await model.think(0, QUESTION, [])
    assert raised.value.retryable


async def test_the_base_url_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer([Reply(text="hello")], key="sk-mine") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
        turn = await open_model("openai:any", folder=Path()).think(0, QUESTION, [])

    assert turn.text == "hello"
    assert server.requests[0]["model"] == "any"
