"""The commands of a tool author: new, try, test, observe, env and pin."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
