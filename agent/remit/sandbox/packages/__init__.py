"""The Python packages of a tool: locked, installed once, read-only."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
