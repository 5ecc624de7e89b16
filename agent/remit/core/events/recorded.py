"""The union of all events, and an event with its place in the hash chain of its run."""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from remit.core.calls import Json
from remit.core.events.access import AccessRefused, KeyCreated, KeyRevoked
from remit.core.events.acts import ActApproved, ActRequested, ActUsed
from remit.core.events.approvals import (
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    BreakGlassReviewed,
)
from remit.core.events.calls import (
    AnswerGiven,
    AttemptBegun,
    AttemptEnded,
    AttemptProgressed,
    CallAnswered,
    CallDecided,
    EffectSettled,
    QuestionAnswered,
    QuestionAsked,
)
from remit.core.events.evaluations import EvaluationFinished, EvaluationGraded, EvaluationStarted
from remit.core.events.notifications import NotificationBegun, NotificationFailed, NotificationSent
from remit.core.events.operations import (
    AlertClosed,
    AlertRaised,
    ContentRead,
    DecisionsGiven,
    HoldLifted,
    HoldSet,
    PolicyAdopted,
    PolicyPublished,
    SecretSet,
    ToolFailed,
    ToolRecovered,
    ToolTrialStarted,
)
from remit.core.events.passkeys import PasskeyConfirmed, PasskeyEnrolled, PasskeyRevoked
from remit.core.events.rollouts import (
    RolloutCompared,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RolloutStaged,
    ShadowDecided,
)
from remit.core.events.runs import (
    AnswerRejected,
    BudgetSpent,
    ContextReduced,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    PolicyChanged,
    RunErased,
    RunFinished,
    RunPruned,
    RunResumed,
    RunStarted,
)

AnyEvent: TypeAlias = Annotated[
    RunStarted
    | RunResumed
    | PolicyChanged
    | ModelRequested
    | ModelResponded
    | ModelFailed
    | ContextReduced
    | AnswerRejected
    | CallDecided
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalRejected
    | ApprovalRevoked
    | ApprovalRefused
    | ApprovalVoided
    | BreakGlassReviewed
    | AttemptBegun
    | AttemptProgressed
    | QuestionAsked
    | AnswerGiven
    | QuestionAnswered
    | AttemptEnded
    | EffectSettled
    | BudgetSpent
    | CallAnswered
    | RunFinished
    | ActRequested
    | ActApproved
    | ActUsed
    | KeyCreated
    | KeyRevoked
    | AccessRefused
    | PasskeyEnrolled
    | PasskeyConfirmed
    | PasskeyRevoked
    | HoldSet
    | HoldLifted
    | AlertRaised
    | AlertClosed
    | PolicyAdopted
    | PolicyPublished
    | SecretSet
    | NotificationBegun
    | NotificationSent
    | NotificationFailed
    | ContentRead
    | DecisionsGiven
    | RunErased
    | RunPruned
    | ToolFailed
    | ToolTrialStarted
    | ToolRecovered
    | ShadowDecided
    | RolloutOpened
    | RolloutStaged
    | RolloutCompared
    | RolloutRolledBack
    | RolloutFinished
    | EvaluationStarted
    | EvaluationGraded
    | EvaluationFinished,
    Field(discriminator="type"),
]


def event_types() -> frozenset[str]:
    """The type of every event that this version knows."""
    union, _ = get_args(AnyEvent)
    return frozenset(get_args(event.model_fields["type"].annotation)[0] for event in get_args(union))


EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent, config=ConfigDict(defer_build=True))


class Recorded(BaseModel):
    """An event with its place in the hash chain of its run.

    `seq` counts from 0; `at` is Unix nanoseconds. `hash` is the SHA-256 digest of `prev`, the header and the salted digest of the
    body, so that a body can be erased without breaking the chain: then `event` and `salt` are None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

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
