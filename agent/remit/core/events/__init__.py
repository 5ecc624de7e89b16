"""The events of a run: the only state that there is.

An event is written once and never edited. `key` names it within its run: the journal refuses a second event with the same
key, so that two workers on one run cannot both begin the same attempt.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
