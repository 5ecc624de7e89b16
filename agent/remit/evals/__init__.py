"""Says how good an agent is, and whether a change makes it worse: scenarios, grades, comparisons.

results     the grades of an evaluation, as every report and every comparison reads them
rollouts    drives a rollout through its stages
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
