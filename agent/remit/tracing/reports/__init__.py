"""Read-only reports about recorded runs: timeline, incident report, differences, statistics, verification."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
