"""Which runs `remit trace list` shows: by outcome, by agent and user, by their calls, and since when."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from remit.journal import RunSummary
    from remit.workspace import WorkspaceSession

NANO: Final = 1_000_000_000
_SPAN: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """What a run must be to be shown; empty and None ask for nothing. `since` is Unix nanoseconds."""

    failed: bool = False
    denied: bool = False
    agent: str = ""
    user: str = ""
    action: str = ""
    code: str = ""
    since: int | None = None

    def choose(self, session: WorkspaceSession, runs: Sequence[RunSummary], limit: int | None) -> list[RunSummary]:
        """The first `limit` of those runs that fit, or all; a run's calls are read only where the rest of it fits."""
        found: list[RunSummary] = []
        for row in runs:
            if len(found) == limit or (self.since is not None and row.started_at < self.since):
                break  # the latest come first
            if self._fits(row) and self._called(session, row.run):
                found.append(row)
        return found

    def _fits(self, row: RunSummary) -> bool:
        if self.failed and row.outcome in (None, "completed"):
            return False
        if self.denied and not row.denied:
            return False
        return _matches_subject(self.agent, "agent", row.agent) and _matches_subject(self.user, "user", row.user)

    def _called(self, session: WorkspaceSession, run: str) -> bool:
        return not (self.action or self.code) or any(
            fnmatchcase(action, self.action or "*") and self.code in ("", code) for action, code in _calls(session, run)
        )


def _calls(session: WorkspaceSession, run: str) -> Iterator[tuple[str, str]]:
    """Each call's action and how it ended, `ok` or a code; and how the run itself ended, under no action."""
    from remit.tracing.reports import build_timeline

    timeline = build_timeline(session.journal.events(run))
    for call in timeline.calls:
        yield call.name, call.error.code if call.error else "" if call.result is None else "ok"
    if timeline.finished is not None and timeline.finished.code is not None:
        yield "", timeline.finished.code


def _matches_subject(wanted: str, kind: str, subject: str) -> bool:
    return not wanted or subject == (wanted if ":" in wanted else f"{kind}:{wanted}")


def with_run_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that choose runs; it takes them as `wanted`."""

    @wraps(command)
    def with_wanted(**options: Any) -> None:
        chosen = {field.name: options.pop(field.name) for field in fields(RunFilter)}
        chosen |= {"code": _code(chosen["code"]), "since": _since(chosen["since"])}
        command(wanted=RunFilter(**chosen), **options)

    found: Callable[..., None] = with_wanted
    for option in reversed(OPTIONS):
        found = option(found)
    return found


OPTIONS: Final = (
    click.option("--failed", is_flag=True, help="Only runs that ended otherwise than completed."),
    click.option("--denied", is_flag=True, help="Only runs with a refused call."),
    click.option("--agent", default="", help="Only runs of this agent."),
    click.option("--user", default="", help="Only runs for this user."),
    click.option("--action", default="", help="Only runs with a call of this action; `files.*` is any of the tool's."),
    click.option("--code", default="", help="Only runs with a call (of --action) that ended so, or that ended so."),
    click.option("--since", help="Only runs that began then or later: 30m, 2h, 3d, 2026-11-23, 2026-11-23T19:00."),
)


def _since(text: str | None) -> int | None:
    """Unix nanoseconds of `2h` ago, or of a date or time (UTC where it names no zone)."""
    if text is None:
        return None
    if matched := _SPAN.fullmatch(text):
        return time.time_ns() - int(matched[1]) * _UNITS[matched[2]] * NANO
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 30m, 2h, 3d or 2026-11-23T19:00"
        raise click.BadParameter(f"{text!r} is no time: {hint}", param_hint="--since") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * NANO)


def _code(text: str) -> str:
    """A code that there is, or `ok`. Raises BadParameter with the nearest one otherwise."""
    from difflib import get_close_matches

    from remit.core import CODES

    if text in ("", "ok", *CODES):
        return text
    near = get_close_matches(text, CODES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(CODES)}"
    raise click.BadParameter(f"{text!r} is no code: {hint}", param_hint="--code")
