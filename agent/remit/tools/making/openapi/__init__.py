"""A tool from the OpenAPI description of a service: each operation is an action, confined to its method and path."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
