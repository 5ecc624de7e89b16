"""What may stand in `remit.toml` and in an `agent.toml`, key by key."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from remit.core import Json, Refusal
from remit.core.parsing import Duration, Matching, Size, Summary, TomlTable, canonical, invalid

MARKER: Final = "remit.toml"
PROTECTED: Final = ("policies", "tools", "agent", "traces", ".git", MARKER)  # no working folder lies in one of these
SUBJECT: Final = r"user:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"

_NAME = r"[a-z][a-z0-9_-]{0,30}"
_MODEL = re.compile(r"[a-z][a-z0-9_]*:\S+")


def plain_path(value: str) -> str:
    """The path, which must be relative and spelled in the canonical way; raises what a validator raises."""
    try:
        spelled = canonical("file", value)
    except Refusal as refusal:
        raise invalid(
            f"is {value!r}, {refusal.message.partition(':')[0]}", refusal.message.partition(": ")[2]
        ) from None
    if spelled != value or value == ".":
        raise invalid(f"is {value!r}, which is not a plain relative path", 'write it as "folder/file"')
    return value


def _folder(value: str) -> str:
    plain = value.replace("{run}", "run", 1)
    plain_path(plain)
    if plain.partition("/")[0] in PROTECTED:
        raise invalid(f"is {value!r}, where an agent may never write", 'write a folder of its own: "work/NAME/{run}"')
    return value


def _model(value: str) -> str:
    if _MODEL.fullmatch(value) is None:
        raise invalid(f"is {value!r}, which names no model", 'write "script:script.yaml" or "openai:gpt-5"')
    kind, _, name = value.partition(":")
    if kind == "script":
        plain_path(name)
    return value


Path = Annotated[str, AfterValidator(plain_path)]
Folder = Annotated[str, AfterValidator(_folder)]
Model = Annotated[str, AfterValidator(_model)]
AgentName = Annotated[str, Matching(_NAME, "a name", "write lower-case letters, digits, _ and -, at most 31")]
Address = Annotated[str, Matching(r"https?://\S+", "an address", 'write "http://127.0.0.1:8000/v1"')]
Age = Annotated[str, Matching(r"[1-9][0-9]{0,4}[hdw]", "an age", 'write a number and h, d or w: "90d"')]
Environment = Annotated[str, Matching(_NAME, "a name", 'write "local" or "production"')]
User = Annotated[str, Matching(SUBJECT, "a user", 'write "user:NAME"')]
Variable = Annotated[str, Matching(r"[A-Za-z_][A-Za-z0-9_]*", "a variable", 'write its name: "API_TOKEN"')]


class PriceTable(TomlTable):
    """What a million tokens of the model cost, in the currency of your bill."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class AnswerTable(TomlTable):
    """What the last answer must be: one JSON object. Absent: any text."""

    shape: Path | None = Field(default=None, alias="schema", description="A file beside agent.toml")
    citations: Annotated[int, Field(ge=0, le=100)] = Field(default=0, description="Results of the run that it names")
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="The least it may claim")
    tries: Annotated[int, Field(ge=0, le=10)] = Field(default=2, description="How often it is asked for again")


class BudgetTable(TomlTable):
    """What one run may spend. Absent: tokens, money and output are not bounded."""

    tokens: Annotated[int, Field(ge=0)] | None = None
    money: Annotated[float, Field(ge=0)] | None = None
    output: Size | None = None
    steps: Annotated[int, Field(ge=1, le=100_000)] = 30
    calls: Annotated[int, Field(ge=0, le=100_000)] = 60
    wall: Duration = "10m"
    tries: Annotated[int, Field(ge=1, le=1000)] = 6
    retries: Annotated[int, Field(ge=0, le=100_000)] = 30
    denials: Annotated[int, Field(ge=1, le=100_000)] = 10
    waiting: Annotated[int, Field(ge=0, le=1000)] = 5


class LookUpTable(TomlTable):
    """A call that Remit makes before the model's first turn, so that the directory knows whom the user knows."""

    action: str
    args: dict[str, Json] = Field(
        default={}, description='"{channel}" in a value: one call for each channel known by then'
    )


class AgentTable(TomlTable):
    """One agent: data only."""

    name: AgentName
    summary: Summary
    model: Model
    base_url: Address | None = None
    prompt: Path
    tools: list[str]
    folder: Folder | None = None
    seed: Path | None = None
    accept_parsed_arguments: bool = False
    budget: BudgetTable = BudgetTable()
    price: PriceTable | None = None
    answer: AnswerTable | None = None
    directory: list[LookUpTable] = []


class SandboxTable(TomlTable):
    """The confinements that may be used; nothing else is, whatever the machine offers."""

    accept: Annotated[list[Literal["full", "landlock"]], Field(min_length=1)] = ["full"]


class RedactTable(TomlTable):
    """Environment variables whose values never appear in a record."""

    env: list[Variable] = []


class PolicyTable(TomlTable):
    """When stock Casbin must allow a call too: every call with an effect, every call, or none.

    With "load" it only checks a rulebook before that comes into force.
    """

    casbin: Literal["effects", "always", "load"] = "effects"


class TracesTable(TomlTable):
    """What is recorded, and how long it is kept; `keep` None: until somebody prunes by hand."""

    content: bool = True
    keep: Age | None = None


class SettingsTable(TomlTable):
    """The few settings that are no room's own."""

    env: Environment = "local"
    envs: list[Environment] = Field(default=[], description="Further environments that rules may name")
    users: list[User] | None = Field(default=None, description="Users that rules may name beside those of [identity]")
    identity: dict[str, User] | None = None
    sandbox: SandboxTable = SandboxTable()
    host_tools: list[str] = []
    redact: RedactTable = RedactTable()
    traces: TracesTable = TracesTable()
    policy: PolicyTable = PolicyTable()
