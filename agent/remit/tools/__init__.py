"""The loop of a tool's author: new, try, test, observe, pin."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
