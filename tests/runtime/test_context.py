"""What a model reads of a long run: parts of long results, and a conversation that stays below a limit."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.calls import Error, Failed, ProposedCall, Succeeded
from remit.core.errors import WorkspaceError
from remit.core.events import CallAnswered, ContextReduced, ModelFailed
from remit.core.excerpts import excerpt_message, page_of, result_message, result_text
from remit.core.messages import Message, Model, ModelError, ModelTurn, ToolSpec
from remit.runtime import runner as run
from remit.workspace import loader as workspace
from remit.workspace.session import open_session
from support.lifecycle import Killed, die_at, replayed, resumed_after_kill
from support.principals import OPERATOR
from support.runs import DONE, Command, Played, turn

LIMIT: Final = 64 * 1024
TURNS: Final = 300
LINES: Final = 300  # of each result, about 7 KB
READ_RULES: Final = "p, agent:clerk, remit.read_result, result:*, True, allow\np, role:people, remit.read_result, result:*, True, allow\n"
LOOK: Final = (
    "def look(name: str, text: str = \"\") -> dict[str, str]:\n    return {'name': name, 'text': lines(name)}\n"
)
REFUSED: Final = (
    "from typing import Annotated\n\nfrom pydantic import AfterValidator\n\n\n"
    "def refused(name):\n    raise ValueError(f'the note of {name} is lost')\n\n\n"
)
TEXT: Final = (
    "import hashlib\n\n\ndef lines(name):\n"
    "    return ''.join(f'{name} line {n}: {hashlib.sha256(f\"{name}{n}\".encode()).hexdigest()[:8]}\\n' for n in range(300))\n\n\n"
)


def reading(folder: Path, *, context: str = "", rules: str = READ_RULES) -> Path:
    """The ledger workspace with long results, and an agent that can read them in parts."""
    host = folder / "hosted/ledger_host.py"
    host.write_text(host.read_text().replace("ACTIONS = ", f"{TEXT}{LOOK}\n\nACTIONS = "))
    agent = folder / "agent/clerk/agent.toml"
    text = agent.read_text().replace('tools = ["ledger"]', 'tools = ["ledger", "remit.read_result"]')
    agent.write_text(f"{text}\n[context]\n{context}\n")
    policy = folder / "policies/rules.csv"
    policy.write_text(policy.read_text() + rules)
    return folder


def played_by(folder: Path, model: Model | None = None) -> Played:
    opened = open_session(folder)
    asked = model or run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="quote", subject="user:operator", by=OPERATOR, model=asked, run="e" * 32)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))


def reductions(played: Played) -> list[ContextReduced]:
    return [item.event for item in played.records if isinstance(item.event, ContextReduced)]


def look(name: str) -> ModelTurn:
    call = ProposedCall(name="ledger__look", arguments=json.dumps({"name": name}))
    return ModelTurn(text="", proposed_calls=(call,), finish="tool_calls")


def size_of(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
    """The bytes that this model gets, counted without the code under test."""
    sent = [
        item.model_dump(mode="json", exclude=None if getattr(item, "provider_state", "") else {"provider_state"})
        for item in (*messages, *tools)
    ]
    return len(json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode())


class Quoting:
    """A model that has only what it is sent: it reads 300 accounts, then a line of the first result, and quotes it."""

    name = "script:script.yaml"
    scripted = True

    def __init__(self, turns: int, line: str) -> None:
        self._turns = turns
        self._line = line
        self.longest = 0

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        self.longest = max(self.longest, size_of(messages, tools))
        if step < self._turns - 2:
            return look(f"a{step}")
        if step == self._turns - 2:
            first = next(line for message in messages for line in message.text.splitlines() if "ledger.look" in line)
            handle = first.removeprefix("- ").split()[0]
            arguments = json.dumps({"call": handle, "find": self._line})
            call = ProposedCall(name="remit__read_result", arguments=arguments)
            return ModelTurn(text="", proposed_calls=(call,), finish="tool_calls")
        page = json.loads(messages[-1].text)["value"]["text"]
        return ModelTurn(text=page.partition("\\n")[0], finish="stop")


class Refusing:
    """A model that refuses a conversation of more than `most` bytes, as a provider does, and otherwise looks `turns` times."""

    name = "script:script.yaml"
    scripted = True

    def __init__(self, most: int, turns: int) -> None:
        self._most = most
        self._turns = turns
        self.asked = 0

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        self.asked += 1
        if size_of(messages, tools) > self._most:
            raise ModelError("the context length is exceeded: 9999 tokens", fix="shorten it", overflow=True)
        return look(f"a{step}") if step < self._turns else ModelTurn(text="done", finish="stop")


# ── one result ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(40))
def test_of_a_long_result_the_model_gets_the_beginning_and_the_end_in_a_bounded_size(seed: int) -> None:
    """Texts of every width and with every escape; all parts read one after the other are the whole text."""
    chance = random.Random(seed)
    alphabet = chance.choice(['ab "\\', "a\n\t\x01\x7f", "äß€", "a😀", "\x00\x1f"])
    text = "".join(chance.choices(alphabet, k=chance.randint(5_000, 20_000)))
    value = chance.choice([text, {"text": text}, [text, 1], {"rows": [text[:100]] * 60}])
    most, labels = chance.choice([1024, 2000, 4096]), ("untrusted",) * chance.randint(0, 3)
    whole = result_message("3.1", Succeeded(value=value, labels=labels))
    shown = excerpt_message(whole, most, readable=True)
    assert len(shown.encode()) <= most
    excerpt, full = json.loads(shown)["excerpt"], result_text(whole)
    assert full.startswith(excerpt["head"])
    assert full.endswith(excerpt["tail"])
    begin, end = excerpt["left_out"]
    assert excerpt["head"] + full[begin:end] + excerpt["tail"] == full
    read, at = "", 0
    while at < excerpt["characters"]:
        page = page_of(full, at, most=most, labels=labels)
        assert len(result_message("9.9", Succeeded(value=page, labels=labels)).encode()) <= most
        assert page["end"] > at
        read, at = read + page["text"], page["end"]
    assert read == full


def test_a_long_error_is_shortened_like_a_long_value() -> None:
    failed = Failed(error=Error(code="tool_failed", message="m" * 2000, details={"refused": ["x" * 50] * 50}))
    shown = json.loads(excerpt_message(result_message("0.0", failed), 1024, readable=False))
    assert (shown["ok"], shown["call"]) == (False, "0.0")
    assert shown["next_step"].startswith("ask for less")


def test_words_of_a_tool_that_refused_arguments_have_its_labels_when_they_are_read_again(
    clerk: Callable[..., Path],
) -> None:
    turns = [turn(ledger__look={"name": "ann"}), turn(remit__read_result={"call": "0.0"}), DONE]
    folder = reading(clerk(turns))
    host = folder / "hosted/ledger_host.py"
    checked = LOOK.replace("name: str", "name: Annotated[str, AfterValidator(refused)]")
    refusing = f"{REFUSED}{checked}"
    host.write_text(host.read_text().replace(LOOK, refusing))
    played = played_by(folder)
    assert "the note of ann is lost" in played.error(0)["message"]
    assert "the note of ann is lost" in played.result(1)["value"]["text"]
    assert played.result(1)["labels"] == ["seen"]


def test_the_record_has_a_long_result_whole_and_the_model_reads_it_in_parts(clerk: Callable[..., Path]) -> None:
    """The model gets the label of the text that it reads again. A replay makes the same parts."""
    parts = [
        turn(remit__read_result={"call": "0.0", "find": "ann line 150:"}),
        turn(remit__read_result={"call": "0.0", "offset": 7000}),
    ]
    folder = reading(clerk([turn(ledger__look={"name": "ann"}), *parts, DONE]), context='result = "2KiB"')
    played = played_by(folder)
    whole = played.result(0)["value"]["text"]
    assert len(whole.splitlines()) == LINES
    first, last = played.result(1), played.result(2)
    assert first["value"]["text"].startswith(f"ann line 150: {whole.partition('ann line 150: ')[2][:8]}")
    assert (first["labels"], last["labels"]) == (["seen"], ["seen"])
    text = result_text(result_message("0.0", Succeeded(value=played.result(0)["value"])))
    assert last["value"] == {"text": text[7000:], "offset": 7000, "end": len(text), "characters": len(text)}
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ({"call": "7.0"}, "tool_failed", "no earlier result of this run is '7.0'"),
        ({"call": "1.0"}, "tool_failed", "no earlier result of this run is '1.0'"),
        ({"call": "0.0", "offset": 10**6}, "tool_failed", "it has not so many"),
        ({"call": "0.0", "find": "nowhere"}, "tool_failed", "it does not have that text"),
        ({"call": "0"}, "invalid_arguments", "pattern"),
        ({"call": "00.0"}, "invalid_arguments", "pattern"),
        ({"call": "0.0", "offset": -1}, "invalid_arguments", "offset"),
    ],
)
def test_a_part_that_is_not_there_is_an_error_that_says_what_is(
    clerk: Callable[..., Path], arguments: dict[str, Any], code: str, message: str
) -> None:
    played = played_by(reading(clerk([turn(ledger__look={"name": "ann"}), turn(remit__read_result=arguments), DONE])))
    assert played.error(1)["code"] == code
    assert message in json.dumps(played.error(1))


def test_reading_a_result_is_decided_by_the_rules_like_every_call(clerk: Callable[..., Path]) -> None:
    deny = f"{READ_RULES}p, agent:clerk, remit.read_result, result:0.0, True, deny\n"
    turns = [turn(ledger__look={"name": name}) for name in ("ann", "ben")]
    parts = [turn(remit__read_result={"call": call}) for call in ("0.0", "1.0")]
    played = played_by(reading(clerk([*turns, *parts, DONE]), rules=deny))
    assert (played.error(2)["code"], played.result(3)["ok"]) == ("policy_denied", True)
    assert [item.outcome for item in played.ended.receipt] == ["done", "done", "refused", "done"]


def test_without_a_rule_nobody_reads_a_result_and_without_the_action_results_are_given_whole(
    clerk: Callable[..., Path],
) -> None:
    turns = [turn(ledger__look={"name": "ann"}), turn(remit__read_result={"call": "0.0"}), DONE]
    folder = reading(clerk(turns), rules="")
    assert played_by(folder).error(1)["code"] == "policy_denied"
    agent = folder / "agent/clerk/agent.toml"
    agent.write_text(
        agent.read_text().replace(', "remit.read_result"', "").replace("[context]", '[context]\nresult = "1KiB"')
    )
    opened, received = open_session(folder), Refusing(10**9, 2)
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=received)
    ended = asyncio.run(run.start_run(opened, start))
    played = Played(folder=folder, opened=opened, ended=ended)
    assert len(played.result(1)["value"]["text"].splitlines()) == LINES
    assert [spec.name for spec in _offered(folder)].count("remit__read_result") == 0


def _offered(folder: Path) -> tuple[ToolSpec, ...]:
    from remit.workspace import tool_specs

    loaded = workspace.load_workspace(folder)
    return tool_specs(loaded, loaded.agents["clerk"])


# ── the whole conversation ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_of_300_turns_and_2_mb_of_results_stays_below_its_limit_and_no_result_is_lost(
    clerk: Callable[..., Path], command: Command
) -> None:
    """The model quotes a line of the first result from nothing but what it is sent. The run is replayed."""
    folder = reading(clerk([], steps=400, calls=400), context='limit = "64KiB"')
    model = Quoting(TURNS, "a0 line 123: ")
    played = played_by(folder, model)
    results = [item.event for item in played.records if isinstance(item.event, CallAnswered)]
    assert sum(len(json.dumps(event.result.model_dump(mode="json"))) for event in results) >= 2_000_000
    assert model.longest <= LIMIT
    assert played.ended.answer in played.result(0)["value"]["text"].splitlines()
    assert played.ended.answer.startswith("a0 line 123: ")
    assert {event.cause for event in reductions(played)} == {"limit"}
    assert replayed(played).reproduced
    shown = command(folder, "trace", "show", played.ended.run).out
    assert "is longer than the limit: the model reads it from step" in shown


def test_a_conversation_that_the_model_refuses_as_too_long_is_sent_again_shorter(clerk: Callable[..., Path]) -> None:
    folder = reading(clerk([], steps=40))
    model = Refusing(40_000, 20)
    played = played_by(folder, model)
    assert played.ended.outcome == "completed"
    found = reductions(played)
    assert {event.cause for event in found} == {"overflow"}
    assert all("9999 tokens" in event.message for event in found)
    assert model.asked == 21 + len(found)
    assert len(found) <= 5  # half is left out at once, so that not every turn is refused
    assert replayed(played).reproduced


def test_many_long_results_of_one_turn_are_shown_in_less_if_the_model_refuses_them(clerk: Callable[..., Path]) -> None:
    """No older turn can be left out, so each of the results gets shorter."""

    class Wide(Refusing):
        async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
            one = await super().think(step, messages, tools)
            return one.model_copy(update={"proposed_calls": one.proposed_calls * 8}) if one.proposed_calls else one

    played = played_by(reading(clerk([])), Wide(30_000, 1))
    assert played.ended.outcome == "completed"
    assert [(event.before, event.result) for event in reductions(played)] == [(0, 2048)]
    assert replayed(played).reproduced


def test_a_run_whose_model_refuses_every_length_fails_with_the_words_of_the_provider(
    clerk: Callable[..., Path],
) -> None:
    """It is asked a few times, not for ever."""
    model = Refusing(0, 3)
    played = played_by(reading(clerk([])), model)
    assert (played.ended.outcome, model.asked) == ("failed", 1)
    assert played.ended.finished is not None
    assert "9999 tokens" in played.ended.finished.message
    assert [item.event.message for item in played.records if isinstance(item.event, ModelFailed)]
    assert replayed(played).reproduced


def test_a_run_that_is_killed_after_it_sent_less_goes_on_with_the_shorter_conversation(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = reading(clerk([*[turn(ledger__look={"name": f"a{step}"}) for step in range(12)], DONE]))
    received: list[int] = []

    async def refusing(self: Any, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        received.append(size_of(messages, tools))
        if received[-1] > 40_000:
            raise ModelError("the context length is exceeded", fix="shorten it", overflow=True)
        return await think(self, step, messages, tools)

    from remit.runtime.models.scripted import ScriptedModel

    think = ScriptedModel.think
    monkeypatch.setattr(ScriptedModel, "think", refusing)
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run="e" * 32)
    die_at(opened.journal, "context.reduced")
    with pytest.raises(Killed):
        asyncio.run(run.start_run(opened, start))
    asked = len(received)
    played = resumed_after_kill(folder)
    assert received[asked] <= 40_000
    assert played.ended.outcome == "completed"
    assert len({event.count for event in reductions(played)}) == len(reductions(played)) >= 1
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("context", "what"),
    [
        ('limit = "1KiB"', "'context.limit' is '1KiB', which is too little"),
        ('result = "10B"', "'context.result' is '10B', which is too little"),
        ("limit = 5", "context.limit"),
        ('most = "1MiB"', "unknown key 'context.most'"),
    ],
)
def test_a_limit_that_is_not_valid_is_reported_before_a_run_starts(
    clerk: Callable[..., Path], context: str, what: str
) -> None:
    with pytest.raises(WorkspaceError, match=what):
        workspace.load_workspace(reading(clerk([]), context=context))
