from .casbin_model import model_text
from .conditions import ROLE, Condition, ConditionError, parse_condition, read_condition
from .entities import NO_ENTITIES, NOTHING_STATED, Entities, Entity, Stated
from .evaluation import TIME, same
from .facts import SIDES
from .loader import RuleRow, Rules, Vocabulary, read_rules
from .names import DeclaredNames, undeclared_names
from .patterns import EVERYTHING, GlobError, Pattern, parse_pattern, parse_resource, segment_matches
from .roles import RoleLink, check_links, closures
from .teams import Team, TeamTable, read_teams, team_of

__all__ = [
    "EVERYTHING",
    "NOTHING_STATED",
    "NO_ENTITIES",
    "ROLE",
    "SIDES",
    "TIME",
    "Condition",
    "ConditionError",
    "DeclaredNames",
    "Entities",
    "Entity",
    "GlobError",
    "Pattern",
    "RoleLink",
    "RuleRow",
    "Rules",
    "Stated",
    "Team",
    "TeamTable",
    "Vocabulary",
    "check_links",
    "closures",
    "model_text",
    "parse_condition",
    "parse_pattern",
    "parse_resource",
    "read_condition",
    "read_rules",
    "read_teams",
    "same",
    "segment_matches",
    "team_of",
    "undeclared_names",
]
