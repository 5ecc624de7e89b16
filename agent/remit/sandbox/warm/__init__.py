"""Warm tools: a process that has imported the tool, and a new child of it for each call."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
