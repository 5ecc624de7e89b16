"""The filters of `remit trace list`: by outcome, agent, user, calls and start time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal

import click

if TYPE_CHECKING:
    from remit.journal import RunStatus, RunSummary
    from remit.workspace import WorkspaceSession

NANO: Final = 1_000_000_000
PAGE: Final = 200  # rows that are read at once
STATES: Final = (
    "running",
    "lost",
    "ready",
    "waiting",
    *(f"waiting: {cause}" for cause in ("model", "hold", "graph")),
    "finished",
)
_SPAN: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """The conditions that a listed run meets; an empty value or None is no condition.

    `conversation` is the beginning of the id of a run in it, and `since` is Unix nanoseconds.
    """

    failed: bool = False
    denied: bool = False
    agent: str = ""
    user: str = ""
    action: str = ""
    code: str = ""
    state: RunStatus | Literal[""] = ""
    conversation: str = ""
    evaluation: str = ""
    imported: str = ""
    since: int | None = None

    @property
    def apart(self) -> str:
        """The evaluation or the import whose runs are meant; "" for live runs."""
        from remit.core.events import IMPORTS

        return f"{IMPORTS}{self.imported}" if self.imported else self.evaluation

    def choose(self, session: WorkspaceSession, limit: int | None) -> list[RunSummary]:
        """The newest `limit` runs that match and that this account may read, or all. The events of a run are read only if its row in the list matches."""
        from remit.journal import RunQuery, conversation_of, list_runs, resolve_run
        from remit.workspace import check_enabled, principal_of_process, readable

        of = resolve_run(session.journal, self.conversation) if self.conversation else ""
        conversation = conversation_of(session.journal, of) if of else ""
        query = RunQuery(
            run="" if conversation else of,  # a run that is a whole conversation
            conversation=conversation,
            agent=_subject("agent", self.agent),
            user=_subject("user", self.user),
            state=self.state,
            evaluation=self.apart,
            failed=self.failed,
            denied=self.denied,
            since=self.since,
        )
        chosen: list[RunSummary] = []
        by = principal_of_process(session.workspace.settings)
        check_enabled(session.journal, by)
        for row in readable(session.policy, list_runs(session.journal, query, page=limit or PAGE), by):
            if self._has_call(session, row.run):
                chosen.append(row)
            if len(chosen) == limit:
                break
        if not chosen:
            self._check_names(session)
        return chosen

    def _check_names(self, session: WorkspaceSession) -> None:
        """Raise UsageError for an agent or an action that no run found here could have: a misspelled name would list nothing, silently."""
        from remit.core import UsageError, one_of, spelled

        workspace = session.workspace
        if self.agent and (name := self.agent.removeprefix("agent:")) not in workspace.agents:
            raise UsageError(
                f"no run is of agent {spelled(name)}, and no such agent is here: {one_of(name, workspace.agents)}"
            )
        if self.action and not any(mark in self.action for mark in "*?["):
            workspace.action(self.action)

    def _has_call(self, session: WorkspaceSession, run: str) -> bool:
        return not (self.action or self.code) or any(
            fnmatchcase(action, self.action or "*") and self.code in ("", code) for action, code in _calls(session, run)
        )


def _calls(session: WorkspaceSession, run: str) -> Iterator[tuple[str, str]]:
    """The action and the end (`ok`, a code, or "") of each call; then the code of the run itself, with the action ""."""
    from remit.tracing.reports import build_timeline

    timeline = build_timeline(session.journal.events(run))
    for call in timeline.calls:
        yield call.action, call.error.code if call.error else "" if call.result is None else "ok"
    if timeline.finished is not None and timeline.finished.code is not None:
        yield "", timeline.finished.code


def _subject(kind: str, name: str) -> str:
    """The whole subject; "" for no name."""
    return name if not name or ":" in name else f"{kind}:{name}"


def with_run_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the filter options; the command receives them as the argument `run_filter`."""

    @wraps(command)
    def filtered(**options: Any) -> None:
        values = {field.name: options.pop(field.name) for field in fields(RunFilter)}
        values |= {"state": values["state"] or "", "code": _code(values["code"]), "since": parse_time(values["since"])}
        command(run_filter=RunFilter(**values), **options)

    decorated: Callable[..., None] = filtered
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


OPTIONS: Final = (
    click.option("--failed", is_flag=True, help="Only runs that have ended, but not as completed, and lost ones."),
    click.option("--denied", is_flag=True, help="Only runs with a refused call."),
    click.option("--agent", default="", help="Only runs of this agent."),
    click.option("--user", default="", help="Only runs for this user."),
    click.option(
        "--action", default="", help="Only runs with a call of this action; `files.*` is every action of files."
    ),
    click.option(
        "--code", default="", help="Only runs that ended with this code, or with a call (of --action) that did."
    ),
    click.option(
        "--state",
        type=click.Choice(STATES),
        help="Only runs in this state now. `waiting` is for people; the process of a `lost` run has ended; a `ready` run can go on.",
    ),
    click.option("--conversation", default="", metavar="RUN", help="Only runs of the conversation of this run."),
    click.option("--evaluation", default="", metavar="ID", help="Runs of this evaluation, in place of live runs."),
    click.option("--imported", default="", metavar="NAME", help="Runs of this import, in place of live runs."),
    click.option("--since", help="Only runs that began at this time or later: 30m, 2h, 3d, 2026-11-23T19:00."),
)


def parse_time(text: str | None) -> int | None:
    """Unix nanoseconds of `2h` ago, or of a date or time (UTC if it has no time zone)."""
    if text is None:
        return None
    if matched := _SPAN.fullmatch(text):
        return time.time_ns() - int(matched[1]) * _UNITS[matched[2]] * NANO
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 30m, 2h, 3d or 2026-11-23T19:00"
        raise click.BadParameter(f"{text!r} is not a time: {hint}", param_hint="--since") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * NANO)


def _code(text: str) -> str:
    """The text, if it is a known code or `ok`. Otherwise raises BadParameter with the nearest code."""
    from remit.core import CODES, near_names

    if text in ("", "ok", *CODES):
        return text
    near = near_names(text, CODES)
    hint = f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(CODES)}"
    raise click.BadParameter(f"{text!r} is not a code: {hint}", param_hint="--code")
