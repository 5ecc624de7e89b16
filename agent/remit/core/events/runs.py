"""Events of a run and of its model: started, resumed, requested, responded, finished."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, PlainSerializer

from remit.core.answers import AnswerProblem, Source
from remit.core.calls import Confinement, FrozenModel, Json, ProposedCall, Scope, Subjects
from remit.core.errors import Code
from remit.core.events.conversations import ConversationRun
from remit.core.events.event import NANO, Event
from remit.core.events.rollouts import RunArm
from remit.core.principals import DEFAULT_TENANT, Principal, same_person

Outcome: TypeAlias = Literal[
    "completed",  # the model gave a valid answer
    "failed",
    "stopped",  # cancelled, or too many calls in a row were refused
    "exhausted",  # the budget is used up
    "escalated",  # no answer was valid, so a person must look at the run
]
# The program outside of Remit that drives a run.
Driver: TypeAlias = Literal[
    "",  # none: Remit's own graph does
    "langgraph",  # a graph of LangGraph
    "mcp",  # the agent behind an MCP client
    "hooks",  # a session of a coding agent
]
# Whether a record has the content: what people, models and tools wrote.
Content: TypeAlias = Literal[
    "complete",
    "omitted",  # not recorded; the run cannot be replayed
    "anonymized",  # replaced by placeholders of the same shape
]

# How an answer of a provider differed from the usual wire format, and was read all the same.
Deviation: TypeAlias = Literal[
    "arguments_not_text",  # the arguments of a call came as an object
    "calls_without_index",  # calls had no index, or shared one
    "content_not_text",  # the text came as parts, or as another value
    "legacy_function_call",  # a call came in the older form, without `tool_calls`
    "not_streamed",  # the answer came as one document
]


# An exact amount in the currency of `policies/prices.toml`. As JSON it is a text: "0.0037".
Money: TypeAlias = Annotated[
    Decimal,
    Field(strict=False, allow_inf_nan=False),
    PlainSerializer(lambda amount: format(amount, "f"), str),
]


class ContextLimits(FrozenModel):
    """Records how much the model of a run reads, in bytes of JSON text.

    `limit` is the most for a whole conversation with the tools offered; None: as much as the model accepts. `result` is the most for
    one result, if the agent has the action `remit.read_result`, by which it can read the rest.
    """

    limit: int | None = None
    result: int = 16 * 1024


class Observation(FrozenModel):
    """Records that calls of a graph's own tools are decided and recorded, and not refused, until that time (Unix nanoseconds).

    `enforce` are the actions for which decisions are enforced all the same.
    """

    until: int
    enforce: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is not enforced, as a person reads it."""
        until = datetime.fromtimestamp(self.until / NANO, UTC).strftime("%Y-%m-%d %H:%MZ")
        but = f", except {', '.join(self.enforce)}" if self.enforce else ""
        return f"decisions on host tools are not enforced until {until}{but}"

    def covers(self, action: str, at: int) -> bool:
        """True if no decision on that action of a host tool is enforced at that time."""
        return at < self.until and action not in self.enforce


class GoesOn(FrozenModel):
    """Records the run whose steps before `step` another run has as its own, with what it recorded of them."""

    run: str
    step: int


IMPORTS: Final = "import:"


class ImportedFrom(FrozenModel):
    """Records where an imported run comes from: the name of the import, the tool that wrote its spans, and the id of its trace there."""

    name: str
    tool: str
    trace: str


class RunStarted(Event):
    """Records that a run starts, for whom, and under which rules. `by` is who started it.

    `bundle` is the digest of the policy bundle: the object that lists every file of the workspace that the run uses.
    `fallbacks` are the models that are asked, in this order, when `model` fails. `actions` are those that the model is offered. `content` says whether the record has what people, models and tools wrote.
    `scope` is a further bound on this run, None without one. `arm` is its side of a rollout, None without one. `shrunk_from` names the run of which `remit trace shrink` made
    this one: such a run was never executed. `evaluation` is the id of the evaluation that the run belongs to, "" for a live run. `goes_on` names the run of which this one is played from a step on; None for a run that began at its beginning. `version` is that of Remit.
    `imported` says where the run comes from, if another tool executed it and Remit decided none of its calls.
    `driver` is the program outside of Remit that drives the run, "" for Remit's own graph, and `thread` names the thread of such a graph.
    `conversation` is the place of the run in its conversation; None for a run that is a whole conversation.
    `graph` is the digest of the custom graph of its agent, which Remit drives; "" without one.
    `observe` says which decisions are not enforced, for the graph of another framework only; None: all are.
    `priority` is its place among the runs that wait for a worker, 9 the first; None: no worker drives the run.
    `files` is the digest of the list of the files that its working folder began with, if machines share them; "" otherwise.
    """

    type: Literal["run.started"] = "run.started"
    subjects: Subjects
    by: Principal  # its subject differs from `subjects.user` if it acts for another user
    tenant: str = DEFAULT_TENANT  # of the workspace
    task: str
    prompt: str
    model: str  # "script:script.yaml", "openai:gpt-5"
    fallbacks: tuple[str, ...] = ()
    scripted: bool
    actions: tuple[str, ...]
    bundle: str
    policy_digest: str
    confinement: Confinement
    env: str
    folder: str  # working folder, relative to the workspace
    version: str
    content: Content = "complete"
    scope: Scope | None = None
    arm: RunArm | None = None
    context: ContextLimits = ContextLimits()
    shrunk_from: str = ""
    evaluation: str = ""
    goes_on: GoesOn | None = None
    imported: ImportedFrom | None = None
    driver: Driver = ""
    thread: str = ""
    conversation: ConversationRun | None = None
    graph: str = ""
    observe: Observation | None = None
    priority: Annotated[int, Field(ge=1, le=9)] | None = None
    files: str = ""

    @property
    def agent(self) -> str:
        """The name of the agent, without its kind."""
        return self.subjects.agent.partition(":")[2]

    def observes(self, at: int) -> bool:
        """True if the agent observes at that time, so that no budget ends the run."""
        return self.observe is not None and at < self.observe.until

    @property
    def apart(self) -> str:
        """The id of the evaluation or of the import that the run belongs to; "" for a live run."""
        return self.evaluation or (f"{IMPORTS}{self.imported.name}" if self.imported is not None else "")

    @property
    def driven_by(self) -> str:
        """Who drives the run, in words; "" for Remit's own graph."""
        return {"": "", "langgraph": "a graph of LangGraph", "mcp": "an MCP client", "hooks": "a coding agent"}[
            self.driver
        ]

    @property
    def goes_on_by(self) -> str:
        """What makes a run go on that Remit does not drive."""
        if self.driver == "hooks":
            return f"make the call again in the session {self.thread!r} of the coding agent"
        if self.driver == "mcp":
            return "let the same client call a tool again, at the same address"
        where = f"the thread {self.thread!r}" if self.thread else "the same state"
        return f"invoke that graph again with {where}; its process needs the same workspace"

    def is_requested_by(self, other: Principal) -> bool:
        """True if that may be the user of the run, or the person who started it, under any account or name."""
        return other.subject in self.subjects.all or same_person(self.by, other)


class AcceptedChanges(FrozenModel):
    """Records that a run goes on with the definition on disk: a person, or the deployed external graph, takes its changes.

    `changed` are the files, codes and pins that differ from the definition before; `prompt` and `actions` are those from here on.
    """

    changed: tuple[str, ...]
    prompt: str
    actions: tuple[str, ...]


class RunResumed(Event):
    """Records that another process resumes the run, possibly under other rules. `count` is 1 for the first time.

    `bundle` has the definition that the run had before, and the rules in force; with `accepted`, the files on disk. `since` is when the
    process before recorded its last event, in Unix nanoseconds: no process drove the run from then on.
    """

    type: Literal["run.resumed"] = "run.resumed"
    count: int
    by: Principal
    bundle: str
    policy_digest: str
    accepted: AcceptedChanges | None = None
    since: int = 0

    @property
    def key(self) -> str:
        return f"run.resumed/{self.count}"


class PolicyChanged(Event):
    """Records that the policy files were changed during the run.

    `bundle` and `policy_digest` are in force from here on. If the new files are not valid, `problem` says why, and the earlier
    rules stay in force.
    """

    type: Literal["policy.changed"] = "policy.changed"
    count: int
    bundle: str = ""
    policy_digest: str
    problem: str = ""

    @property
    def key(self) -> str:
        return f"policy.changed/{self.count}"


class ModelSettings(FrozenModel):
    """The settings that are sent to a model. None, or empty: the provider's own default.

    `max_tokens` bounds one turn. `extra` are further keys of the request, as the provider names them.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    reasoning_effort: str | None = None
    extra: dict[str, Json] = Field(default_factory=dict)

    @property
    def given(self) -> dict[str, Json]:
        """Those that are set, by name."""
        return self.model_dump(mode="json", exclude_defaults=True)


class ModelRequested(Event):
    """Records that the model is requested now, with these settings.

    `input_digest` covers the conversation so far and the tools offered. `attempt` is None for the first request of a step; after a
    failure it counts the requests of the step, from 2.
    """

    type: Literal["model.requested"] = "model.requested"
    step: int
    model: str
    settings: ModelSettings = ModelSettings()
    input_digest: str


class Usage(FrozenModel):
    """Tokens of one turn as the provider counts them; None if it does not report them.

    `input_tokens` contain the tokens that were read from the provider's cache (`cache_read`) and those that were written to it
    (`cache_write`); `cache_write_1h` are those of `cache_write` that stay for an hour. `output_tokens` contain `reasoning`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


class ModelResponded(Event):
    """Records one turn of the model. `cost` is its price, None if it is not known.

    `internal` is True for a turn that Remit makes itself, to look up what goes into the directory; the model does not read it.
    `provider_state` is what the provider needs back with the turn, such as signatures of its thoughts: JSON text that only the
    provider's adapter reads. `deviations` are the ways in which the answer differed from the usual wire format. `own_calls` are the
    calls of functions of a custom graph itself, which nothing decides. `by` is the person who made the calls of the turn in place of the
    model; None: the model did.
    """

    type: Literal["model.responded"] = "model.responded"
    step: int
    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    finish: str  # "stop" | "tool_calls" | "ended" | "length" | "refusal" | the provider's own word
    usage: Usage = Usage()
    cost: Money | None = None
    response_model: str = ""
    internal: bool = False
    provider_state: str = ""
    deviations: tuple[Deviation, ...] = ()
    own_calls: tuple[ProposedCall, ...] = ()
    by: Principal | None = None


class ModelFailed(Event):
    """Records that the request to the model failed, or that its response could not be read.

    `attempt` is that of the request. `model` is the model that failed. `passing` is True if the same request may succeed later.
    `again_at` is when the run asks the next time, this model or another one of its list (Unix nanoseconds); until then it waits.
    None: no model is left to ask, and the run ends.
    """

    type: Literal["model.failed"] = "model.failed"
    step: int
    message: str
    model: str = ""
    passing: bool = False
    again_at: int | None = None


class ContextReduced(Event):
    """Records that the model reads less of the conversation from here on, because it was too long.

    `cause` is "limit" for the limit in agent.toml, or "overflow" if the model refused the conversation with `message`. The turns
    before the step `before` are left out, and their calls are listed instead; of a result the model reads at most `result` bytes,
    None: all of it. `input_bytes` was the size of the conversation. `count` counts the reductions of the run from 1;
    `attempt` is that of the request.
    """

    type: Literal["context.reduced"] = "context.reduced"
    step: int
    count: int
    cause: Literal["limit", "overflow"]
    before: int
    result: int | None
    input_bytes: int
    message: str = ""

    @property
    def key(self) -> str:
        return f"context.reduced/{self.count}"


class AnswerRejected(Event):
    """Records that the model's answer was not valid. The model receives the `problems` and answers again."""

    type: Literal["answer.rejected"] = "answer.rejected"
    step: int
    problems: tuple[AnswerProblem, ...]


class RunFinished(Event):
    """Records that the run ended, with its outcome. `code` and `message` say why it did not complete.

    `sources` are where the claims of a grounded answer come from, in their order.
    """

    type: Literal["run.finished"] = "run.finished"
    outcome: Outcome
    answer: str = ""
    code: Code | None = None
    message: str = ""
    sources: tuple[Source, ...] = ()


class BudgetSpent(Event):
    """Records what a call, or a turn (`index` None), takes from limits that all runs share.

    In the phase `reserved` these are upper bounds, in the phase `used` the amounts that were used. `amounts` are by the scope of
    the limit, in whole units: calls, milliseconds, bytes, tokens, millionths of the currency. `windows` are the lengths of the
    limits' windows in nanoseconds, and `at` is the time (Unix nanoseconds) at which the amounts count.
    """

    type: Literal["budget.spent"] = "budget.spent"
    step: int
    phase: Literal["reserved", "used"]
    at: int
    amounts: dict[str, int]
    windows: dict[str, int]

    @property
    def key(self) -> str:
        return f"budget.spent/{self.step}/{'-' if self.index is None else self.index}/{self.phase}"


class RunErased(Event):
    """Records that what people, models and tools wrote in a run was erased on request. It is recorded in the run named `workspace`."""

    type: Literal["run.erased"] = "run.erased"
    number: int
    run: str
    by: Principal

    @property
    def key(self) -> str:
        return f"run.erased/{self.number}/{self.run}"


class RunPruned(Event):
    """Records that the retention policy or an operator deleted a run.

    It is recorded in the run named `workspace`. `head` is the last event of the deleted chain, `41:sha256:…`, so that an exported
    copy can still be verified.
    """

    type: Literal["run.pruned"] = "run.pruned"
    run: str
    head: str
    by: Principal

    @property
    def key(self) -> str:
        return f"run.pruned/{self.run}"
