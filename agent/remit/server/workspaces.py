"""The open workspace of one tenant, as the service uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from remit.client import AsyncRemit
from remit.core import Principal
from remit.journal import Journal
from remit.server.driven import DrivenRuns
from remit.server.feed import Feed
from remit.workspace import WorkspaceSession

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ServedWorkspace:
    """One workspace with its journal, and the runs of it that this process drives."""

    def __init__(self, session: WorkspaceSession) -> None:
        self.settings: Final = session.workspace.settings
        self.driven: Final = DrivenRuns(self.settings.serve.runs)
        self._root = AsyncRemit(session)
        self.feed: Final = Feed(session.journal)

    @property
    def session(self) -> WorkspaceSession:
        return self._root.session

    @property
    def journal(self) -> Journal:
        return self.session.journal

    def client(self, by: Principal) -> AsyncRemit:
        """A client that acts as the principal. Raises Refusal if they are of another tenant."""
        return self._root.acting_as(by)

    async def read(self, function: Callable[Concatenate[Journal, _P], _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Read the journal in another thread: a long list must not stop the other requests."""
        return await asyncio.to_thread(function, self.journal, *given, **named)

    async def end(self) -> None:
        """Let runs pause, and close the journal."""
        self.feed.end()
        await self.driven.end(self.settings.serve.shutdown)
        await self._root.close()
