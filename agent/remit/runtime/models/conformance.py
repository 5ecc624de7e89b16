"""Tests a model: its adapter with the forms of answers that servers send, and the real endpoint with five harmless questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.core import Message, Model, ModelError, ModelTurn, ProposedCall, ToolSpec
from remit.core.parsing import load_json
from remit.runtime.models.selection import open_model
from remit.runtime.models.shapes import ACTION, SHAPES, TEXT, Shape
from remit.runtime.models.wire.chat_completions import ChatCompletionsModel
from remit.runtime.models.wire.event_stream import is_object
from remit.runtime.models.wire.played import Played

UNICODE: Final = "Grüße, 世界, 🌍"
_RESULT: Final = "4711"
_PING: Final = ToolSpec(
    name="remit__ping", description="Returns a number. It has no arguments.", input={"type": "object", "properties": {}}
)
_ECHO: Final = ToolSpec(
    name=ACTION,
    description="Returns the text that it is given.",
    input={
        "type": "object",
        "properties": {"text": {"type": "string"}, "times": {"type": "integer", "default": 1}},
        "required": ["text"],
    },
)
_SYSTEM: Final = Message(role="system", text="You test a connection. Do exactly what you are asked, and nothing else.")


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """One check. `detail` is its result, `fix` what to do about a failure; both may be ""."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What works with a model: `shapes` at Remit's adapter, `questions` at the real endpoint.

    `shapes` is empty if a library of the provider reads its answers. `deviations` are the ways in which the endpoint's answers
    differ from the usual wire format.
    """

    model: str
    shapes: tuple[ModelCheck, ...]
    questions: tuple[ModelCheck, ...]
    deviations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in (*self.shapes, *self.questions))


async def check_model(spec: str, *, base_url: str | None = None) -> ModelReport:
    """Check the model that `spec` names. The questions cost a few hundred tokens; no tool runs.

    Raises:
        UsageError: the name is not valid, or the provider's package or key is missing.
    """
    model = open_model(spec, folder=Path(), base_url=base_url)
    shapes = [await _check_shape(shape) for shape in SHAPES] if spec.startswith("openai:") else []
    asking = _Questions(model)
    questions = await asking.ask_all()
    return ModelReport(
        model=spec, shapes=tuple(shapes), questions=questions, deviations=tuple(sorted(asking.deviations))
    )


async def _check_shape(shape: Shape) -> ModelCheck:
    played = Played(shape.status, shape.body)
    model = ChatCompletionsModel("shape", name="openai:shape", base_url="http://adapter", transport=played)
    question = (_SYSTEM, Message(role="user", text="play"))
    try:
        turn = await model.think(0, question, [_ECHO])
        if shape.state:
            await model.think(1, _continued(question, turn, TEXT), [_ECHO])
    except ModelError as error:
        ok = shape.error != "" and shape.error in error.message
        return ModelCheck(name=shape.name, ok=ok, detail="" if ok else error.message, fix="" if ok else error.fix)
    texts = [_argument(call, "text") for call in turn.proposed_calls]
    ok = not shape.error and texts == [TEXT] * shape.calls and shape.state in played.requests[-1]
    detail = "" if ok else f"read as {turn.model_dump(mode='json')}"
    return ModelCheck(name=shape.name, ok=ok, detail=detail, fix="" if ok else "report this as an error of Remit")


class _Questions:
    """Asks one model the five questions. The first failure to reach it ends them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.deviations: set[str] = set()

    async def ask_all(self) -> tuple[ModelCheck, ...]:
        checks: list[ModelCheck] = []
        for name, ask in (
            ("answers in words", self._words),
            ("calls a tool without arguments", self._no_arguments),
            ("calls a tool twice in one turn", self._parallel),
            ("keeps characters of every script, and leaves an optional argument out", self._unicode),
            ("answers after the result of a tool", self._second_turn),
        ):
            try:
                detail, fix = await ask()
            except ModelError as error:
                checks.append(ModelCheck(name=name, ok=False, detail=error.message, fix=error.fix))
                if len(checks) == 1:
                    break
            else:
                checks.append(ModelCheck(name=name, ok=not fix, detail=detail, fix=fix))
        return tuple(checks)

    async def _ask(self, text: str, tools: Sequence[ToolSpec]) -> ModelTurn:
        return await self._think((_SYSTEM, Message(role="user", text=text)), tools)

    async def _think(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        turn = await self._model.think(0, messages, tools)
        self.deviations.update(turn.deviations)
        return turn

    async def _words(self) -> tuple[str, str]:
        turn = await self._ask("Answer with the one word: ready", [])
        return _shown(turn), "" if turn.text.strip() else "use another model: a run with it ends without an answer"

    async def _no_arguments(self) -> tuple[str, str]:
        turn = await self._ask("Call the tool remit__ping once.", [_PING])
        called = [call.name for call in turn.proposed_calls] == [_PING.name] and _object(turn.proposed_calls[0]) == {}
        return _shown(turn), "" if called else "start the server with its parser of tool calls, or use another model"

    async def _parallel(self) -> tuple[str, str]:
        text = f"Call {ACTION} two times in this one turn: with the text one, and with the text two."
        turn = await self._ask(text, [_ECHO])
        texts = [_argument(call, "text") for call in turn.proposed_calls]
        return _shown(turn), "" if texts == ["one", "two"] else "expect one call a turn: allow more steps in [budget]"

    async def _unicode(self) -> tuple[str, str]:
        turn = await self._ask(f"Call {ACTION} once, with exactly this text and nothing else: {UNICODE}", [_ECHO])
        (call,) = turn.proposed_calls if len(turn.proposed_calls) == 1 else (None,)
        same = call is not None and _argument(call, "text") == UNICODE
        absent = call is not None and _argument(call, "times") in (None, 1) and "null" not in (call.arguments or "")
        if same and absent:
            return _shown(turn), ""
        fix = "give the model identifiers of plain ASCII" if not same else "expect null for arguments with a default"
        return _shown(turn), fix

    async def _second_turn(self) -> tuple[str, str]:
        question = (_SYSTEM, Message(role="user", text="Call the tool remit__ping, then answer with its number."))
        turn = await self._think(question, [_PING])
        if not turn.proposed_calls:
            return _shown(turn), "start the server with its parser of tool calls, or use another model"
        answer = await self._think(_continued(question, turn, _RESULT), [_PING])
        return _shown(answer), "" if _RESULT in answer.text else "use another model: it does not use results"


def _continued(question: Sequence[Message], turn: ModelTurn, result: str) -> tuple[Message, ...]:
    """The conversation after that turn, with this result of each of its calls."""
    calls = tuple(call.model_copy(update={"id": str(index)}) for index, call in enumerate(turn.proposed_calls))
    own = Message(role="assistant", text=turn.text, proposed_calls=calls, provider_state=turn.provider_state)
    results = (Message(role="tool", text=json.dumps({"ok": True, "value": result}), call_id=call.id) for call in calls)
    return (*question, own, *results)


def _object(call: ProposedCall) -> object:
    try:
        return load_json(call.arguments) if call.arguments is not None else call.parsed
    except ValueError:
        return None


def _argument(call: ProposedCall, name: str) -> object:
    value = _object(call)
    return value.get(name) if is_object(value) else None


def _shown(turn: ModelTurn) -> str:
    """The turn on one short line."""
    calls = [f"{call.name}({call.arguments or call.parsed})" for call in turn.proposed_calls]
    return " ".join(" ".join([turn.text, *calls]).split())[:160] or "no words and no calls"
