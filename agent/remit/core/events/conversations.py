"""What a run of a conversation has from the runs before it: it is part of the first event of the run.

A conversation is one thread of an external graph. Each message of the person begins a run with its own budget; what the runs
before have read, learned, done and been allowed stays with the conversation.
"""

from __future__ import annotations

from pydantic import Field

from remit.core.calls import FrozenModel, Json
from remit.core.events.approvals import ApprovalGranted
from remit.core.events.calls import EffectSettled


class InDoubtEffect(FrozenModel):
    """Records an effect whose outcome is unknown although its call has an answer; `settled` once a person has stated the outcome.

    `effect_digest`, `request_digest` and `idempotency_key` are those of the call. `run` is the earlier run of the conversation that
    made the call; "": this run.
    """

    step: int
    index: int
    action: str
    effect_digest: str
    request_digest: str
    idempotency_key: str
    settled: EffectSettled | None = None
    run: str = ""


class BoundedApproval(FrozenModel):
    """Records an approval with a scope that is in force: the action and the facts that were approved, and how many further calls it covered.

    `run` is the earlier run of the conversation in which it was given; "": this run.
    """

    granted: ApprovalGranted
    action: str
    facts: dict[str, Json]
    used: int = 0
    run: str = ""


class ConversationRun(FrozenModel):
    """Records the place of a run in its conversation, and what the runs before leave to it.

    `id` is that of the conversation (32 hex digits), `number` counts its runs from 1. `message` is the digest of the message that began
    the run, `after` the run before, "" for the first one. `words` are the earlier messages of the person, `labels` and
    `directory` those of `RunState`, and `values` by label too; the value "" stands for values that are too many to keep. `calls` counts
    the calls of each action that succeeded or may have happened. `doubts` and `bounded` are those that are still in force.
    """

    id: str
    number: int
    message: str
    after: str = ""
    words: str = ""
    labels: tuple[str, ...] = ()
    directory: tuple[str, ...] = ()
    values: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    calls: dict[str, int] = Field(default_factory=dict)
    doubts: tuple[InDoubtEffect, ...] = ()
    bounded: tuple[BoundedApproval, ...] = ()
