"""The data of one tool call: what the model proposed, what it means, what was decided, and the result.

    ProposedCall ─► Call ─► Decision ─► Result

`ProposedCall` is the tool call as the model wrote it. `Call` is the same call parsed, with canonical arguments and its
resources. `Decision` is what policy says of it. `Result` is what the model reads. All are immutable, and all are recorded,
so their fields are part of the trace format.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from remit.core.errors import ModelCode

Json: TypeAlias = Any  # a value of JSON: None, bool, int, float, str, list, dict

# How a call accesses a resource. The kernel enforces "read" and "write"; "use" opens nothing, so only the tool enforces it.
Access: TypeAlias = Literal["read", "write", "use"]
Effect: TypeAlias = Literal[
    "read",  # nothing changes
    "idempotent",  # a second execution changes nothing more
    "keyed",  # the server recognizes a repetition by its idempotency key
    "once",  # a second execution would have a second effect: never retried
]
Verdict: TypeAlias = Literal[
    "allow",
    "ask",  # allowed once the missing approvals are given
    "deny",
]
Reason: TypeAlias = Literal[
    "allowed",
    "approval",
    "denied_by_rule",
    "no_rule_allows",
    "engines_disagree",  # the compiled rules allow it and stock Casbin does not
    "error",  # a condition could not be evaluated
    "imported",  # another tool ran the call; no rule of Remit decided it
]
Confinement: TypeAlias = Literal[
    "full",  # namespaces, Landlock and seccomp
    "landlock",  # Landlock and seccomp, no namespaces
    "none",  # the tool runs unconfined
    "unavailable",  # this machine cannot confine tools
]

# The role that may approve in an emergency: with a reason, for a limited time, and a second person reviews it.
BREAK_GLASS = "role:break-glass"
# What `confirmed()` counts: the user of the call agrees to it. INVARIANT: it is written as no role can be, so it is no role's approval.
CONFIRMATION: Final = "confirmation"
IN_CONVERSATION: Final = " in conversation"  # the end of a key of `Context.calls` that counts a whole conversation

JSON_SAFE_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3: larger integers are not exact in every JSON reader


def action_matches(action: str, pattern: str) -> bool:
    """True if a pattern of actions, as rules and limits have them, covers the action: its name, `tool.*`, or `*`."""
    return pattern in ("*", action) or (pattern.endswith(".*") and action.startswith(pattern[:-1]))


def matching_actions(actions: Collection[str], pattern: str) -> tuple[str, ...]:
    """Those of the actions that the pattern covers. Most patterns are a name, and cost no comparison with the others."""
    if not pattern.endswith("*"):
        return (pattern,) if pattern in actions else ()
    return tuple(action for action in actions if action_matches(action, pattern))


def tool_name(action: str) -> str:
    """The name by which a model calls an action, `files__read` for `files.read`: providers allow no dot in a name."""
    return action.replace(".", "__", 1)


def called_action(name: str) -> str:
    """The action that a model calls by that name: `files.read` for `files__read`."""
    return name.replace("__", ".", 1)


class FrozenModel(BaseModel):
    """A model whose instances are immutable, reject unknown fields and are compared by value."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values. Raises TypeError for a key that is not a field: pydantic would ignore it.

        A key that is ignored is a value that stays, such as a content that is to be left out of the record.
        """
        if update and (unknown := update.keys() - type(self).model_fields.keys()):
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return super().model_copy(update=update, deep=deep)


class ProposedCall(FrozenModel):
    """Records one tool call as the model wrote it, before it is parsed, checked and decided.

    `name` is the provider-safe name (`files__read`). `arguments` is the raw JSON text that the model streamed, None if the
    model library does not give it; then `parsed` is what that library parsed, used only if the agent accepts that. `id` is
    the model's own id of the call. `redacted` is True if a secret in the arguments was replaced before this was recorded.
    """

    name: str
    arguments: str | None
    parsed: dict[str, Json] | None = None
    id: str = ""
    redacted: bool = False

    @property
    def action(self) -> str:
        """The action that the name stands for: `files.read` for `files__read`."""
        return called_action(self.name)


class Repair(FrozenModel):
    """Records one difference between a call as the model wrote it and as it was read; the schema allows no other reading.

    `name`: a known prefix, suffix or space around the name of the action. `decoded`: an object or a list was written as JSON text.
    `absent`: null, for an argument that may be left out and not be null.
    `at` is the place in the arguments, with names of the schema only: `filters.0.limit`; "" for the name, and for all arguments.
    """

    kind: Literal["name", "decoded", "absent"]
    at: str = ""

    @property
    def text(self) -> str:
        """The repair as a person reads it."""
        readings = {
            "name": "the name of the call was read without what surrounds it",
            "decoded": f"{self.at or 'the arguments'}: JSON text was read as the value that it encodes",
            "absent": f"{self.at}: null was read as left out",
        }
        return readings[self.kind]


def call_id(step: int, index: int) -> str:
    """The id of a call in messages, results and spans. Remit makes it, because ids made by models can repeat."""
    return f"call_{step}_{index}"


class ResourceAccess(FrozenModel):
    """Records one resource of a call and how the call accesses it.

    `resource` is canonical, `file:docs/a.md`. One that ends in `/**` is a set of files: a rule that allows must cover all of
    it, a rule that denies applies if it intersects it. `fixed` is True if the manifest names the resource, so that nothing
    that the model writes chooses it.
    """

    access: Access
    resource: str
    fixed: bool = False

    @property
    def kind(self) -> str:
        """The kind of the resource: `file` of `file:docs/a.md`."""
        return self.resource.partition(":")[0]

    @property
    def name(self) -> str:
        """The resource without its kind: `docs/a.md` of `file:docs/a.md`."""
        return self.resource.partition(":")[2]


class Subjects(FrozenModel):
    """Records who acts: the agent, and the user for whom it acts. Policy must allow both."""

    agent: str  # "agent:triage"
    user: str  # "user:ann"; "user:none" if the account has no user

    @property
    def all(self) -> tuple[str, str]:
        return (self.agent, self.user)


class Permitted(FrozenModel):
    """Records which resources of one kind a call may read, as patterns of rules: `allow` for each subject, `deny` for all of them.

    A resource is permitted if a pattern of each subject allows it and none denies it.
    """

    allow: tuple[tuple[str, ...], ...]
    deny: tuple[str, ...] = ()


class Narrowing(FrozenModel):
    """Records how the rules narrow a call that reads whatever of a set is permitted.

    `left_out` are the stores of the set that the call does not get. `permitted` says by kind which resources inside of the others
    it may read; the tool applies that. Only operators read it: a model never learns what was left out.
    """

    left_out: tuple[str, ...] = ()
    permitted: dict[str, Permitted] = Field(default_factory=dict)


class Call(FrozenModel):
    """Records one parsed call: its action, its canonical arguments and its resources.

    A call is identified by (`run`, `step`, `index`), never by the model's own id: `step` is the turn of the model and `index` the
    place of the call in it, both from 0. `touches` are its resources, in the order of the manifest. `manifest` is the digest of
    the tool's manifest; `request_digest` covers it, so an approval does not apply to another version of the tool. `narrowing` is
    None for an action whose resources the rules do not narrow.
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
    narrowing: Narrowing | None = None


class Rule(FrozenModel):
    """Records one rule of the policy as decisions quote it: its file, its line (from 1), its text and its note."""

    file: str
    line: int
    text: str
    effect: Literal["allow", "deny"]
    note: str = ""


class MissingApproval(FrozenModel):
    """Records which approvals a call still needs: `count` people in that role."""

    role: str
    count: int = 1


class Escalation(FrozenModel):
    """Records who may answer a request for approval too once nobody has answered it for so many seconds."""

    role: str
    after_s: int


class ModelDenial(FrozenModel):
    """Records the part of a denial that the model reads: no more than the deciding rules disclose.

    `rules` are their notes, or their texts if they have no note. `next_step` is one instruction, None if there is none.
    """

    reason: Reason
    message: str
    rules: tuple[str, ...] = ()
    next_step: str | None = None


class Decision(FrozenModel):
    """Records what policy decided on one call, and why.

    `verdict` is `ask` if exactly the approvals in `missing` would change a denial to an allow; with `break_glass`, one approval
    in `role:break-glass` would do so too, and one in a role of `escalations` once its time has come. `expires_s` is how many seconds
    people have to answer, None for the default. `reason` distinguishes "no rule allows it" from "a rule denies it". `rules` are the
    rules that decided; `nearest` are rules that almost matched, if no rule allows the call. `facts` are the values of the facts
    that the deciding rules read, by name. `next_step` says what would change the outcome. Only the operator reads these
    fields. `for_model` is the part of a denial that the model reads; None until `Policy.advise` has added it.
    `policy_digest` identifies the rules; `decision_digest` is what people approve (see `digests.py`).
    """

    verdict: Verdict
    reason: Reason
    message: str
    rules: tuple[Rule, ...] = ()
    nearest: tuple[Rule, ...] = ()
    missing: tuple[MissingApproval, ...] = ()
    break_glass: bool = False
    escalations: tuple[Escalation, ...] = ()
    expires_s: int | None = None
    facts: dict[str, Json] = Field(default_factory=dict)
    next_step: str | None = None
    for_model: ModelDenial | None = None
    policy_digest: str = ""
    decision_digest: str = ""


class Error(FrozenModel):
    """Records why a call failed, as the model reads it.

    `message` says what happened and `next_step` what to do next. `retryable` is True if the same call may succeed later: the
    broker computes it from the code, the effect and the attempts. `retry_after_s` is in seconds, None if unknown. `attempts` is how
    many times the tool was started; 0 means that the call was refused before that.
    """

    code: ModelCode
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    attempts: int = 0
    details: dict[str, Json] = Field(default_factory=dict)
    next_step: str | None = None


class Succeeded(FrozenModel):
    """Records the value that a tool returned, checked against its schema, and the labels that it puts on the run."""

    ok: Literal[True] = True
    value: Json
    labels: tuple[str, ...] = ()


class Failed(FrozenModel):
    """Records that a call ended with an error."""

    ok: Literal[False] = False
    error: Error

    @property
    def refused(self) -> bool:
        """True if the call was refused before the tool was started."""
        return self.error.attempts == 0


Result: TypeAlias = Annotated[Succeeded | Failed, Field(discriminator="ok")]


def is_refused(result: Result | None, *, enforced: bool) -> bool:
    """True if the call was refused and did not run. Of calls that are only observed, nothing but a hold stops one."""
    return isinstance(result, Failed) and result.refused and (enforced or result.error.code == "held")


class Context(FrozenModel):
    """The facts that a condition of a rule may read about one call; the set is closed and typed.

    `args` are the canonical arguments and `labels` those of the run. Resources that the manifest names are no choice of the
    model; of the others, `named_by_user` is True if the user's task names every one, and `identified` if the task or the
    directory does, or if there is none. `unidentified` are the kinds of those that neither names. `contains` says what the
    other texts of the arguments contain that neither names: "link", "address", "account", or the label of a result that they
    repeat. `quoted_by_user` is True if the user's task contains each of these texts, `requested_by_user` if it asks for such an
    action. `calls` counts earlier calls of the run by action, and those of
    its conversation by "ACTION in conversation"; `approvals` counts grants by role, one for each person. `env` is
    the environment, `time` is the time of day in UTC, `HH:MM`. `subject` and `resource` are properties of the one for whom the
    call is made and of its resources, from `policies/entities.jsonl` or from an enforcement point that `remit.toml` lists;
    `unclear` names those without one certain value, as "resource.status", and "resource.*" if that holds for all.
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
    subject: Mapping[str, Json] = Field(default_factory=dict)
    resource: Mapping[str, Json] = Field(default_factory=dict)
    unclear: frozenset[str] = frozenset()


class ScopeEntry(FrozenModel):
    """Records one permission of a scope: an action on a resource pattern, at most `calls` times (None: any number)."""

    action: str
    resource: str = "**"
    calls: int | None = None


class Scope(FrozenModel):
    """Records the most that one run may do, beside what policy allows; an empty `allow` allows nothing.

    For a call outside of it, the role `widen` is asked for approval; with "" the call is denied.
    """

    allow: tuple[ScopeEntry, ...] = ()
    widen: str = ""


class Request(FrozenModel):
    """The question to the policy: may every subject do this action on every resource, given these facts?"""

    subjects: tuple[str, ...]
    action: str
    resources: tuple[str, ...]
    context: Context


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Where a result contains names of resources of `kind`, which are then added to the directory.

    `path` leads to them: a member of an object, `*` for every item of a list, `@` for every key. `proper` is True for proper
    names, which may have several words. `links` is True if the path leads to texts and the names are links in them. `alias` is
    the path to other names of the same resources: then only resources that the user's task calls by that name, and no two of
    which have it, are added; empty: all are.
    """

    kind: str
    path: tuple[str, ...] = ()
    proper: bool = False
    links: bool = False
    alias: tuple[str, ...] = ()
