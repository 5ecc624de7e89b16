"""Policy: may these subjects do this to these resources, given these facts (the policy decision point).

`load_policy` reads `policies/`, `Policy.decide` answers. `casbin_reference` has the same model in Casbin.
"""
