"""Annotations as people write them: 100 forms of parameters, as source text of `main.py`, and forms that cannot be pinned."""

from __future__ import annotations

import sys
import types
from typing import Any

PRELUDE = """
from __future__ import annotations
import enum, ipaddress, pathlib, uuid, typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypeVar, Union
from pydantic import (
    AfterValidator, AliasChoices, AnyUrl, AwareDatetime, Base64Bytes, BaseModel, BeforeValidator, ByteSize, ConfigDict, Discriminator,
    Field, FutureDate, HttpUrl, IPvAnyAddress, Json, NegativeInt, PastDate, PositiveInt, RootModel, SecretStr, StringConstraints,
    Tag, UUID4, WithJsonSchema, conint, conlist, constr, field_validator, model_validator,
)
from typing_extensions import TypeAliasType, TypedDict

T = TypeVar("T")
class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"
class Point(BaseModel):
    x: int
    y: int = 0
class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    note: str | None = None
class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
class Tree(BaseModel):
    name: str
    kids: list[Tree] = []
class Camel(BaseModel):
    start_line: int = Field(alias="startLine")
class Made(BaseModel):
    tags: list[str] = Field(default_factory=list)
class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int
class Dog(BaseModel):
    kind: Literal["dog"]
    loud: bool = True
class Box(BaseModel, Generic[T]):
    value: T
class Rows(RootModel[list[int]]):
    pass
class Ordered(BaseModel):
    low: int
    high: int
    @model_validator(mode="after")
    def check(self) -> Ordered:
        if self.low > self.high:
            raise ValueError("low is more than high")
        return self
class Checked(BaseModel):
    name: str
    @field_validator("name")
    @classmethod
    def check(cls, value: str) -> str:
        assert value != "root", "root is refused"
        return value.strip()
class Row(TypedDict):
    id: int
    note: NotRequired[str]
class Loose(TypedDict, total=False):
    a: int
    b: list[str]
class Event(TypedDict):
    at: datetime
    colour: Colour
class Node(TypedDict):
    name: str
    kids: list[Node]
@dataclass
class Size:
    width: int
    height: int = 2
@dataclass
class Deep:
    size: Size
    names: list[str] = field(default_factory=list)
class Pair(NamedTuple):
    first: int
    second: str = "b"
User = NewType("User", int)
Nested = TypeAliasType("Nested", "int | list[Nested]")
def low(value: float) -> float:
    if value > 100:
        raise ValueError("at most 100")
    return value
def even(value: int) -> int:
    assert value % 2 == 0, "must be even"
    return value
"""

# By name: the annotation, and the default as source text if the parameter has one.
FORMS: dict[str, tuple[str, str]] = {
    "int": ("int", ""),
    "float": ("float", ""),
    "str": ("str", ""),
    "bool": ("bool", ""),
    "none": ("None", ""),
    "any": ("Any", ""),
    "optional": ("str | None", "None"),
    "old optional": ("Optional[int]", "None"),
    "default": ("int", "3"),
    "implicit optional": ("int", "None"),
    "union": ("int | str", ""),
    "union of lists": ("list[int] | dict[str, str]", ""),
    "list": ("list[int]", ""),
    "bare list": ("list", ""),
    "bare dict": ("dict", ""),
    "list of lists": ("list[list[list[int]]]", ""),
    "dict": ("dict[str, int]", ""),
    "dict of any": ("dict[str, Any]", ""),
    "dict with whole numbers as keys": ("dict[int, str]", ""),
    "dict with choices as keys": ("dict[Literal['a', 'b'], int]", ""),
    "dict with enum keys": ("dict[Colour, int]", ""),
    "dict with patterned keys": ("dict[Annotated[str, Field(pattern='^k[0-9]+$')], int]", ""),
    "mapping": ("Mapping[str, float]", ""),
    "sequence": ("Sequence[str]", ""),
    "tuple": ("tuple[int, str]", ""),
    "tuple of any length": ("tuple[int, ...]", "()"),
    "set": ("set[int]", ""),
    "frozenset": ("frozenset[str]", ""),
    "literal": ("Literal['a', 1, None]", ""),
    "literal of enum": ("Literal[Colour.RED]", ""),
    "enum": ("Colour", ""),
    "enum with a default": ("Colour", "Colour.BLUE"),
    "int enum": ("Level", ""),
    "str enum": ("list[Word]", ""),
    "bounds": ("Annotated[int, Field(ge=1, le=5)]", "2"),
    "open bounds": ("Annotated[float, Field(gt=0, lt=1)]", ""),
    "multiple": ("Annotated[int, Field(multiple_of=3)]", ""),
    "multiple of cents": ("Annotated[float, Field(ge=0, multiple_of=0.01)]", ""),
    "length": ("Annotated[str, Field(min_length=1, max_length=3)]", ""),
    "list length": ("Annotated[list[int], Field(min_length=1, max_length=2)]", ""),
    "dict size": ("Annotated[dict[str, int], Field(min_length=1, max_length=2)]", ""),
    "anchored pattern": ("Annotated[str, Field(pattern='^INC-[0-9]{2,4}$')]", ""),
    "pattern of a prefix": ("Annotated[str, Field(pattern='^INC-')]", ""),
    "pattern anywhere": ("Annotated[str, Field(pattern='@')]", ""),
    "description": ("Annotated[int, Field(description='how many')]", ""),
    "field default": ("Annotated[int, Field(default=3)]", ""),
    "field as a default": ("int", "Field(default=3, ge=1)"),
    "default factory": ("Annotated[list[str], Field(default_factory=list)]", ""),
    "alias": ("Annotated[int, Field(alias='externalX')]", ""),
    "conint": ("conint(ge=2)", ""),
    "conlist": ("conlist(int, min_length=1)", ""),
    "constr": ("constr(max_length=4)", ""),
    "positive": ("PositiveInt", ""),
    "negative": ("NegativeInt", "-1"),
    "stripped": ("Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)]", ""),
    "validator after": ("Annotated[float, AfterValidator(low)]", ""),
    "validator that asserts": ("Annotated[int, AfterValidator(even)]", ""),
    "validator before": ("Annotated[str, BeforeValidator(lambda value: value.strip())]", ""),
    "validated items": ("list[Annotated[int, AfterValidator(even)]]", ""),
    "model": ("Point", ""),
    "closed model": ("Closed", ""),
    "open model": ("Open", ""),
    "model with a default": ("Point", "Point(x=1)"),
    "optional model": ("Closed | None", "None"),
    "recursive model": ("Tree", ""),
    "model with an alias": ("Camel", ""),
    "model with a default factory": ("Made", ""),
    "discriminated": ("Annotated[Union[Cat, Dog], Field(discriminator='kind')]", ""),
    "undiscriminated": ("Cat | Dog", ""),
    "generic": ("Box[int]", ""),
    "root model": ("Rows", ""),
    "model validator": ("Ordered", ""),
    "field validator": ("Checked", ""),
    "list of models": ("list[Point]", "[]"),
    "typed dict": ("Row", ""),
    "partial typed dict": ("Loose", ""),
    "typed dict of other types": ("Event", ""),
    "recursive typed dict": ("Node", ""),
    "dataclass": ("Size", ""),
    "nested dataclass": ("Deep", ""),
    "dataclass with a default": ("Size", "Size(1)"),
    "named tuple": ("Pair", ""),
    "new type": ("User", ""),
    "recursive alias": ("Nested", ""),
    "datetime": ("datetime", ""),
    "aware datetime": ("AwareDatetime", ""),
    "date": ("date", ""),
    "date with a default": ("date", "date(2026, 1, 2)"),
    "past date": ("PastDate", ""),
    "time": ("time", ""),
    "timedelta": ("timedelta", ""),
    "decimal": ("Decimal", ""),
    "decimal with bounds": ("Annotated[Decimal, Field(gt=0, max_digits=6, decimal_places=2)]", ""),
    "uuid": ("uuid.UUID", ""),
    "uuid 4": ("UUID4", ""),
    "path": ("pathlib.Path", ""),
    "url": ("HttpUrl", ""),
    "any url": ("AnyUrl", ""),
    "address": ("IPvAnyAddress", ""),
    "ipv4": ("ipaddress.IPv4Address", ""),
    "network": ("ipaddress.IPv6Network", ""),
    "bytes": ("bytes", ""),
    "base64": ("Base64Bytes", ""),
    "byte size": ("ByteSize", ""),
    "json text": ("Json[list[int]]", ""),
    "secret": ("SecretStr", ""),
}

# Types that disagree with what they publish, so that no tool with them can be pinned: each with words of the reason.
DISAGREEING: dict[str, tuple[str, str]] = {
    "another published type": ("Annotated[int, WithJsonSchema({'type': 'string'})]", "valid integer"),
    "a bound that is not published": (
        "Annotated[int, Field(ge=5), WithJsonSchema({'type': 'integer'})]",
        "greater than or equal",
    ),
    "a length that is not published": (
        "Annotated[list[int], Field(max_length=1), WithJsonSchema({'type': 'array'})]",
        "at most 1 item",
    ),
    "members that are not published": ("Annotated[Point, WithJsonSchema({'type': 'object'})]", "required"),
    "a name of the model that is not the published one": (
        "Annotated[Camel, WithJsonSchema({'type': 'object', 'properties': {'start_line': {'type': 'integer'}}})]",
        "required",
    ),
    "a validator that expects another type": (
        "Annotated[int, BeforeValidator(lambda value: value.strip())]",
        "AttributeError",
    ),
}


def source_of(annotation: str, default: str = "", *, result: str = "int", name: str = "x") -> str:
    """The source of a `main.py` with one function `f`: one parameter with this annotation, and this type of result."""
    given = f" = {default}" if default else ""
    return f'{PRELUDE}\ndef f({name}: {annotation}{given}) -> {result}:\n    """Do it."""\n    raise AssertionError("called")\n'


def function_of(source: str) -> Any:
    """The function `f` of that source."""
    module = types.ModuleType("main_of_a_test")
    sys.modules[module.__name__] = module  # pydantic looks for names there
    exec(compile(source, "main.py", "exec", dont_inherit=True), module.__dict__)
    return module.f
