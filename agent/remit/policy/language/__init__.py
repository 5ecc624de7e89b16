"""The rule language: reads and checks the Casbin model, rules, conditions, patterns and roles."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
