"""What a model is sent and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from remit.core.calls import FrozenModel, Json, ProposedCall
from remit.core.errors import RemitError
from remit.core.events import Deviation, ModelSettings, Usage
from remit.core.principals import Principal

# The finish of a turn that a program made to end the run, as the end of an external graph. It needs no words.
ENDED: Final = "ended"
# The values of `ModelTurn.finish` for a complete turn. A turn that was cut may have a cut call, so its calls must not run.
COMPLETE_FINISHES: Final = frozenset({"stop", "tool_calls", ENDED})


NO_SETTINGS: Final = ModelSettings()


class ModelError(RemitError):
    """The request to the model failed, or its answer could not be read.

    `retryable` is True if the same request may succeed later, and `retry_after` is in how many seconds, if the provider says
    so. `overflow` is True if the conversation is longer than the model accepts. `message` is one line without secrets.
    """

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        retryable: bool = False,
        retry_after: float | None = None,
        overflow: bool = False,
    ) -> None:
        self.message = message
        self.fix = fix
        self.retryable = retryable
        self.retry_after = retry_after
        self.overflow = overflow
        super().__init__(f"{message}\n    fix: {fix}")


class ToolSpec(FrozenModel):
    """One action as it is offered to the model. `name` is provider-safe (`files__read`); `input` is a JSON Schema."""

    name: str
    description: str
    input: dict[str, Json]


class Message(FrozenModel):
    """One message of the conversation.

    `proposed_calls` are the calls of an assistant message. `call_id` of a tool message is the `ProposedCall.id` that it
    answers; if ids repeat or are empty, answers belong to the calls in their order. `provider_state` is that of the turn (see
    `ModelTurn`).
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    call_id: str = ""
    provider_state: str = ""


class ModelTurn(FrozenModel):
    """One turn of the model: a text, proposed calls, or both.

    `finish` is one of COMPLETE_FINISHES, "length" (cut, or ended without a reason), "refusal" (the model refused, and `text` says
    why), or the provider's own word. `response_model` is the model that the provider says it used. `provider_state` is what the
    provider needs back with this turn, as JSON text that only its adapter reads; "" for nothing. `deviations` are the ways in
    which the answer differed from the usual wire format, and was read all the same. `by` is the person who made the calls in place of
    the model; None: the model did.
    """

    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    finish: str
    usage: Usage = Usage()
    response_model: str = ""
    provider_state: str = ""
    deviations: tuple[Deviation, ...] = ()
    by: Principal | None = None

    @property
    def size(self) -> int:
        """The number of characters in its calls, approximately."""
        return sum(len(call.arguments or "") or len(repr(call.parsed)) for call in self.proposed_calls)


class Model(Protocol):
    """A model: it answers a conversation with its next turn.

    One that sends settings to a provider also has the attribute `settings`; see `settings_of`.
    """

    @property
    def name(self) -> str:
        """The model as `agent.toml` names it: `openai:gpt-5`."""
        ...

    @property
    def scripted(self) -> bool:
        """True if a person wrote the turns in advance."""
        ...

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Answer the conversation. `step` counts the model's own turns from 0.

        Raises:
            ModelError: the request failed, or the answer could not be read.
        """
        ...


def known_turn(model: Model) -> ModelTurn | None:
    """The turn of a model that a program outside has asked; None for a model without the attribute `turn`, which is to be asked."""
    turn = getattr(model, "turn", None)
    return turn if isinstance(turn, ModelTurn) else None


def settings_of(model: Model) -> ModelSettings:
    """The settings that the model sends to its provider; none for a model without the attribute `settings`."""
    settings = getattr(model, "settings", None)
    return settings if isinstance(settings, ModelSettings) else NO_SETTINGS
