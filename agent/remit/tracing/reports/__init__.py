"""Views of a recorded run, read-only: timeline, incident, differences, statistics, verification."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
