from .langchain import finish_of
from .scripted import ScriptModel
from .selection import open_model

__all__ = ["ScriptModel", "finish_of", "open_model"]
