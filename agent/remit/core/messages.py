"""What a model is asked and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from remit.core.calls import FrozenModel, Json, ProposedCall
from remit.core.errors import RemitError
from remit.core.events import Usage

# How a model ends what it has finished writing; the calls of any other turn must not run.
WHOLE: Final = frozenset({"stop", "tool_calls"})


class ModelError(RemitError):
    """The model could not be asked, or its answer could not be read.

    `retryable` says that asking again later may help; `message` is one line without secrets.
    """

    def __init__(self, message: str, *, fix: str, retryable: bool = False) -> None:
        self.message = message
        self.fix = fix
        self.retryable = retryable
        super().__init__(f"{message}\n    fix: {fix}")


class ToolSpec(FrozenModel):
    """One action as a model is offered it. `name` is provider-safe (`files__read`), `input` a JSON Schema."""

    name: str
    description: str
    input: dict[str, Json]


class Message(FrozenModel):
    """One message of the conversation.

    `asks` are the calls of an assistant message. `ask_id` of a tool message is the `Ask.id` that it answers; where ids
    repeat or are empty, answers belong to the asks in their order.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    call_id: str = ""


class ModelTurn(FrozenModel):
    """What the model answered.

    `finish` is one of WHOLE, "length" (cut, or ended without saying why), or the provider's own word.
    """

    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    finish: str
    usage: Usage = Usage()
    response_model: str = ""

    @property
    def size(self) -> int:
        """About how many characters its calls hold."""
        return sum(len(ask.arguments or "") or len(repr(ask.parsed)) for ask in self.proposed_calls)


class Model(Protocol):
    """One method: the next turn."""

    @property
    def name(self) -> str:
        """As the agent names it: `openai:gpt-5`."""
        ...

    @property
    def scripted(self) -> bool:
        """The turns were written beforehand, by a person."""
        ...

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Answer the conversation. `step` counts the model's own turns from 0. Raises ModelError."""
        ...
