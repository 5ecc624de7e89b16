from .langchain import finish_of
from .scripted import ScriptedModel
from .selection import open_model
from .usage import langchain_usage

__all__ = ["ScriptedModel", "finish_of", "langchain_usage", "open_model"]
