"""Exact comparison of two rule sets: requests are divided into equivalence classes, and one of each class is decided."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
