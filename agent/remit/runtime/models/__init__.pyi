from .langchain import finish_of
from .scripted import ScriptedModel
from .selection import open_model

__all__ = ["ScriptedModel", "finish_of", "open_model"]
