"""Properties of subjects and resources that the workspace vouches for: `policies/entities.jsonl`, one entity a line.

    {"type": "user", "id": "ann", "properties": {"department": "payments"}}
    {"type": "record", "id": "record-2", "properties": {"status": "archived"}}

Rules read them as `subject.department` and `resource.status`. An enforcement point that `remit.toml` lists may state further
properties with its request; nothing else can, and least of all a model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

from pydantic import ConfigDict, Field, ValidationError

from remit.core import FrozenModel, Json, Problem, Refusal, Request, WorkspaceError
from remit.core.parsing import canonical, parse_arguments
from remit.policy.language.names import NOBODY

ENTITIES: Final = "entities.jsonl"  # in policies/
FILE: Final = f"policies/{ENTITIES}"
MOST_ENTITIES: Final = 20_000
EVERY: Final = "*"  # in `Context.unclear`: no property of that side can be read
_FIX: Final = 'write {"type": "user", "id": "ann", "properties": {"department": "payments"}}'

PropertyName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Properties: TypeAlias = Mapping[str, Json]


class Entity(FrozenModel):
    """Records one subject or resource and its properties. `id` is always a property; so none can have that name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str = Field(pattern=r"^[a-z][a-z0-9+.-]{0,31}$")
    id: str = Field(min_length=1, max_length=8192)
    properties: dict[PropertyName, Json] = Field(default_factory=dict, max_length=64)

    @property
    def name(self) -> str:
        """As rules name it: `record:record-2`."""
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Properties that an enforcement point states of the subject and of the resource of one request.

    `unlisted` are those that it may not state, as `resource.owner`: they are not read, and a rule that asks for one of them
    learns that it is in doubt.
    """

    subject: Properties = field(default_factory=dict[str, Json])
    resource: Properties = field(default_factory=dict[str, Json])
    unlisted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, listed: Collection[str], subject: Properties, resource: Properties) -> Stated:
        """What is stated, by someone who may state the properties in `listed`, as `resource.status`."""
        if not subject and not resource:
            return NOTHING_STATED
        sides = {"subject": subject, "resource": resource}
        unlisted = {f"{side}.{name}" for side, known in sides.items() for name in known}.difference(listed)
        if not unlisted:
            return cls(subject=subject, resource=resource)
        kept = {
            side: {name: value for name, value in known.items() if f"{side}.{name}" not in unlisted}
            for side, known in sides.items()
        }
        return cls(**kept, unlisted=frozenset(unlisted))


_NOTHING: Final[Properties] = {}
NOTHING_STATED: Final = Stated()


class Entities:
    """Every entity of the workspace, by name. It never changes."""

    def __init__(self, entities: Collection[Entity] = ()) -> None:
        self._properties: Final[Mapping[str, Properties]] = {one.name: one.properties for one in entities}
        self.properties: Final = frozenset(name for one in entities for name in one.properties)

    def __len__(self) -> int:
        return len(self._properties)

    def __iter__(self) -> Iterator[str]:
        """The names of all entities, as `user:ann`."""
        return iter(self._properties)

    @property
    def fields(self) -> dict[str, Json]:
        """What the digest of the rules covers."""
        return {name: dict(known) for name, known in self._properties.items()}

    def facts(
        self, subjects: Sequence[str], resources: Sequence[str], stated: Stated = NOTHING_STATED
    ) -> dict[str, Json]:
        """The fields `subject`, `resource` and `unclear` of the context of a request.

        The subject is the person, service or agent for whom it is asked: of the subjects of a call, the user. A property that
        two resources of the request have differently, or that the enforcement point states differently, is unclear.
        """
        unclear = set(stated.unlisted)
        subject = _merged("subject", self._of(_asking(subjects)), stated.subject, unclear)
        every: list[Properties] = []
        for name in dict.fromkeys(resources):
            if name.endswith(("/**", ":**")):  # somewhere in the set may be a resource with any property
                unclear.add(f"resource.{EVERY}")
                return {"subject": subject, "resource": _NOTHING, "unclear": frozenset(unclear)}
            every.append(self._of(name))
        resource = _merged("resource", _common(every, unclear), stated.resource, unclear)
        return {"subject": subject, "resource": resource, "unclear": frozenset(unclear)}

    def of(self, request: Request, stated: Stated = NOTHING_STATED) -> Request:
        """The request with these facts."""
        facts = self.facts(request.subjects, request.resources, stated)
        return request.model_copy(update={"context": request.context.model_copy(update=facts)})

    def _of(self, name: str) -> Properties:
        plain = name.partition(":")[2]
        if not plain or name == NOBODY:
            return _NOTHING
        own = name if plain[:2] == "//" else plain
        known = self._properties.get(name)
        return {"id": own} if known is None else {**known, "id": own}


NO_ENTITIES: Final = Entities()


def _asking(subjects: Sequence[str]) -> str:
    """The one for whom something is asked: the user of a call, else its only subject."""
    for name in subjects:
        if not name.startswith("agent:"):
            return name
    return subjects[0] if subjects else ""


def _merged(side: str, known: Properties, stated: Properties, unclear: set[str]) -> Properties:
    """Both together. INVARIANT: of two different values none counts, so neither side can take away what the other says."""
    if not stated:
        return known
    different = {name for name, value in stated.items() if name in known and not _is_same(known[name], value)}
    unclear.update(f"{side}.{name}" for name in different)
    return {name: value for name, value in {**known, **stated}.items() if name not in different}


def _common(every: Sequence[Properties], unclear: set[str]) -> Properties:
    """The properties that all of them have with one value; the others are unclear."""
    if len(every) < 2:
        return every[0] if every else _NOTHING
    names = {name for properties in every for name in properties}
    first, *others = every
    common = {
        name
        for name in names
        if name in first and all(name in other and _is_same(first[name], other[name]) for other in others)
    }
    unclear.update(f"resource.{name}" for name in names - common)
    return {name: first[name] for name in common}


def _is_same(left: Json, right: Json) -> bool:
    return type(left) is type(right) and bool(left == right)


def read_entities(data: bytes | None) -> Entities:
    """Read `policies/entities.jsonl`; None: there is no such file.

    Raises:
        WorkspaceError: every line that is not an entity, is not canonical, or repeats one.
    """
    found: dict[str, Entity] = {}
    problems: list[Problem] = []
    lines = [] if data is None else data.split(b"\n")
    if len(lines) > MOST_ENTITIES + 1:
        what = f"the file has {len(lines)} lines"
        raise WorkspaceError([Problem(file=FILE, what=what, fix=f"keep at most {MOST_ENTITIES} entities")])
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entity = _entity(line)
        except ValueError as error:
            problems.append(Problem(file=FILE, line=number, what=str(error), fix=_FIX))
            continue
        if entity.name in found:
            problems.append(Problem(file=FILE, line=number, what=f"{entity.name!r} is repeated", fix="keep one line"))
        found[entity.name] = entity
    if problems:
        raise WorkspaceError(problems)
    return Entities(tuple(found.values()))


def _entity(line: bytes) -> Entity:
    """One line. Raises ValueError with what is wrong."""
    try:
        entity = Entity.model_validate(parse_arguments(line.decode()))
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8") from None
    except Refusal as refusal:
        raise ValueError(refusal.message) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    if "id" in entity.properties:
        raise ValueError("a property has the name id, which is always the id of the entity")
    if entity.name != _canonical_name(entity):
        raise ValueError(f"{entity.name!r} is not the canonical name of one subject or resource")
    return entity


def _canonical_name(entity: Entity) -> str | None:
    try:
        if entity.type in ("http", "https"):
            return canonical(entity.type, entity.name)
        return f"{entity.type}:{canonical(entity.type, entity.id)}"
    except Refusal:
        return None
