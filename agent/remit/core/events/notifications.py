"""Events of notifications: a message to people that an approval waits, a run is lost, an effect is in doubt or a hold is set.

All are recorded in the run named `workspace`. `channel` is the name of a table `[notify.NAME]`, never an address. `subject` identifies what
the message is about; `number` counts the attempts to send it, from 1. Their keys make services agree: of several that watch one
journal, one begins an attempt, and one delivery is recorded.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.events.event import Event

NotificationKind: TypeAlias = Literal[
    "approval",  # a call waits for people
    "lost",  # the process of a run has ended, and nobody has resumed it
    "in-doubt",  # it is unknown whether an effect has happened
    "hold",  # an operator has stopped a run, an agent, a tool or everything
]


class _Notification(Event):
    """What the events of notifications have in common."""

    channel: str
    kind: NotificationKind
    subject: str
    number: int

    @property
    def key(self) -> str:
        return f"{getattr(self, 'type')}/{self.channel}/{self.subject}/{self.number}"  # noqa: B009 - declared by each subclass


class NotificationBegun(_Notification):
    """Records that a process begins an attempt to send a notification. Another process begins none for a minute."""

    type: Literal["notification.begun"] = "notification.begun"


class NotificationSent(_Notification):
    """Records that a notification has arrived. There is one of these for each subject and channel."""

    type: Literal["notification.sent"] = "notification.sent"

    @property
    def key(self) -> str:
        return f"notification.sent/{self.channel}/{self.subject}"


class NotificationFailed(_Notification):
    """Records that an attempt to send a notification failed.

    `reason` is written by Remit and has no address. `again_at` is when the next attempt is due, in Unix nanoseconds; None: it was given up.
    """

    type: Literal["notification.failed"] = "notification.failed"
    reason: str
    again_at: int | None
