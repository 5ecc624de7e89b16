"""Exact comparison of two sets of rules: the space of requests, cut into cells that each rule treats alike."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
