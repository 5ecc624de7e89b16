"""Drafts of rules: for a refused call, for recorded work, for what people approved, and for a new tool."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
