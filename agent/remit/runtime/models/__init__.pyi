from .conformance import ModelCheck, ModelReport, check_model
from .scripted import ScriptedModel
from .selection import open_model
from .wire import finish_of

__all__ = ["ModelCheck", "ModelReport", "ScriptedModel", "check_model", "finish_of", "open_model"]
