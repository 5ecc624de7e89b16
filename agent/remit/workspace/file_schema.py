"""The keys of `remit.toml` and `agent.toml`, with their types and messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from remit.core import DEFAULT_TENANT, NAME_OF_SUBJECT, Json, Refusal
from remit.core.parsing import Duration, Matching, Size, Summary, TomlTable, canonical, invalid, size
from remit.policy.authzen import EnforcementPointTable, PointName
from remit.workspace.access.issuers import IssuerTables
from remit.workspace.manifest.targets import TargetTable
from remit.workspace.settings.notify import NotifyTable
from remit.workspace.settings.secrets import SecretName, SecretSourceTable
from remit.workspace.settings.serve import Group, ServeTable, WorkerTable
from remit.workspace.settings.storage import StorageTable

MARKER: Final = "remit.toml"
PROTECTED: Final = ("policies", "tools", "agent", "traces", ".git", MARKER)  # no working folder is in one of these
SUBJECT: Final = f"user:{NAME_OF_SUBJECT}"

_NAME = r"[a-z][a-z0-9_-]{0,30}"
_MODEL = re.compile(r"[a-z][a-z0-9_]*:\S+")


def plain_path(value: str) -> str:
    """The path, if it is relative and in canonical spelling; otherwise raises the error of a validator."""
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
        raise invalid(f"is {value!r}, where an agent may not write", 'write a folder of the agent: "work/NAME/{run}"')
    return value


def _model(value: str) -> str:
    if _MODEL.fullmatch(value) is None:
        raise invalid(f"is {value!r}, which is not the name of a model", 'write "script:script.yaml" or "openai:gpt-5"')
    kind, _, name = value.partition(":")
    if kind == "script":
        plain_path(name)
    return value


def _at_least(least: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if size(value) < size(least):
            raise invalid(f"is {value!r}, which is too little", f'write "{least}" or more')
        return value

    return check


ContextSize = Annotated[Size, AfterValidator(_at_least("16KiB"))]
ResultSize = Annotated[Size, AfterValidator(_at_least("1KiB"))]
Path = Annotated[str, AfterValidator(plain_path)]
Folder = Annotated[str, AfterValidator(_folder)]
Model = Annotated[str, AfterValidator(_model)]
GraphEntry = Annotated[
    str,
    Matching(
        r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        "a function of a file",
        'write "shop:build"',
    ),
]
GraphCallName = Annotated[str, Matching(r"[a-zA-Z0-9_-]{1,64}", "the name of a function", 'write "ask_stock"')]
Version = Annotated[str, Matching(r"\d{1,9}(\.\d{1,9}){0,3}", "a version of Remit", 'write "0.2"')]
AgentName = Annotated[
    str, Matching(_NAME, "a name", "write at most 31 lower-case letters, digits, _ and -, a letter first")
]
Address = Annotated[str, Matching(r"https?://\S+", "an address", 'write "http://127.0.0.1:8000/v1"')]
ChannelName = Annotated[
    str, Matching(_NAME, "a name", "write at most 31 lower-case letters, digits, _ and -, a letter first")
]
Day = Annotated[str, Matching(r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "a day", 'write "2026-12-31"')]
Age = Annotated[str, Matching(r"[1-9][0-9]{0,4}[hdw]", "an age", 'write a number and h, d or w: "90d"')]
Tenant = Annotated[
    str, Matching(_NAME, "a name", "write at most 31 lower-case letters, digits, _ and -, a letter first")
]
Environment = Annotated[str, Matching(_NAME, "a name", 'write "local" or "production"')]
Kind = Annotated[str, Matching(r"[a-z][a-z0-9_]{0,30}", "a kind of resource", 'write its name: "person"')]
User = Annotated[str, Matching(SUBJECT, "a user", 'write "user:NAME"')]
UserOrService = Annotated[
    str, Matching(f"(?:user|service):{NAME_OF_SUBJECT}", "a user or a service", 'write "user:NAME" or "service:NAME"')
]
Variable = Annotated[str, Matching(r"[A-Za-z_][A-Za-z0-9_]*", "a variable", 'write its name: "API_TOKEN"')]


DatabaseUrl = Annotated[
    str,
    Matching(
        r"(?!.*[?&]password=)postgres(?:ql)?://(?:[^\s:@/]+@)?[^\s@]+",
        "a PostgreSQL URL without a password",
        "write postgresql://HOST/DATABASE; the password belongs into ~/.pgpass or PGPASSWORD",
    ),
]


class AnswerTable(TomlTable):
    """The requirements of the answer: one JSON object. Absent: any text."""

    shape: Path | None = Field(default=None, alias="schema", description="A file with a JSON Schema, beside agent.toml")
    citations: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0, description="How many results of the run the answer must cite"
    )
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="The lowest confidence that the answer may state"
    )
    receipt: Literal["attached", "must-match"] = Field(
        default="attached",
        description="must-match: the answer names, by call, all effects that have happened and no others",
    )
    grounded: bool = Field(
        default=False,
        description="true: the answer is a list of claims, each with a literal quote from what the run retrieved",
    )
    tries: Annotated[int, Field(ge=0, le=10)] = Field(default=2, description="How often the model is asked again")


class BudgetTable(TomlTable):
    """The limits of one run. Absent: tokens, money and output are not limited."""

    tokens: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Tokens read and written by the model")
    money: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="In the currency of policies/prices.toml"
    )
    output: Size | None = Field(default=None, description="Bytes of all results together")
    steps: Annotated[int, Field(ge=1, le=100_000)] = Field(default=30, description="Turns of the model")
    calls: Annotated[int, Field(ge=0, le=100_000)] = Field(default=60, description="Calls that are carried out")
    wall: Duration = Field(default="10m", description="Wall-clock time")
    model_wait: Duration = Field(
        default="10m",
        description="How long one process waits for models that fail, over all steps; not part of `wall`. Then the run stays paused",
    )
    tries: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=6, description="Unsuccessful tries of one thing in a row, by the model or by the broker"
    )
    retries: Annotated[int, Field(ge=0, le=100_000)] = Field(default=30, description="All tries beyond the first")
    denials: Annotated[int, Field(ge=1, le=100_000)] = Field(default=10, description="Calls refused in a row")
    waiting: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="Calls that wait for people at one time"
    )


class ContextTable(TomlTable):
    """How much the model reads, in bytes of JSON text; a token is about four of them."""

    limit: ContextSize | None = Field(
        default=None,
        description="The whole conversation with the tools offered; absent: as much as the model accepts. At least 16KiB",
    )
    result: ResultSize = Field(
        default="16KiB",
        description='One result, if "remit.read_result" is in `tools`: of a longer one the model gets the beginning and '
        "the end, and can read the rest. At least 1KiB",
    )


class LookUpTable(TomlTable):
    """A call that Remit makes before the model's first turn, to fill the directory."""

    action: str = Field(description='An action that only reads: "contacts.list"')
    args: dict[str, Json] = Field(
        default={}, description='For "{channel}", one call is made for each channel that the directory has'
    )


# Keys of a request that Remit writes itself.
_OWN_KEYS: Final = frozenset(
    {
        "model",
        "messages",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "stream",
        "stream_options",
        "n",
        "options",
    }
)


def _extra(value: dict[str, Json]) -> dict[str, Json]:
    """The keys, if none is Remit's own or one that has a setting; otherwise raises the error of a validator."""
    for key in value:
        if key in _OWN_KEYS:
            raise invalid(f"has {key!r}, which Remit writes itself", "remove it")
        if key in ModelSettingsTable.model_fields:
            raise invalid(f"has {key!r}, which is a setting of its own", f"write {key} in [model_settings]")
    return value


class ModelSettingsTable(TomlTable):
    """The settings that are sent to the model's provider. Absent: the provider's own defaults."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description="How freely the model chooses its words; 0: the likeliest"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="The share of likely words from which it chooses"
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The number of likely words from which it chooses"
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, description="The most tokens of one turn")
    seed: int | None = Field(default=None, description="The same seed gives similar answers, where the provider can")
    stop: Annotated[list[str], Field(max_length=16)] = Field(default=[], description="Texts that end a turn")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How long the model thinks, as its provider names it"
    )
    extra: Annotated[dict[str, Json], AfterValidator(_extra)] = Field(
        default={}, description="Further keys of the request, as the provider names them"
    )


class AgentTable(TomlTable):
    """One agent."""

    name: AgentName = Field(description="The name of the folder")
    summary: Summary
    model: Model | None = Field(
        default=None, description='"script:script.yaml", "openai:gpt-5", "anthropic:…" or "ollama:…"; or write `models`'
    )
    models: Annotated[list[Model], Field(min_length=1)] | None = Field(
        default=None,
        description='In place of `model`, a list: the next model is asked when one fails: ["openai:gpt-5", "anthropic:…"]',
    )
    base_url: Address | None = Field(
        default=None, description="The address of the provider of `model`, or of the first of `models`, if not its own"
    )
    base_urls: dict[Model, Address] = Field(default={}, description="The addresses of other models in `models`")
    prompt: Path = Field(description="The file with the prompt, beside agent.toml")
    tools: list[str] = Field(
        description='Tools, or single actions: ["files", "sql.query"]; "remit.read_result" reads long results in parts'
    )
    folder: Folder | None = Field(
        default=None,
        description='The working folder; with "{run}" in it, each run has its own. Absent: "work/NAME/{run}"',
    )
    seed: Path | None = Field(
        default=None, description="The folder of the workspace of which a new working folder is a copy"
    )
    accept_parsed_arguments: bool = Field(
        default=False, description="Accept arguments that the model's library parsed, where it does not give their text"
    )
    repair_calls: bool = Field(
        default=True,
        description="Read a call that its model wrote slightly wrong, where only one reading fits the schema",
    )
    mode: Literal["enforce", "observe"] = Field(
        default="enforce",
        description="observe: calls that a graph of yours makes to host tools are decided and recorded, and not refused",
    )
    observe_until: Day | None = Field(
        default=None,
        description='With mode = "observe": the last day in UTC; from the next day on, everything is enforced',
    )
    enforce: list[str] = Field(
        default=[], description='With mode = "observe": actions that are enforced already: ["shop.refund"]'
    )
    model_settings: ModelSettingsTable = ModelSettingsTable()
    budget: BudgetTable = BudgetTable()
    answer: AnswerTable | None = None
    context: ContextTable = ContextTable()
    target: TargetTable = TargetTable()
    directory: list[LookUpTable] = []
    graph: GraphEntry | None = Field(
        default=None,
        description='The function that builds the LangGraph graph of its runs: "shop:build" is `build` in shop.py, beside remit.toml',
    )
    graph_calls: list[GraphCallName] = Field(
        default=[],
        description="Functions of that graph that its models may call; they are part of it, so nothing decides them",
    )


class SandboxTable(TomlTable):
    """The confinements that are accepted. If the machine offers no other, no tool runs."""

    accept: Annotated[list[Literal["full", "landlock"]], Field(min_length=1)] = Field(
        default=["full"], description="full: with namespaces; landlock: without, which is weaker"
    )


class RedactTable(TomlTable):
    """Environment variables whose values are redacted in every record."""

    env: list[Variable] = Field(default=[], description='Names of variables: ["DATABASE_URL"]')


class PolicyTable(TomlTable):
    """For which calls stock Casbin is also asked: those with an effect, all, or none.

    With "load", it only checks new rules before they come into force.
    """

    casbin: Literal["effects", "always", "load"] = Field(
        default="effects", description="effects: calls with an effect; always: all calls; load: no call"
    )


class CheckTable(TomlTable):
    """What makes `remit check` fail."""

    fail_on: Literal["error", "warning", "note"] = Field(
        default="error", description="The least grave level that fails, with exit code 1; errors always fail, with 2"
    )


class KeepTable(TomlTable):
    """How long the runs that match are kept. Without `agent`, `outcome` or `label` it matches all of them."""

    keep: Age = Field(description='How long they are kept: "7d"')
    agent: AgentName | None = Field(default=None, description="The name of an agent")
    outcome: Literal["completed", "escalated", "exhausted", "failed", "stopped"] | None = Field(
        default=None, description="How the run ended"
    )
    label: Annotated[str, Matching(r"[a-z][a-z0-9_-]{0,30}", "a label", "write its name")] | None = Field(
        default=None, description="A label of what the run read"
    )


class TracesTable(TomlTable):
    """What is recorded, and how long; `keep` absent: until `remit trace prune`."""

    content: bool = Field(default=True, description="false: what people, models and tools wrote is not recorded")
    keep: Age | None = Field(default=None, description='How long runs are kept: "90d"')
    keep_rules: list[KeepTable] = Field(
        default=[], description="Other times for some runs; the first rule that matches decides, before `keep`"
    )
    seal: Age = Field(
        default="1d", description="How long after its end a run is sealed by `remit trace prune`: compressed"
    )


class SettingsTable(TomlTable):
    """The settings of the whole workspace."""

    remit_version: Version | None = Field(
        default=None,
        description="The oldest version of Remit that reads this workspace; absent: any, as far as it understands it",
    )
    journal: DatabaseUrl | None = Field(
        default=None, description="Where runs are recorded: postgresql://HOST/DATABASE; absent: traces/journal.db"
    )
    journal_group: Group | None = Field(
        default=None, description="The accounts of this group share traces/journal.db; absent: its owner only"
    )
    tenant: Tenant = Field(
        default=DEFAULT_TENANT, description="The tenant of the workspace: who asks must be of it, and each run names it"
    )
    env: Environment = Field(default="local", description="The environment, which conditions read as `env`")
    envs: list[Environment] = Field(default=[], description="Other environments that rules may name")
    kinds: list[Kind] = Field(
        default=[], description='Kinds of resources that rules may name beside those of the tools: ["person"]'
    )
    users: list[UserOrService] | None = Field(
        default=None, description="Users and services that rules may name, beside the users in [identity]"
    )
    identity: dict[str, User] | None = Field(
        default=None,
        description='The user of each operating-system account; "*" is every other account. Absent: the user of the same name',
    )
    sandbox: SandboxTable = SandboxTable()
    host_tools: list[str] = Field(default=[], description='Tools with source = "host", which run unconfined')
    redact: RedactTable = RedactTable()
    traces: TracesTable = TracesTable()
    policy: PolicyTable = PolicyTable()
    check: CheckTable = CheckTable()
    secrets: dict[SecretName, SecretSourceTable] = Field(
        default={}, description="Where the values of secrets come from that another system keeps, by name"
    )
    notify: dict[ChannelName, NotifyTable] = Field(
        default={}, description="The channels to which notifications go, by name"
    )
    serve: ServeTable = ServeTable()
    worker: WorkerTable = WorkerTable()
    storage: StorageTable = StorageTable()
    issuers: IssuerTables = Field(
        default={}, description="Who may say who asks the service: identity providers and applications, by name"
    )
    enforcement_points: dict[PointName, EnforcementPointTable] = Field(
        default={}, description="Applications that ask for decisions (AuthZEN), by the name of their actions in rules"
    )
