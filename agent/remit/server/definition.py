"""The definition of a workspace while it is served: agents, tools and rules, as their files are now.

New files are in force once they are valid. Files that are not valid start no run; what goes on keeps the definition that it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from remit.core import Problem, WorkspaceError
from remit.policy import check_agreement, read_case_tables
from remit.workspace import Settings, WorkspaceSession, load_workspace_and_policy, stamp_of

LOOK_S: Final = 0.5  # between two looks at the files; an edit is read once two looks have seen the same
# `restart`: in force, but for settings that count from the next start of the service.
State: TypeAlias = Literal["current", "invalid", "restart"]
_MARKER: Final = "remit.toml"
_AT_START: Final = ("serve", "issuers", "notify")
_KEPT: Final = ("tenant", "journal", "journal_group")  # what the open journal was opened with
_log: Final = logging.getLogger("remit.server")


class LiveDefinition:
    """The session with which new runs start. `changed` gets each new one."""

    def __init__(self, session: WorkspaceSession, changed: Callable[[WorkspaceSession], None]) -> None:
        self.session = session
        self._at_start: Final = session.workspace.settings
        self._changed: Final = changed
        self._read = self._seen = stamp_of(session.root)

    @property
    def state(self) -> State:
        if self.session.problem is not None:
            return "invalid"
        return "restart" if _differ(_AT_START, self._at_start, self.session.workspace.settings) else "current"

    async def watch(self) -> None:
        """Look at the files until the task is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            found = await asyncio.to_thread(self._look)
            if found is not None:
                self.session = found
                self._changed(found)

    def _look(self) -> WorkspaceSession | None:
        """The session with new files, or with the problem of the present ones; None if there is nothing new."""
        before, self._seen = self._seen, stamp_of(self.session.root)
        if self._seen == self._read or self._seen != before:  # in the second case, perhaps not all of it is written yet
            return None
        self._read = self._seen
        try:
            return self._loaded()
        except WorkspaceError as problem:
            _log.error("no new run of %s starts, because its files are not valid:\n%s", self.session.root, problem)
            return replace(self.session, problem=problem)

    def _loaded(self) -> WorkspaceSession:
        root = self.session.root
        workspace, policy = load_workspace_and_policy(root)
        check_agreement(policy, read_case_tables(root / "policies"))
        if names := _differ(_KEPT, self._at_start, workspace.settings):
            what = f"{' and '.join(map(repr, names))} changed while the service runs"
            raise WorkspaceError([Problem(file=_MARKER, what=what, fix="start the service again")])
        if names := _differ(_AT_START, self._at_start, workspace.settings):
            _log.warning("%s of %s count from the next start of the service", ", ".join(names), _MARKER)
        return replace(self.session, workspace=workspace, policy=policy, problem=None)


def _differ(names: tuple[str, ...], one: Settings, other: Settings) -> list[str]:
    return [name for name in names if getattr(one, name) != getattr(other, name)]
