"""Policy: may these subjects do this to these resources, given these facts (the PDP).

`load` reads `policies/`, `Policy.decide` answers, `run_cases` holds the answers against the reviewer's table. `stock`
has the same model in Casbin, as the tested reference.
"""

from remit.analysis.cases import CaseResult, Coverage, read_cases, run_cases, uncovered
from remit.analysis.queries import can, who
from remit.policy.engine import Policy, load
from remit.policy.language.loader import Vocabulary
from remit.policy.reload import Watched, read_folder

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
