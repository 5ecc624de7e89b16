"""What one client is served, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mcp.server.context import ServerRequestContext

from remit.client import AsyncRemit
from remit.server.handlers.calls import ApprovalView
from remit.server.mcp.conversation import Conversation

_PROGRAM: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What one client is served: an agent, for one principal. `client` acts as that principal.

    `page` returns the address of the page of a request for approval, "" without pages. `longest_wait` is how many seconds a call may
    wait for people.
    """

    client: AsyncRemit
    conversation: Conversation
    page: Callable[[ApprovalView], str] = lambda _: ""
    longest_wait: float = 50.0

    @property
    def agent(self) -> str:
        return self.conversation.agent


def program_of(ctx: ServerRequestContext[Any, Any]) -> str:
    """The name of the client program, as it says itself: nothing decides by it."""
    given = ctx.session.client_params
    name = "" if given is None else _PROGRAM.sub("-", given.client_info.name)[:40].strip("-")
    return name or "client"
