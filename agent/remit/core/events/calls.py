"""Events of calls: decided, attempted, settled, answered."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from remit.core.attempts import Change, Connection, DeniedAccess, Landed, ReachedLimit, ResourceUsage
from remit.core.calls import Call, Confinement, Decision, Json, ProposedCall, Result
from remit.core.errors import Code
from remit.core.events.event import Event


class CallDecided(Event):
    """A call of a step was parsed, made canonical and decided; or refused before it could be.

    `call` is None where parsing or canonicalisation failed: then `refusal` holds the result. `round` counts decisions of
    the same call: 0 first, 1 after the first grant. `quoted_by_user` is that fact of a call whose arguments are not recorded whole.
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

    @property
    def key(self) -> str:
        return f"call.decided/{self.step}/{self.index}/{self.round}"


class AttemptBegun(Event):
    """The effect is about to happen; for anything but a read this is on disk first."""

    type: Literal["attempt.begun"] = "attempt.begun"
    step: int
    index: int
    attempt: int
    request_digest: str
    decision_digest: str
    profile_digest: str
    confinement: Confinement
    idempotency_key: str = ""
    effect_digest: str = ""  # of what is acted on, whatever else the model wrote; "" where repeating does no harm


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
    denied_accesses: tuple[DeniedAccess, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: ResourceUsage = ResourceUsage()
    limit: ReachedLimit | None = None  # with `timeout` and `resource_exhausted`
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

    `labels_removed` are the labels that it takes off the run; `directory_added` the resources that the directory knows by it.
    """

    type: Literal["call.answered"] = "call.answered"
    step: int
    index: int
    result: Result
    output_digest: str = ""
    labels_removed: tuple[str, ...] = ()
    directory_added: tuple[str, ...] = ()
