"""Events of acts of people with Remit itself that a second person must approve. All are recorded in the run named `workspace`."""

from __future__ import annotations

from typing import Literal

from remit.core.calls import MissingApproval
from remit.core.events.event import Event
from remit.core.principals import Principal


class ActRequested(Event):
    """Records that a person wants to do something for which the rules ask a second person.

    `act` identifies who wants to do what: the digest of `action`, `resource`, `what` and the person. `number` counts its requests, the
    first is 1. `what` says it in words, as "erase run 3f2a91c0". `expires_at` is in Unix nanoseconds.
    """

    type: Literal["act.requested"] = "act.requested"
    act: str
    number: int
    action: str
    resource: str
    what: str
    by: Principal
    missing: tuple[MissingApproval, ...]
    expires_at: int

    @property
    def key(self) -> str:
        return f"act.requested/{self.act}/{self.number}"


class ActApproved(Event):
    """Records that another person approves an act in one role. `count` counts the approvals of the request from 1."""

    type: Literal["act.approved"] = "act.approved"
    act: str
    number: int
    count: int
    by: Principal
    role: str

    @property
    def key(self) -> str:
        return f"act.approved/{self.act}/{self.number}/{self.count}"


class ActUsed(Event):
    """Records that an approved act was done, so that its approvals count no more."""

    type: Literal["act.used"] = "act.used"
    act: str
    number: int
    by: Principal

    @property
    def key(self) -> str:
        return f"act.used/{self.act}/{self.number}"
