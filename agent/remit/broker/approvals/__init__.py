"""Approvals: what people are asked, and what they answer."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
