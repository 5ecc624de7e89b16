"""Lets a change take effect step by step, and takes it back when it does harm.

evidence    how strongly the runs so far speak against a candidate, valid at every look
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
