"""Lets a change of an agent take effect step by step, and takes it back when it does harm.

rollouts    opens, moves and ends rollouts; the arm of a user
candidate   the definition that is tried, by digest
placement   which definition and which rules a run has
bars        what is counted against a candidate, and what the runs say
evidence    how strongly they say it, valid at every look
delay       how long it takes until harm is noticed
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
