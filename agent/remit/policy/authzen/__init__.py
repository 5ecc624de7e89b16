"""AuthZEN 1.0: the questions of enforcement points as requests to the policy, and its decisions as their answers."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
