"""What has a server run a call, and the messages by which it does: of a server in a live sandbox, and of one that runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from remit.core import Code, ContentObject, Json


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server answered to one call: a value, or the code, the declared error and the message of a failure.

    `objects` are the bytes that the value names by their digests. `question` is what it asks a person before it answers; None: nothing.
    """

    value: Json = None
    objects: tuple[ContentObject, ...] = ()
    code: Code | None = None
    error: str | None = None
    message: str = ""
    question: Json = None


class SessionLost(Exception):
    """A server that runs elsewhere has forgotten its session: what was agreed with it is agreed again."""


class KeptStream(Protocol):
    """Messages to a server and from it. `greeted` is what its speaker has learnt of it.

    `watched` is False if nothing is read from it between two calls, so that what it lists is asked again before each.
    """

    @property
    def greeted(self) -> object: ...
    @greeted.setter
    def greeted(self, value: object) -> None: ...

    watched: bool

    async def send(self, line: bytes, fields: Mapping[str, str] | None = None) -> None:
        """Send a message. `fields` are those of its header, for a transport that has one."""
        ...

    async def receive(self) -> bytes: ...
    def tell(self, text: str) -> None:
        """Show a line of progress of the running call."""
        ...

    async def cancel(self, line: bytes) -> None:
        """Send that nobody waits for an answer any more, if the server lives longer than the call."""
        ...

    def pending(self) -> list[bytes]:
        """The lines that it wrote when its last call had ended."""
        ...

    def wake(self) -> None:
        """Let it go on, without a call: between two calls it is stopped."""
        ...


class Speaker(Protocol):
    """Speaks with a server that is kept for the calls of a run. The sandbox bounds the time and the sizes, and ends a server that fails."""

    async def greet(self, stream: KeptStream) -> None:
        """Begin with a server that has just been started, or find that it still is the one that was pinned.

        Raises:
            Refusal: the call does not run.
        """
        ...

    async def call(self, stream: KeptStream, answered: Callable[[Json], Json] | None) -> Reply:
        """Have the server run the call. `answered` returns what a person has answered to a question, None if nobody has.

        Without `answered`, no person can be asked.
        """
        ...
