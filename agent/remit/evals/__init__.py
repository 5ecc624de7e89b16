"""Says how good an agent is, and whether a change makes it worse: scenarios, grades, comparisons.

results     the grades of an evaluation, as every report and every comparison reads them
baseline    the outcomes of a reviewed variant, in a committed file
statistics  what the grades show, and what they cannot show
reports     the grades for people and for programs
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
