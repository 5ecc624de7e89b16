"""`remit doctor`: tries escapes from the sandbox on this machine, and says what each success would mean."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
