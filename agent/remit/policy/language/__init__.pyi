from .conditions import ROLE, TIME, Condition, ConditionError, parse_condition, read_condition
from .evaluation import same
from .loader import Row, Rules, Vocabulary, read_rules
from .names import Declared
from .patterns import EVERYTHING, GlobError, Pattern, parse_pattern, parse_resource, segment_matches
from .roles import Link, check_links, closures

__all__ = [
    "EVERYTHING",
    "ROLE",
    "TIME",
    "Condition",
    "ConditionError",
    "Declared",
    "GlobError",
    "Link",
    "Pattern",
    "Row",
    "Rules",
    "Vocabulary",
    "check_links",
    "closures",
    "parse_condition",
    "parse_pattern",
    "parse_resource",
    "read_condition",
    "read_rules",
    "same",
    "segment_matches",
]
