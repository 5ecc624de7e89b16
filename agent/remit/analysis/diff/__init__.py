"""Compares two policies or workspaces: what is permitted now that was not before, by rules, manifests, agents and roles."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
