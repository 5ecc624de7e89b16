"""Approvals: requests to people, and their answers."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
