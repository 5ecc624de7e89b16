"""Enforcement points: applications that ask for decisions, and what each of them may ask about and state.

    [enforcement_points.todo]
    account = "service:todo"
    actions = ["can_read_todos", "can_update_todo"]
    resource_types = ["todo"]
    resource_properties = ["ownerID"]

Rules name its actions `todo.can_read_todos` and `todo.can_update_todo`, and its resources `todo:ID`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field

from remit.core import NAME_OF_SUBJECT, Problem
from remit.core.parsing import Matching, TomlTable, invalid

MOST_ACTIONS: Final = 500

PointName: TypeAlias = Annotated[
    str, Matching(r"[a-z][a-z0-9_]{0,30}", "a name", "write lower-case letters, digits and _, a letter first")
]
Account: TypeAlias = Annotated[
    str,
    Matching(
        rf"(?:service|user):{NAME_OF_SUBJECT}", "an account", 'write "service:todo", the subject of its token or key'
    ),
]
ActionName: TypeAlias = Annotated[
    str, Matching(r"[A-Za-z][A-Za-z0-9 ._:/-]{0,127}", "the name of an action", 'write "can_read" or "extend-loan"')
]
ResourceType: TypeAlias = Annotated[
    str, Matching(r"[a-z][a-z0-9+.-]{0,31}", "a type of resources", 'write "todo": lower case, as rules name it')
]
Property: TypeAlias = Annotated[
    str,
    Matching(
        r"(?!id$)[A-Za-z_][A-Za-z0-9_]{0,63}", "a property that can be stated", 'write "status"; id is always known'
    ),
]


def _distinct(actions: list[str]) -> list[str]:
    names: dict[str, str] = {}
    for action in actions:
        if (other := names.setdefault(_rule_name(action), action)) != action:
            raise invalid(f"has {other!r} and {action!r}, which rules cannot tell apart", "remove one of them")
    return actions


class EnforcementPointTable(TomlTable):
    """An application that asks Remit for decisions (AuthZEN), and what it may state. What is not listed is not read."""

    account: Account = Field(description='The subject of its token or key: "service:todo"')
    actions: Annotated[list[ActionName], Field(min_length=1, max_length=MOST_ACTIONS), AfterValidator(_distinct)] = (
        Field(description='Its actions: rules name "can_read" of the point `todo` as `todo.can_read`')
    )
    subject_types: list[Literal["user", "service", "agent"]] = Field(
        default=["user"], description="Of which types of subjects it asks"
    )
    resource_types: Annotated[list[ResourceType], Field(min_length=1)] = Field(
        description='Of which types of resources it asks: "todo"'
    )
    subject_properties: list[Property] = Field(
        default=[], description="Properties of subjects that it may state; rules read them as `subject.NAME`"
    )
    resource_properties: list[Property] = Field(
        default=[], description="Properties of resources that it may state; rules read them as `resource.NAME`"
    )


@dataclass(frozen=True, kw_only=True)
class EnforcementPoint:
    """One enforcement point. `actions` are its actions as rules name them, by the name that it uses.

    `properties` are those that it may state, as `resource.status`; empty: it states nothing.
    """

    name: str
    account: str
    actions: Mapping[str, str]
    subject_types: frozenset[str]
    resource_types: frozenset[str]
    properties: frozenset[str] = frozenset()


def points_of(tables: Mapping[str, EnforcementPointTable]) -> dict[str, EnforcementPoint]:
    """The enforcement points of `remit.toml`, by name."""
    return {
        name: EnforcementPoint(
            name=name,
            account=table.account,
            actions={action: f"{name}.{_rule_name(action)}" for action in table.actions},
            subject_types=frozenset(table.subject_types),
            resource_types=frozenset(table.resource_types),
            properties=frozenset(
                [f"subject.{one}" for one in table.subject_properties]
                + [f"resource.{one}" for one in table.resource_properties]
            ),
        )
        for name, table in tables.items()
    }


def check_points(points: Mapping[str, EnforcementPoint], tools: Collection[str], *, file: str) -> Iterator[Problem]:
    """A problem for each name that a tool has too, and for each account that is two enforcement points."""
    accounts: dict[str, str] = {}
    for name, point in points.items():
        if name in tools or name == "remit":
            what = f"the enforcement point {name!r} has the name of a tool, so rules could not tell their actions apart"
            yield Problem(file=file, what=what, fix="give it another name")
        if (other := accounts.setdefault(point.account, name)) != name:
            what = f"the enforcement points {other!r} and {name!r} have the same account"
            yield Problem(file=file, what=what, fix="give each an account of its own, or write one enforcement point")


def _rule_name(action: str) -> str:
    """The name in rules: lower case, with _ for every other character: `extend_loan` for "extend-loan"."""
    return re.sub(r"[^a-z0-9]+", "_", action.lower()).strip("_")[:31]
