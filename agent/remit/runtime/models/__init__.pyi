from .conformance import ModelCheck, ModelReport, check_model
from .scripted import ScriptedApproval, ScriptedModel
from .selection import open_model
from .usage import langchain_usage
from .wire import SentMessage, finish_of, sent_messages

__all__ = [
    "ModelCheck",
    "ModelReport",
    "ScriptedApproval",
    "ScriptedModel",
    "SentMessage",
    "check_model",
    "finish_of",
    "langchain_usage",
    "open_model",
    "sent_messages",
]
