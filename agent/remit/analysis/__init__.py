"""Questions about rules that no single decision answers: what changes, what is dead, what is tested, what is used."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
