"""The page of a run: one HTML file that needs nothing else."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
