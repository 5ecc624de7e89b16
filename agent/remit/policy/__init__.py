"""Policy: may these subjects do this to these resources, given these facts (the policy decision point).

`load_policy` reads `policies/`, `Policy.decide` answers. `casbin_reference` has the same model in Casbin.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
