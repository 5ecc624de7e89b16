"""The receipt of a run: what the broker saw of each call, whatever the model says of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.attempts import Landed
from remit.core.calls import FrozenModel
from remit.core.errors import Code

CallOutcome: TypeAlias = Literal[
    "done",  # it succeeded, or its effect has happened
    "refused",  # before its tool was started
    "failed",  # its tool was started, and it is known that no effect has happened
    "waiting",  # for people, or for the run to go on
    "unknown",  # its effect may or may not have happened
]


class Approver(FrozenModel):
    """One person whose approval of a call counts, and the role in which they gave it."""

    subject: str  # "user:ann"
    role: str


class ReceiptItem(FrozenModel):
    """What the broker saw of one call of the model.

    `call` is its place, STEP.INDEX, as the model and every report name it. `resources` are those that it touches, each once; empty
    if it could not be parsed. `landed` says what is known of its effect: "none" if it has none, or was refused. `code` is that of
    its error; a call with the outcome `done` has one if its effect happened and its result is not available. `settled_by` is the
    person (`user:ann`) or the probe (`probe:tickets.closed`) that found out an unknown outcome, "" without one.
    """

    call: str
    action: str
    resources: tuple[str, ...] = ()
    outcome: CallOutcome
    landed: Landed = "none"
    code: Code | None = None
    approved_by: tuple[Approver, ...] = ()
    settled_by: str = ""
