"""Events of calls: decided, attempted, settled, answered.

The usual order is `CallDecided`, `AttemptBegun`, `AttemptEnded`, `CallAnswered`; approvals come between the first two.
"""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from remit.core.attempts import (
    Change,
    CodeLine,
    Connection,
    ContentObject,
    DeniedAccess,
    Landed,
    ReachedLimit,
    ResourceUsage,
    SchemaMismatch,
)
from remit.core.calls import Call, Confinement, Decision, Json, ProposedCall, Repair, Result
from remit.core.errors import Code
from remit.core.events.event import Event
from remit.core.principals import Principal


class CallDecided(Event):
    """Records the decision on one proposed call, or its refusal before a decision.

    `proposed` is the call as the model wrote it. `call` is None if it could not be parsed; `refusal` is the result of a call
    that was refused before it was decided, None otherwise. `round` counts the decisions of one call: 0 for the first, 1 after the
    first grant. `quoted_by_user` is that fact for a call whose secrets were removed before it was recorded, because it cannot
    be computed from the record; None for other calls. `repairs` are how the call differs from the one that the model wrote.
    `enforced` is False for a call of an agent that only observes: it is carried out whatever the decision or the refusal is.
    """

    type: Literal["call.decided"] = "call.decided"
    step: int
    index: int
    proposed: ProposedCall
    round: int = 0
    call: Call | None = None
    decision: Decision | None = None
    refusal: Result | None = None
    quoted_by_user: bool | None = None
    repairs: tuple[Repair, ...] = ()
    enforced: bool = True

    @property
    def allowed(self) -> bool:
        """True if the call may be carried out: the decision allows it, or is not enforced."""
        return self.decision is not None and (self.decision.verdict == "allow" or not self.enforced)

    @property
    def let_through(self) -> bool:
        """True if the call is carried out only because the decision or the refusal is not enforced."""
        return not self.enforced and (self.decision is None or self.decision.verdict != "allow")

    @property
    def key(self) -> str:
        return f"call.decided/{self.step}/{self.index}/{self.round}"


class AttemptBegun(Event):
    """Records that an attempt starts now. For every effect but `read`, the event is synced to disk before the tool starts.

    `profile_digest` identifies what the sandbox exposes. `idempotency_key` is the key that the tool sends, "" without one.
    `effect_digest` identifies what the call changes, whatever its other arguments are; "" if a repetition does no harm.
    `read_digest` identifies what the call can read, "" if its action is not cached. `cached` is the earlier call "STEP.INDEX" whose
    recorded result answers this one, "" if the tool runs. `given` are the labels of everything that the live sandbox of the run
    and this tool was ever given, with this call; None if the tool has no live sandbox.
    """

    type: Literal["attempt.begun"] = "attempt.begun"
    step: int
    index: int
    attempt: int
    request_digest: str
    decision_digest: str
    profile_digest: str
    confinement: Confinement
    idempotency_key: str = ""
    effect_digest: str = ""
    read_digest: str = ""
    cached: str = ""
    given: tuple[str, ...] | None = None


class QuestionAsked(Event):
    """Records that the function of a tool, or an MCP server, stops until a person has answered `question`. `number` counts from 1 for each call.

    The time until the answer does not count for the limits of the tool. Then it is called again, from its beginning. `via`
    identifies the interrupt of an external graph that asks; "" for an MCP server, whose question has a `message` and the JSON Schema of
    its answer. `connections` are the network requests until then.
    """

    type: Literal["question.asked"] = "question.asked"
    step: int
    index: int
    attempt: int
    number: int
    question: Json
    via: str = ""
    connections: tuple[Connection, ...] = ()

    @property
    def key(self) -> str:
        return f"question.asked/{self.step}/{self.index}/{self.number}"


class AnswerGiven(Event):
    """Records that a person answers a question of a tool; `QuestionAnswered` follows when the call goes on with it."""

    type: Literal["answer.given"] = "answer.given"
    step: int
    index: int
    number: int
    by: Principal
    answer: Json

    @property
    def key(self) -> str:
        return f"answer.given/{self.step}/{self.index}/{self.number}"


class QuestionAnswered(Event):
    """Records the answer of a person to a question of a tool, before the tool gets it. Of the user, it counts like words of the task."""

    type: Literal["question.answered"] = "question.answered"
    step: int
    index: int
    number: int
    by: Principal
    answer: Json

    @property
    def key(self) -> str:
        return f"question.answered/{self.step}/{self.index}/{self.number}"


class AttemptProgressed(Event):
    """Records one line that a tool printed, or yielded, while it ran. `number` counts from 1 for each attempt, up to a limit."""

    type: Literal["attempt.progressed"] = "attempt.progressed"
    step: int
    index: int
    attempt: int
    number: int
    text: str

    @property
    def key(self) -> str:
        return f"attempt.progressed/{self.step}/{self.index}/{self.attempt}/{self.number}"


class AttemptEnded(Event):
    """Records the outcome of one attempt.

    `landed` says what is known of its effect. `value` is what the tool returned and `stderr` what it printed, both sanitized.
    `labels` are those of the action, if it failed and the model reads the tool's own error. `changes` are the files that were
    written, `objects` the images and files that `value` names by digest, `denied_accesses` what the sandbox did not open,
    `connections` its network requests, `spent` what it used. `read_digest` is that of `AttemptBegun` if it was still the same
    afterwards, "" otherwise: then later calls of the run may have this result.
    """

    type: Literal["attempt.ended"] = "attempt.ended"
    step: int
    index: int
    attempt: int
    code: Code | None  # None: the attempt succeeded
    cause: Code | None = None  # why the attempt ended, if `code` is `outcome_unknown`
    error: str | None = None  # with `tool_failed`: the name of the error that the tool declared
    message: str = ""
    next_step: str | None = None  # what the model does next; None: the step of the code
    labels: tuple[str, ...] = ()
    value: Json = None
    landed: Landed = "none"
    changes: tuple[Change, ...] = ()
    objects: tuple[ContentObject, ...] = ()
    denied_accesses: tuple[DeniedAccess, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: ResourceUsage = ResourceUsage()
    limit: ReachedLimit | None = None  # with `timeout` and `resource_exhausted`
    frames: tuple[CodeLine, ...] = ()  # with `tool_crashed`: the tool's own lines, the one that raised it last
    mismatch: SchemaMismatch | None = None  # with `invalid_output`
    lost: bool = False  # the process that ran the attempt died; another process recorded this
    retry_in_s: float | None = None  # seconds until the next attempt; None: the last attempt
    retry_after_s: float | None = None  # seconds that the tool asks to wait before a retry
    read_digest: str = ""


class EffectSettled(Event):
    """Records the outcome of an effect whose completion was not observed, found by the tool's probe or stated by a person.

    `landed` is the outcome. `by` is the person, None for a probe; `probe` is the action that looked, "" for a person. `number`
    counts from 1, separately for probes and for people. `value` is what the call would have returned, None if that is unknown.
    """

    type: Literal["effect.settled"] = "effect.settled"
    step: int
    index: int
    number: int
    landed: Landed
    by: Principal | None = None
    probe: str = ""  # "tickets.closed"
    reason: str = ""
    value: Json = None

    @property
    def key(self) -> str:
        return f"effect.settled/{self.step}/{self.index}/{'person' if self.by_person else 'probe'}/{self.number}"

    @property
    def by_person(self) -> bool:
        """True if a person stated the outcome, False for a probe."""
        return self.by is not None

    @property
    def source(self) -> str:
        """Who stated the outcome: `user:ann`, or `probe:tickets.closed`."""
        return f"probe:{self.probe}" if self.by is None else self.by.subject


class CallAnswered(Event):
    """Records the result of a call as the model reads it. Each call has exactly one.

    `output_digest` is the digest of the result. `labels` are those of the action, if its types refused the arguments before an
    attempt and the model reads the words of the tool. `labels_removed` are the labels that the result removes from the run;
    `directory_added` are the resources that it adds to the directory.
    """

    type: Literal["call.answered"] = "call.answered"
    step: int
    index: int
    result: Result
    output_digest: str = ""
    labels: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()
    directory_added: tuple[str, ...] = ()
