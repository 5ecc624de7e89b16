"""`remit check`: everything that can be found wrong in a workspace without running it, and reports of it for other programs."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
