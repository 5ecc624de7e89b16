"""What a decision point says of itself at `/.well-known/authzen-configuration` (AuthZEN 1.0, section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENDPOINTS: Final[Mapping[str, str]] = {
    "access_evaluation_endpoint": "/access/v1/evaluation",
    "access_evaluations_endpoint": "/access/v1/evaluations",
    "search_subject_endpoint": "/access/v1/search/subject",
    "search_resource_endpoint": "/access/v1/search/resource",
    "search_action_endpoint": "/access/v1/search/action",
}


def configuration(base: str) -> dict[str, str]:
    """The metadata of the decision point at the address `base`, as "https://pdp.example.com"."""
    return {"policy_decision_point": base, **{name: f"{base}{path}" for name, path in ENDPOINTS.items()}}
