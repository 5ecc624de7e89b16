"""Policy: may these subjects do this to these resources, given these facts (the PDP).

`load` reads `policies/`, `Policy.decide` answers, `run_cases` holds the answers against the reviewer's table. `stock`
has the same model in Casbin, as the tested reference.
"""

from remit.policy.cases import CaseResult, Coverage, read_cases, run_cases, uncovered
from remit.policy.rules import Vocabulary
from remit.policy.snapshot import Policy, load
from remit.policy.survey import can, who
from remit.policy.watch import Watched, read_folder

__all__ = [
    "CaseResult",
    "Coverage",
    "Policy",
    "Vocabulary",
    "Watched",
    "can",
    "load",
    "read_cases",
    "read_folder",
    "run_cases",
    "uncovered",
    "who",
]
