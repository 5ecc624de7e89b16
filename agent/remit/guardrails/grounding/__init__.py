"""Grounded answers: whether each claim is what the run has read.

claims   claims with their citations, checked against what the run retrieved
quotes   where a quote stands in a text
numbers  the numbers of a text
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
