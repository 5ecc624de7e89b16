"""What an enforcement point sends (AuthZEN Authorization API 1.0, section 5 to 7), with its bounds.

Unknown members are ignored, as the specification demands; a member that is missing or of another type is an error. `context` is
accepted and no rule reads it: what the time or the environment is, the service says.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from remit.core import Json

MOST_EVALUATIONS: Final = 100  # in one request
MOST_PROPERTIES: Final = 64  # of one entity
MOST_RESULTS: Final = 1000  # on one page of a search

Semantic: TypeAlias = Literal[
    "execute_all",  # every question is answered
    "deny_on_first_deny",  # the answers end with the first that denies
    "permit_on_first_permit",  # the answers end with the first that permits
]
_Properties: TypeAlias = Annotated[dict[str, Json], Field(default_factory=dict, max_length=MOST_PROPERTIES)]
_Type: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
_Id: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Entity(_Message):
    """A subject or a resource, with properties that the enforcement point states."""

    type: _Type
    id: _Id
    properties: _Properties


class EntityType(_Message):
    """What a search looks for: entities of a type. An `id` and properties of it are ignored."""

    type: _Type


class Action(_Message):
    """What the subject would do. Rules read its properties as `args.NAME`."""

    name: _Id
    properties: _Properties


class Evaluation(_Message):
    """May the subject do the action on the resource?"""

    subject: Entity
    action: Action
    resource: Entity
    context: dict[str, Json] = Field(default_factory=dict)


class Options(_Message):
    """How the questions of one request are answered."""

    evaluations_semantic: Semantic = "execute_all"


class Evaluations(_Message):
    """Several questions; `subject`, `action`, `resource` and `context` are those of each question that has none of its own."""

    subject: Entity | None = None
    action: Action | None = None
    resource: Entity | None = None
    context: dict[str, Json] | None = None
    evaluations: Annotated[list[dict[str, Json]], Field(default_factory=list, max_length=MOST_EVALUATIONS)]
    options: Options = Options()


class Page(_Message):
    """Which part of the results is wanted. `token` is the `next_token` of the part before."""

    token: Annotated[str, Field(max_length=4096)] = ""
    limit: Annotated[int, Field(ge=0)] | None = None


class SubjectSearch(_Message):
    """Which subjects may do this?"""

    subject: EntityType
    action: Action
    resource: Entity
    context: dict[str, Json] = Field(default_factory=dict)
    page: Page = Page()


class ResourceSearch(_Message):
    """On which resources may the subject do this?"""

    subject: Entity
    action: Action
    resource: EntityType
    context: dict[str, Json] = Field(default_factory=dict)
    page: Page = Page()


class ActionSearch(_Message):
    """What may the subject do on the resource?"""

    subject: Entity
    resource: Entity
    context: dict[str, Json] = Field(default_factory=dict)
    page: Page = Page()


Search: TypeAlias = SubjectSearch | ResourceSearch | ActionSearch
