"""Says what the grades of an evaluation show, and what they cannot show. Pure functions of the grades.

outcomes     the outcomes of one variant by scenario and repeat, as baselines keep them
intervals    how far a measured rate may be from the true one
reliability  pass^k: the chance that k runs of a scenario all pass
significance whether a candidate is worse: over scenarios, in one scenario, at any look
power        which drop a suite can see
comparison   a candidate beside its base, and the verdict
summary      the figures of one variant
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
