"""The events of a run: the only state there is.

An event is written once and never edited. `key` names it within its run: appending a second event with the same key is
refused by the journal, which is how two workers on one run cannot both intend the same attempt.
"""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from remit.core.calls import Access, Ask, Call, Confinement, Decision, Json, Missing, Noun, Result, Scope, Subjects
from remit.core.errors import Code

NANO: Final = 1_000_000_000  # nanoseconds of a second; every time that is recorded is in Unix nanoseconds

# escalated: no answer held, so people must look
Outcome: TypeAlias = Literal["completed", "failed", "stopped", "exhausted", "escalated"]
Content: TypeAlias = Literal["whole", "withheld", "replaced"]
Landed: TypeAlias = Literal["landed", "not_landed", "unknown", "none"]  # "none": a read has no effect to land
SandboxLimit: TypeAlias = Literal[
    "wall", "cpu", "memory", "output", "prints", "file_size", "file_space", "open_files", "processes"
]
NetworkLimit: TypeAlias = Literal["sent", "received", "requests", "connections"]
LimitName: TypeAlias = Literal[SandboxLimit, NetworkLimit]


class Event(Noun):
    """What every event has. `step` and `index` are None where the event is not of a step or a call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    step: int | None = None
    index: int | None = None
    attempt: int | None = None

    @property
    def key(self) -> str:
        """Unique within a run."""
        parts = (self.step, self.index, self.attempt)
        return "/".join([getattr(self, "type"), *("-" if part is None else str(part) for part in parts)])  # noqa: B009 - declared by each subclass as its discriminator


class RunStarted(Event):
    """A run begins. `rulebook` is the digest of the object that lists every file the run stands on.

    `content` says whether the record holds what people, models and tools said: whole, withheld, or replaced by shapes.
    `shrunk_from` names the run that this one was cut out of by `remit trace shrink`: nobody ever ran it.
    """

    type: Literal["run.started"] = "run.started"
    subjects: Subjects
    account: str  # the operating-system account, whatever subject it maps to
    actor: str = ""  # the subject of that account; another than `subjects.user` where it acts for somebody else
    task: str
    prompt: str
    model: str  # "script:script.yaml", "openai:gpt-5"
    scripted: bool
    actions: tuple[str, ...]
    rulebook: str
    policy_digest: str
    confinement: Confinement
    env: str
    folder: str  # working folder, relative to the workspace
    version: str
    content: Content = "whole"
    scope: Scope | None = None
    shrunk_from: str = ""


class RunResumed(Event):
    """Another process takes the run up, perhaps under other rules. `count` is 1 for the first resumption."""

    type: Literal["run.resumed"] = "run.resumed"
    count: int
    account: str
    rulebook: str
    policy_digest: str

    @property
    def key(self) -> str:
        return f"run.resumed/{self.count}"


class RulesChanged(Event):
    """The rules were edited while the run goes on. `rulebook` is what it stands on from here.

    `problem` says why the edit is not in force; then the rules are those from before.
    """

    type: Literal["rules.changed"] = "rules.changed"
    count: int
    rulebook: str = ""
    policy_digest: str
    problem: str = ""

    @property
    def key(self) -> str:
        return f"rules.changed/{self.count}"


class ModelAsked(Event):
    """The model is about to be asked. `input_digest` covers the whole conversation and the tools offered."""

    type: Literal["model.asked"] = "model.asked"
    step: int
    model: str
    input_digest: str


class Usage(Noun):
    """Tokens, as the provider counts them; None where it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ModelAnswered(Event):
    """One turn of the model; or, `unseen` by it, one of Remit's own, which looks up what the directory is to know."""

    type: Literal["model.answered"] = "model.answered"
    step: int
    text: str
    asks: tuple[Ask, ...] = ()
    finish: str  # "stop" | "tool_calls" | "length" | the provider's own word
    usage: Usage = Usage()
    response_model: str = ""
    unseen: bool = False


class ModelFailed(Event):
    """The model could not be asked, or its answer could not be read."""

    type: Literal["model.failed"] = "model.failed"
    step: int
    message: str


class AnswerRejected(Event):
    """What the model said last does not hold as an answer; it is told why and asked again."""

    type: Literal["answer.rejected"] = "answer.rejected"
    step: int
    problems: tuple[str, ...]


class CallDecided(Event):
    """A call of a step was parsed, made canonical and decided; or refused before it could be.

    `call` is None where parsing or canonicalisation failed: then `refused` holds the result. `round` counts decisions of
    the same call: 0 first, 1 after the first grant. `said` is that fact of a call whose arguments are not recorded whole.
    """

    type: Literal["call.decided"] = "call.decided"
    step: int
    index: int
    ask: Ask
    round: int = 0
    call: Call | None = None
    decision: Decision | None = None
    refused: Result | None = None
    said: bool | None = None

    @property
    def key(self) -> str:
        return f"call.decided/{self.step}/{self.index}/{self.round}"


class ApprovalRequested(Event):
    """People are asked. `summary` is rendered from canonical arguments, never written by the model.

    With `break_glass`, one approval in `role:break-glass` would do in place of those in `missing`.
    """

    type: Literal["approval.requested"] = "approval.requested"
    step: int
    index: int
    decision_digest: str
    missing: tuple[Missing, ...]
    summary: str
    expires_at: int  # Unix nanoseconds
    break_glass: bool = False
    facts: dict[str, Json] = Field(default_factory=dict)  # what rules read of the run, as people were shown it

    @property
    def key(self) -> str:
        return f"approval.requested/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalGranted(Event):
    """One person grants in one role. `scripted` marks an approval that a demonstration script gave.

    In `role:break-glass` there is a `reason`, and the approval counts before `until` (Unix nanoseconds) only.
    """

    type: Literal["approval.granted"] = "approval.granted"
    step: int
    index: int
    decision_digest: str
    approver: str
    role: str
    account: str
    scripted: bool = False
    reason: str = ""
    until: int | None = None
    hasty: bool = False  # after other approvals of unlike calls, all within a minute

    @property
    def key(self) -> str:
        return f"approval.granted/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRejected(Event):
    """One person rejects."""

    type: Literal["approval.rejected"] = "approval.rejected"
    step: int
    index: int
    decision_digest: str
    approver: str
    account: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.rejected/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalRevoked(Event):
    """A person takes their approval back, before the call has been carried out."""

    type: Literal["approval.revoked"] = "approval.revoked"
    step: int
    index: int
    decision_digest: str
    approver: str
    account: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.revoked/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRefused(Event):
    """Somebody tried to approve, reject or revoke, and may not, or came too late. `number` counts from 1."""

    type: Literal["approval.refused"] = "approval.refused"
    step: int
    index: int
    number: int
    approver: str
    account: str
    code: Code
    message: str

    @property
    def key(self) -> str:
        return f"approval.refused/{self.step}/{self.index}/{self.number}"


class ApprovalVoided(Event):
    """An approval that was given counts no more: the question has changed, or its giver's role is gone."""

    type: Literal["approval.voided"] = "approval.voided"
    step: int
    index: int
    decision_digest: str
    approver: str
    code: Code
    reason: str

    @property
    def key(self) -> str:
        return f"approval.voided/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class BreakGlassReviewed(Event):
    """A second person has looked at an approval in `role:break-glass`. Recorded in the run named `workspace`: `run` may be over."""

    type: Literal["break_glass.reviewed"] = "break_glass.reviewed"
    step: int
    index: int
    run: str
    granted: str  # the key of the approval
    reviewer: str
    account: str
    note: str

    @property
    def key(self) -> str:
        return f"break_glass.reviewed/{self.run}/{self.granted}"


class AttemptIntended(Event):
    """The effect is about to happen; for anything but a read this is on disk first."""

    type: Literal["attempt.intended"] = "attempt.intended"
    step: int
    index: int
    attempt: int
    request_digest: str
    decision_digest: str
    profile_digest: str
    confinement: Confinement
    idempotency_key: str = ""
    effect_digest: str = ""  # of what is acted on, whatever else the model wrote; "" where repeating does no harm


class Spent(Noun):
    """What an attempt used. Seconds of wall and processor time, bytes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    output_bytes: int = 0


class Limit(Noun):
    """The limit that an attempt hit. `most` and `used` in `unit`; `used` None where nobody counted."""

    name: LimitName
    most: float
    used: float | None
    unit: Literal["s", "bytes", "count"]


class Change(Noun):
    """One file that the broker committed for the tool. `digest` is of its content, "" where it was removed."""

    resource: str
    digest: str
    size: int


class Refused(Noun):
    """Something that the sandbox refused to open, and the manifest line that would allow it."""

    access: Access
    what: str
    allow: str


AddressClass: TypeAlias = Literal[
    "public",
    "private",
    "loopback",
    "link_local",
    "metadata",  # where clouds keep a machine's credentials
    "reserved",  # of no use on the internet, or an address that hides another
    "own",  # public, and this machine's
]
Verdict: TypeAlias = Literal[
    "allowed",
    "no_call",  # no call is known by its token
    "not_decided",
    "not_a_name",  # an address, or a name that is spelled oddly
    "not_public",
    "not_tls",
    "other_name",  # the tunnel, the TLS hello and the Host header do not agree
    "hidden_name",  # the TLS hello names nobody, or encrypts whom
    "malformed",  # what two readers could read differently
    "quota",
    "opaque_answer",  # it could carry a secret back, and cannot be looked into
    "not_resolved",
    "unreachable",
    "bad_certificate",
    "bad_answer",
    "idle",
    "broken",  # one side went away
]


class Connection(Noun):
    """One request over the network, or one connection that was not looked into, as the egress proxy saw it.

    `address` is the class of what was dialled or refused, None where no name was resolved. `method`, `path` and `status` are
    there where it was looked into. Bytes are of this request alone.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    address: AddressClass | None = None
    method: str = ""
    path: str = ""
    status: int | None = None
    sent: int = 0
    received: int = 0
    verdict: Verdict = "allowed"
    why: str = ""

    def __str__(self) -> str:
        """`GET https://host:443/path 200 public 120 B out 5120 B in`: as a person reads it."""
        what = f"{self.method} " if self.method else ""
        came = self.status if self.verdict == "allowed" else self.verdict
        parts = (came, self.address, f"{self.sent} B out", f"{self.received} B in")
        told = " ".join(str(part) for part in parts if part is not None)
        return f"{what}{self.scheme}://{self.host}:{self.port}{self.path} {told}"


class AttemptEnded(Event):
    """One attempt is over. `landed` says what is known of its effect.

    `labels` are those of the action, where it failed and the model reads what the tool said of that.
    """

    type: Literal["attempt.ended"] = "attempt.ended"
    step: int
    index: int
    attempt: int
    code: Code | None  # None: it succeeded
    cause: Code | None = None  # how the attempt itself ended, where `code` is only what that means: `outcome_unknown`
    error: str | None = None  # the tool's own declared error name, with `tool_failed`
    message: str = ""
    labels: tuple[str, ...] = ()
    value: Json = None
    landed: Landed = "none"
    changes: tuple[Change, ...] = ()
    refused: tuple[Refused, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: Spent = Spent()
    limit: Limit | None = None  # with `timeout` and `resource_exhausted`
    lost: bool = False  # the process that ran it died; another one wrote this
    retry_in_s: float | None = None  # seconds until the next attempt; None: there is none
    retry_after_s: float | None = None  # seconds that the tool itself asked to wait


class EffectSettled(Event):
    """What came of an effect whose end nobody saw, found by the tool's own probe or said by a person.

    `by` is `probe:tickets.closed` or `user:ann`; `number` counts from 1, probes and people apart. `value` is what the call would have returned,
    None where nobody can tell that.
    """

    type: Literal["effect.settled"] = "effect.settled"
    step: int
    index: int
    number: int
    landed: Landed
    by: str
    account: str = ""
    reason: str = ""
    value: Json = None

    @property
    def key(self) -> str:
        return f"effect.settled/{self.step}/{self.index}/{'person' if self.by_person else 'probe'}/{self.number}"

    @property
    def by_person(self) -> bool:
        return self.by.startswith("user:")


class CallAnswered(Event):
    """The one result of a call, as the model reads it.

    `cleared` are the labels that it takes off the run; `listed` the resources that the directory knows by it.
    """

    type: Literal["call.answered"] = "call.answered"
    step: int
    index: int
    result: Result
    output_digest: str = ""
    cleared: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()


class RunFinished(Event):
    """The run is over."""

    type: Literal["run.finished"] = "run.finished"
    outcome: Outcome
    answer: str = ""
    code: Code | None = None
    message: str = ""


class BudgetSpent(Event):
    """What a call, or a turn (`index` None), takes of limits that all runs share: at first at most, then really.

    `amounts` are by the limit's scope, in whole units (calls, milliseconds, bytes, tokens, millionths of money).
    """

    type: Literal["budget.spent"] = "budget.spent"
    step: int
    phase: Literal["reserved", "used"]
    amounts: dict[str, int]

    @property
    def key(self) -> str:
        return f"budget.spent/{self.step}/{'-' if self.index is None else self.index}/{self.phase}"


class HoldSet(Event):
    """An operator stops a run, an agent, a tool, or all. Recorded in the run named `workspace`."""

    type: Literal["hold.set"] = "hold.set"
    number: int
    scope: str  # "run:…", "agent:…", "tool:…", "all"
    reason: str
    account: str

    @property
    def key(self) -> str:
        return f"hold.set/{self.number}"


class HoldLifted(Event):
    """An operator lifts a hold."""

    type: Literal["hold.lifted"] = "hold.lifted"
    number: int
    scope: str
    account: str

    @property
    def key(self) -> str:
        return f"hold.lifted/{self.number}"


class RunPruned(Event):
    """A run was let go by retention. `head` is the last event of its chain, `41:sha256:…`. Recorded in `workspace`."""

    type: Literal["run.pruned"] = "run.pruned"
    run: str
    head: str
    account: str

    @property
    def key(self) -> str:
        return f"run.pruned/{self.run}"


class ToolFailed(Event):
    """A tool failed by itself, in whatever run. Recorded in the run named `workspace`; `run` is where it happened.

    After `limit` failures in a row it rests for `rest_s` seconds, twice as long each time that it fails a trial.
    """

    type: Literal["tool.failed"] = "tool.failed"
    tool: str
    run: str
    code: Code
    limit: int
    rest_s: float

    @property
    def key(self) -> str:
        return f"tool.failed/{self.run}/{self.step}/{self.index}/{self.attempt}"


class ToolTried(Event):
    """One call is let through to a tool that has rested. `opened_at` names the rest; `number` counts its trials."""

    type: Literal["tool.tried"] = "tool.tried"
    tool: str
    run: str
    opened_at: int
    number: int

    @property
    def key(self) -> str:
        return f"tool.tried/{self.tool}/{self.opened_at}/{self.number}"


class ToolRecovered(Event):
    """A tool works again."""

    type: Literal["tool.recovered"] = "tool.recovered"
    tool: str
    run: str

    @property
    def key(self) -> str:
        return f"tool.recovered/{self.run}/{self.step}/{self.index}/{self.attempt}"


AnyEvent: TypeAlias = Annotated[
    RunStarted
    | RunResumed
    | RulesChanged
    | ModelAsked
    | ModelAnswered
    | ModelFailed
    | AnswerRejected
    | CallDecided
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalRejected
    | ApprovalRevoked
    | ApprovalRefused
    | ApprovalVoided
    | BreakGlassReviewed
    | AttemptIntended
    | AttemptEnded
    | EffectSettled
    | BudgetSpent
    | CallAnswered
    | RunFinished
    | HoldSet
    | HoldLifted
    | RunPruned
    | ToolFailed
    | ToolTried
    | ToolRecovered,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Recorded(BaseModel):
    """An event with its place in the chain of its run.

    `at` is Unix nanoseconds; `hash` is SHA-256 over `prev`, the header and the salted digest of the body, so that a body
    can be erased without breaking the chain: then `event` and `salt` are None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    seq: int
    at: int
    type: str
    key: str
    prev: str
    hash: str
    payload_digest: str
    salt: str | None
    event: AnyEvent | None


Body: TypeAlias = dict[str, Json]
