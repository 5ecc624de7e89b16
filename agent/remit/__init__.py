"""Remit: a policy broker and sandbox for the tool calls of AI agents."""

from remit._face import face

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = face(__name__, __file__)
