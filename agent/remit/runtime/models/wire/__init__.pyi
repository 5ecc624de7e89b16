from .chat_completions import ChatCompletionsModel
from .turns import finish_of

__all__ = ["ChatCompletionsModel", "finish_of"]
