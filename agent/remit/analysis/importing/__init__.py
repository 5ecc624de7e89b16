"""Rules of other systems as rules of Remit: Casbin models with their policies, and permission settings of Claude Code."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
