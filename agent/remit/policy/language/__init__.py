"""The rules as text: the Casbin model, rules, conditions, patterns and roles, read strictly."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
