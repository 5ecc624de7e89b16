"""A model of Inspect that thinks for an agent of Remit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model
from inspect_ai.tool import ToolCall, ToolInfo, ToolParams

from remit.core import Message, ModelError, ModelTurn, ProposedCall, ToolSpec
from remit.core.events import Usage
from remit.inspect_ai.messages import chat_messages, reasoning_state

# The words of Inspect for why a turn ended that Remit has other words for. Of an unknown reason, the turn may be cut.
_FINISHES: Final = {"max_tokens": "length", "model_length": "length", "unknown": "length", "content_filter": "refusal"}


class InspectModel:
    """A model of Inspect as a model of Remit; by default the one that is evaluated.

    Inspect parses the arguments of calls, so that an agent needs `accept_parsed_arguments = true`. `failure` is what Inspect raised
    last: its own limits are among that, and a solver raises it again.
    """

    scripted = False

    def __init__(self, model: Model | None = None) -> None:
        self._model: Final = get_model() if model is None else model
        self.name: Final = f"inspect:{self._model}"
        self.failure: Exception | None = None

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Answer the conversation; see `remit.Model`. Raises ModelError for everything that Inspect raises."""
        offered = [
            ToolInfo(name=tool.name, description=tool.description, parameters=ToolParams.model_validate(tool.input))
            for tool in tools
        ]
        try:
            output = await self._model.generate(chat_messages(messages), tools=offered)
        except ModelError:
            raise
        except Exception as failure:
            self.failure = failure
            what = str(failure).partition("\n")[0] or type(failure).__name__
            raise ModelError(f"{self.name} failed: {what}", fix="see the log of Inspect") from failure
        return self._turn(output)

    def _turn(self, output: ModelOutput) -> ModelTurn:
        if output.empty:
            raise ModelError(f"{self.name} gave no answer: {output.error or 'no reason'}", fix="see the log of Inspect")
        message = output.message
        if output.stop_reason == "model_length" and not message.text and not message.tool_calls:
            raise ModelError(f"the conversation is too long for {self.name}", fix="shorten it", overflow=True)
        return ModelTurn(
            text=message.text or output.error or "",
            proposed_calls=tuple(map(_proposed, message.tool_calls or ())),
            finish=_FINISHES.get(output.stop_reason, output.stop_reason),
            usage=Usage() if output.usage is None else _usage(output.usage),
            response_model=output.model,
            provider_state=reasoning_state(message),
        )


def _proposed(call: ToolCall) -> ProposedCall:
    """The call as the model proposed it. What Inspect could not parse is refused as no JSON."""
    if call.parse_error is not None:
        return ProposedCall(name=call.function, arguments=call.parse_error, id=call.id)
    return ProposedCall(name=call.function, arguments=None, parsed=call.arguments, id=call.id)


def _usage(usage: ModelUsage) -> Usage:
    read, written = usage.input_tokens_cache_read, usage.input_tokens_cache_write
    return Usage(
        input_tokens=usage.input_tokens + (read or 0) + (written or 0),  # Inspect counts the cached ones apart
        output_tokens=usage.output_tokens,
        cache_read=read,
        cache_write=written,
        reasoning=usage.reasoning_tokens,
    )
