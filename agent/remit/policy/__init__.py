"""Policy decision point: may these subjects do this action on these resources, given these facts.

`load_policy` reads `policies/`, `Policy.decide` decides. `casbin_reference` runs the same rules in stock Casbin.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
