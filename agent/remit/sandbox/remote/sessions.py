"""What each run knows of the servers that run elsewhere. No two runs share a session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from remit.sandbox.profile import Profile

_MOST: Final = 10_000


@dataclass(kw_only=True)
class RemoteServer:
    """What a run knows of one server. `session` is the id that the server gave, "" without one; `greeted` is the speaker's."""

    session: str = ""
    greeted: object = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(kw_only=True)
class RemoteServers:
    """What is known, by run, user, tool and URL: two tools may have different secrets for one server."""

    _of: dict[tuple[str, ...], RemoteServer] = field(default_factory=dict[tuple[str, ...], RemoteServer])

    def server(self, profile: Profile) -> RemoteServer:
        if len(self._of) >= _MOST:  # of runs that another process ended
            self._of.pop(next(iter(self._of)))
        return self._of.setdefault((profile.run, profile.user, profile.tool, profile.url), RemoteServer())

    def end_run(self, run: str) -> None:
        for key in [key for key in self._of if key[0] == run]:
            del self._of[key]
