"""What a change permits that was not permitted before: rules, manifests, agents, roles."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
