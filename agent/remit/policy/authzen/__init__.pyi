from .decision_point import Answered, DecisionPoint
from .discovery import ENDPOINTS, configuration
from .points import EnforcementPoint, EnforcementPointTable, PointName, check_points, points_of
from .questions import ActionSearch, Evaluation, Evaluations, ResourceSearch, Search, SubjectSearch
from .searches import Found, PageError, search

__all__ = [
    "ENDPOINTS",
    "ActionSearch",
    "Answered",
    "DecisionPoint",
    "EnforcementPoint",
    "EnforcementPointTable",
    "Evaluation",
    "Evaluations",
    "Found",
    "PageError",
    "PointName",
    "ResourceSearch",
    "Search",
    "SubjectSearch",
    "check_points",
    "configuration",
    "points_of",
    "search",
]
