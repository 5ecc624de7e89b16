"""Events of a run and of its model: begun, resumed, asked, answered, ended."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.calls import Confinement, FrozenModel, ProposedCall, Scope, Subjects
from remit.core.errors import Code
from remit.core.events.event import Event

# escalated: no answer held, so people must look
Outcome: TypeAlias = Literal["completed", "failed", "stopped", "exhausted", "escalated"]
Content: TypeAlias = Literal["complete", "omitted", "anonymized"]


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
    bundle: str
    policy_digest: str
    confinement: Confinement
    env: str
    folder: str  # working folder, relative to the workspace
    version: str
    content: Content = "complete"
    scope: Scope | None = None
    shrunk_from: str = ""


class RunResumed(Event):
    """Another process takes the run up, perhaps under other rules. `count` is 1 for the first resumption."""

    type: Literal["run.resumed"] = "run.resumed"
    count: int
    account: str
    bundle: str
    policy_digest: str

    @property
    def key(self) -> str:
        return f"run.resumed/{self.count}"


class PolicyChanged(Event):
    """The rules were edited while the run goes on. `rulebook` is what it stands on from here.

    `problem` says why the edit is not in force; then the rules are those from before.
    """

    type: Literal["policy.changed"] = "policy.changed"
    count: int
    bundle: str = ""
    policy_digest: str
    problem: str = ""

    @property
    def key(self) -> str:
        return f"policy.changed/{self.count}"


class ModelRequested(Event):
    """The model is about to be asked. `input_digest` covers the whole conversation and the tools offered."""

    type: Literal["model.requested"] = "model.requested"
    step: int
    model: str
    input_digest: str


class Usage(FrozenModel):
    """Tokens, as the provider counts them; None where it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ModelResponded(Event):
    """One turn of the model; or, `unseen` by it, one of Remit's own, which looks up what the directory is to know."""

    type: Literal["model.responded"] = "model.responded"
    step: int
    text: str
    proposed_calls: tuple[ProposedCall, ...] = ()
    finish: str  # "stop" | "tool_calls" | "length" | the provider's own word
    usage: Usage = Usage()
    response_model: str = ""
    internal: bool = False


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


class RunPruned(Event):
    """A run was let go by retention. `head` is the last event of its chain, `41:sha256:…`. Recorded in `workspace`."""

    type: Literal["run.pruned"] = "run.pruned"
    run: str
    head: str
    account: str

    @property
    def key(self) -> str:
        return f"run.pruned/{self.run}"
