"""The nouns that travel: what the model asked, what was decided, what came back.

    Ask ─► Call ─► Decision ─► Result

All are immutable. `Call`, `Decision` and `Result` are recorded, so their shapes are part of the trace format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from remit.core.errors import ModelCode

Json: TypeAlias = Any  # a value that JSON can say: None, bool, int, float, str, list, dict

Access: TypeAlias = Literal["read", "write", "use"]  # what the kernel opens; "use" opens nothing: the tool enforces it
Effect: TypeAlias = Literal["read", "idempotent", "keyed", "once"]
Verdict: TypeAlias = Literal["allow", "ask", "deny"]
Reason: TypeAlias = Literal[
    "allowed",
    "approval",
    "denied_by_rule",
    "no_rule_allows",
    "engines_disagree",  # the compiled rules allow it, and stock Casbin does not
    "error",
]
Confinement: TypeAlias = Literal["full", "landlock", "none", "unavailable"]

BREAK_GLASS = (
    "role:break-glass"  # who may approve in an emergency: with a reason, for a time, reviewed by a second person
)

JSON_SAFE_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3: what every reader keeps exactly


def action_matches(action: str, pattern: str) -> bool:
    """Whether a pattern of actions, as rules and limits write them, is about it: exact, `tool.*`, or `*`."""
    return pattern in ("*", action) or (pattern.endswith(".*") and action.startswith(pattern[:-1]))


class FrozenModel(BaseModel):
    """Frozen, closed and compared by value."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ProposedCall(FrozenModel):
    """One tool call as the model wrote it, before anything is believed.

    `name` is the provider-safe name (`files__read`); `arguments` is the raw JSON text that the model streamed, or None
    where the model library hides it; `parsed` holds what that library parsed instead, used only if the agent opts in.
    `redacted` says that a secret in the arguments was replaced before this was recorded.
    """

    name: str
    arguments: str | None
    parsed: dict[str, Json] | None = None
    id: str = ""
    redacted: bool = False

    @property
    def action(self) -> str:
        """The action that the model meant: `files.read` of `files__read`."""
        return self.name.replace("__", ".", 1)


def call_id(step: int, index: int) -> str:
    """The id by which model, result and span agree on a call; ours, because model-made ids can repeat."""
    return f"call_{step}_{index}"


class ResourceAccess(FrozenModel):
    """One canonical resource that a call touches, and how the kernel opens it.

    A resource that ends in `/**` is a set: an allow must cover it, a deny applies where it intersects. `fixed`: the
    manifest names it, so nothing that the model writes chooses it.
    """

    access: Access
    resource: str
    fixed: bool = False

    @property
    def kind(self) -> str:
        return self.resource.partition(":")[0]

    @property
    def name(self) -> str:
        """The resource without its kind: `docs/a.md` of `file:docs/a.md`."""
        return self.resource.partition(":")[2]


class Subjects(FrozenModel):
    """Who acts: the agent, and the user it acts for. Both must be allowed."""

    agent: str  # "agent:triage"
    user: str  # "user:ann"; "user:none" where nobody is named

    @property
    def all(self) -> tuple[str, str]:
        return (self.agent, self.user)


class Call(FrozenModel):
    """One call, keyed by (run, step, index) and never by the model's own id.

    `arguments` are canonical; `manifest` is the digest of the tool's manifest, so that the request digest changes with it.
    """

    run: str
    step: int
    index: int
    subjects: Subjects
    action: str  # "files.read"
    arguments: dict[str, Json]
    touches: tuple[ResourceAccess, ...]
    effect: Effect
    manifest: str
    request_digest: str


class Rule(FrozenModel):
    """One policy row, as decisions quote it. `line` is 1-based."""

    file: str
    line: int
    text: str
    effect: Literal["allow", "deny"]
    note: str = ""


class MissingApproval(FrozenModel):
    """Approvals that would turn a denial: how many people must grant in that role."""

    role: str
    count: int = 1


class ModelDenial(FrozenModel):
    """The part of a denial that the model reads: no more than the deciding rules disclose."""

    reason: Reason
    message: str
    rules: tuple[str, ...] = ()  # notes, or the text where there is none
    next_step: str | None = None


class Decision(FrozenModel):
    """What policy says of one call.

    `verdict` is `ask` if the approvals in `missing`, and no fewer, would change the denial to an allow. With `break_glass`,
    one approval in `role:break-glass` would do instead. `reason` distinguishes "no rule allows" from "a rule denies".
    `rules` are the deciding ones; `nearest` are near misses if no rule allows. `facts` are the facts that the deciding
    rules read, by name. All of this is for the operator. `for_model` is the part of a denial that the model reads; None
    until `Policy.advise` has added it.
    """

    verdict: Verdict
    reason: Reason
    message: str
    rules: tuple[Rule, ...] = ()
    nearest: tuple[Rule, ...] = ()
    missing: tuple[MissingApproval, ...] = ()
    break_glass: bool = False
    facts: dict[str, Json] = Field(default_factory=dict)
    next_step: str | None = None
    for_model: ModelDenial | None = None
    policy_digest: str = ""
    decision_digest: str = ""


class Error(FrozenModel):
    """A structured error: what the model reads instead of prose.

    `retryable` is computed by the broker from code, effect and attempts; `retry_after_s` is in seconds.
    """

    code: ModelCode
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    attempts: int = 0
    details: dict[str, Json] = Field(default_factory=dict)
    next_step: str | None = None


class Succeeded(FrozenModel):
    """The tool's value, checked against its schema, and the labels that it puts on the run."""

    ok: Literal[True] = True
    value: Json
    labels: tuple[str, ...] = ()


class Failed(FrozenModel):
    """The call ended with a code."""

    ok: Literal[False] = False
    error: Error

    @property
    def refused(self) -> bool:
        """Whether the call never reached a tool."""
        return self.error.attempts == 0


Result: TypeAlias = Annotated[Succeeded | Failed, Field(discriminator="ok")]


class Grant(FrozenModel):
    """One person's approval of one request, given in one role; it counts before `until` (Unix nanoseconds), None: for good."""

    approver: str
    role: str
    until: int | None = None


class Context(FrozenModel):
    """The closed, typed set of facts that a condition may read.

    `named`: the user's own words name every resource that the model chose; `known`: they or the directory do, or it chose
    none; `unknown` are the kinds of those that neither names. `carries` is what the call's other texts hold that neither
    of them names: "link", "address", "account", and the label of a result that they repeat; `said`: the user's own words hold each of these texts; `intended`:
    they speak of such an act. `time` is UTC `HH:MM`;
    `approvals` counts grants by role, one grant a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    args: Mapping[str, Json] = Field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    named_by_user: bool = False
    identified: bool = False
    unidentified: frozenset[str] = frozenset()
    contains: frozenset[str] = frozenset()
    quoted_by_user: bool = False
    requested_by_user: bool = False
    effect: Effect = "once"
    calls: Mapping[str, int] = Field(default_factory=dict)
    approvals: Mapping[str, int] = Field(default_factory=dict)
    env: str = "local"
    confinement: Confinement = "full"
    time: str = "00:00"


class ScopeEntry(FrozenModel):
    """One thing that a scope allows; `calls` None is any number of them."""

    action: str
    resource: str = "**"
    calls: int | None = None


class Scope(FrozenModel):
    """What one run may do at most. Beyond it the role `widen` is asked; "": nobody is, and it is denied."""

    allow: tuple[ScopeEntry, ...] = ()
    widen: str = ""


class Request(FrozenModel):
    """What policy is asked: may every subject do this action on every resource, given these facts."""

    subjects: tuple[str, ...]
    action: str
    resources: tuple[str, ...]
    context: Context


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Where in a result the names of resources of `kind` stand; `proper`: they are proper names, of several words.

    `links`: they stand in texts there. `alias` is where their other names stand, by which the user speaks of them; empty:
    all of them are listed.
    """

    kind: str
    path: tuple[str, ...] = ()
    proper: bool = False
    links: bool = False
    alias: tuple[str, ...] = ()
