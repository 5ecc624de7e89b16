from .assertion import ALGORITHMS, check_assertion
from .registration import NewPasskey, registered
from .statement import ApprovalStatement, challenge_of, statement_of

__all__ = [
    "ALGORITHMS",
    "ApprovalStatement",
    "NewPasskey",
    "challenge_of",
    "check_assertion",
    "registered",
    "statement_of",
]
