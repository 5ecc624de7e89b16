from .claims import Grounding
from .numbers import Number, numbers_of

__all__ = ["Grounding", "Number", "numbers_of"]
