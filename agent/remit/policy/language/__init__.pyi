from .conditions import ROLE, Condition, ConditionError, parse_condition, read_condition
from .evaluation import TIME, same
from .loader import RuleRow, Rules, Vocabulary, read_rules
from .names import DeclaredNames, undeclared_names
from .patterns import EVERYTHING, GlobError, Pattern, parse_pattern, parse_resource, segment_matches
from .roles import RoleLink, check_links, closures

__all__ = [
    "EVERYTHING",
    "ROLE",
    "TIME",
    "Condition",
    "ConditionError",
    "DeclaredNames",
    "GlobError",
    "Pattern",
    "RoleLink",
    "RuleRow",
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
    "undeclared_names",
]
