"""`remit doctor`: break-outs tried for real on this machine, and what each one would mean."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
