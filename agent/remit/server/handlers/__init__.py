"""What each route does: one module for each kind of object. Each acts as the principal of the request, by `AsyncRemit`."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
