"""The open workspace of one tenant, as the service uses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import remit.notifications
from remit.client import AsyncRemit
from remit.core import Principal, RemitError, Request
from remit.guardrails import Secrets
from remit.journal import Journal
from remit.policy import Policy, SecondOpinion
from remit.server.definition import LiveDefinition
from remit.server.driven import DrivenRuns
from remit.server.feed import Feed
from remit.server.given import GivenDecisions
from remit.server.hooks import HookConversations
from remit.workspace import Settings, WorkspaceSession

if TYPE_CHECKING:  # a service without channels loads no client for HTTP
    from remit.notifications import Delivery

_log: Final = logging.getLogger("remit.server")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class ServedWorkspace:
    """One workspace with its journal, and the runs of it that this process drives."""

    def __init__(self, session: WorkspaceSession) -> None:
        self._root = AsyncRemit(session)
        self.definition: Final = LiveDefinition(session, self._renew)
        self._watching: asyncio.Task[None] | None = None
        self.driven: Final = DrivenRuns(self.settings.serve.runs)
        self.given: Final = GivenDecisions(session.journal)
        self.hooks: Final = HookConversations(session)
        self.feed: Final = Feed(session.journal)
        self.readers: Final[set[tuple[str, Principal]]] = set()  # who has read which run, as recorded by this process
        self._notifying: asyncio.Task[None] | None = None
        self._second: tuple[Policy, SecondOpinion] | None = None

    def _renew(self, session: WorkspaceSession) -> None:
        """From now on, requests are about these agents, tools and rules. Runs that go on keep those that they have."""
        self._root = AsyncRemit(session, self._root.principal)
        self.hooks.renew(session)

    @property
    def settings(self) -> Settings:
        return self.session.workspace.settings

    @property
    def session(self) -> WorkspaceSession:
        return self._root.session

    @property
    def journal(self) -> Journal:
        return self.session.journal

    def client(self, by: Principal) -> AsyncRemit:
        """A client that acts as the principal. Raises Refusal if they are of another tenant."""
        return self._root.acting_as(by)

    def casbin_allows(self, policy: Policy, request: Request) -> bool:
        """True if stock Casbin allows the request under the same rules."""
        if self._second is None or self._second[0] is not policy:
            self._second = policy, SecondOpinion(policy)
        return self._second[1].allows(request)

    async def read(self, function: Callable[Concatenate[Journal, _P], _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Read the journal in another thread: a long list must not stop the other requests."""
        return await asyncio.to_thread(function, self.journal, *given, **named)

    def begin(self) -> None:
        """Look for changed files, and notify people of what waits for them, if there is a channel, from now on."""
        self._watching = asyncio.create_task(self.definition.watch())
        self._watching.add_done_callback(_report_defect)
        if self.settings.notify:
            notifier = remit.notifications.Notifier(
                self.journal, self.settings.notify, Secrets(self.session.root, self.settings.secrets)
            )
            self._notifying = asyncio.create_task(notifier.watch(_report))
            self._notifying.add_done_callback(_report_defect)

    async def end(self) -> None:
        """Let runs pause, and close the journal."""
        self.feed.end()
        for task in filter(None, (self._notifying, self._watching)):
            task.cancel()
            await asyncio.wait({task})
        await self.driven.end(self.settings.serve.shutdown)
        await self.hooks.close()
        await self.given.end()
        await self._root.close()


def _report(item: Delivery | RemitError) -> None:
    if isinstance(item, RemitError):
        _log.error("no notification is sent: %s", item)
    elif item.reason:
        _log.warning("the notification of %s to %s has not arrived: %s", item.subject, item.channel, item.reason)


def _report_defect(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        _log.error("a task of the service ended by a defect of Remit", exc_info=failure)
