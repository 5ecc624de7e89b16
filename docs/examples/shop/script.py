"""A chat model of LangChain that makes the calls of a list, one a turn. In your agent, a provider's model is here."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool


class Script(BaseChatModel):
    """Its next turn is the one after the turns that the conversation already has."""

    turns: list[tuple[str, dict[str, Any]]]

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **_: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        number = sum(isinstance(message, AIMessage) for message in messages)
        turn = AIMessage("Done.")
        if number < len(self.turns):
            name, arguments = self.turns[number]
            turn = AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call-{number}"}])
        return ChatResult(generations=[ChatGeneration(message=turn)])
