from .chat_completions import ChatCompletionsModel
from .sent_conversation import SentMessage, sent_messages
from .turns import finish_of

__all__ = ["ChatCompletionsModel", "SentMessage", "finish_of", "sent_messages"]
