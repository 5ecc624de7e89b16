"""Sending one message: the port that webhook and chat implement, and how it fails."""

from __future__ import annotations

from typing import Protocol

from remit.core import RemitError
from remit.notifications.messages import Message


class NotSent(RemitError):
    """The message has not arrived, as far as is known.

    `reason` has no address and no text of the receiver. `after_s` is how long the receiver asks to wait, in seconds, 0 without a wish.
    With `for_good`, no further attempt is made. With `of_message`, other messages of the channel may arrive all the same.
    """

    def __init__(self, reason: str, *, after_s: float = 0.0, for_good: bool = False, of_message: bool = False) -> None:
        self.reason, self.after_s, self.for_good, self.of_message = reason, after_s, for_good, of_message
        super().__init__(reason)


class Sender(Protocol):
    """Sends messages to one channel."""

    async def send(self, message: Message) -> None:
        """Send it. Raises NotSent if it has not arrived."""
        ...
