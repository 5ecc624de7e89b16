"""Writes the incident report of a run as one self-contained HTML file; the frame of such a file serves other reports too."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
