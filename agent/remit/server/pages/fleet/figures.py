"""Numbers of the latest runs that a person may read: by agent and action, over time, by rule that denied, by tool that failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from remit.client import page_of_runs
from remit.core import Failed, Principal
from remit.core.events import CallAnswered, CallDecided, Recorded
from remit.journal import RunSummary
from remit.policy import Policy
from remit.tracing.reports import ActionStatistics, tool_statistics
from remit.workspace import WorkspaceSession

MOST_RUNS: Final = 200
MOST_EVENTS: Final = 50_000  # that are read for one page
PARTS: Final = 12  # of the time from the first of these runs to the last
MOST_FAILURES: Final = 20  # of one tool
NO_RULE: Final = ""  # in place of a rule: no rule allows the call


@dataclass(frozen=True, kw_only=True)
class FailedCall:
    """A call that failed, and was not refused. `at` is Unix nanoseconds."""

    run: str
    place: str
    action: str
    code: str
    message: str
    at: int


@dataclass(frozen=True, kw_only=True)
class Over:
    """One agent and action: the figures of all runs, and in each part of the time its p95 in seconds, None without a call that has
    ended, and its cost."""

    all: ActionStatistics
    p95: tuple[float | None, ...]
    cost: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The numbers of `runs` runs, which began between `since` and `until` (Unix nanoseconds). `denials` are by the place and note of the rule."""

    runs: int
    since: int
    until: int
    actions: tuple[Over, ...]
    denials: tuple[tuple[str, int], ...]
    failures: tuple[FailedCall, ...]

    def of_tool(self, name: str) -> tuple[tuple[Over, ...], tuple[FailedCall, ...]]:
        """The actions of one tool, and its last failures."""
        actions = tuple(item for item in self.actions if item.all.action.partition(".")[0] == name)
        failed = tuple(item for item in self.failures if item.action.partition(".")[0] == name)
        return actions, failed[:MOST_FAILURES]


def figures_of(session: WorkspaceSession, policy: Policy, by: Principal) -> Figures:
    """The numbers of the latest runs that the person may read. At most `MOST_EVENTS` events are read, the latest runs first."""
    chosen: list[tuple[RunSummary, Sequence[Recorded]]] = []
    read = 0
    for row in page_of_runs(session, policy, by, limit=MOST_RUNS).runs:
        events = session.journal.events(row.run)
        read += len(events)
        if chosen and read > MOST_EVENTS:
            break
        chosen.append((row, events))
    since = min((row.started_at for row, _ in chosen), default=0)
    until = max((row.started_at for row, _ in chosen), default=0)
    every = [item for _, events in chosen for item in events]
    return Figures(
        runs=len(chosen),
        since=since,
        until=until,
        actions=_over_time(chosen, since, until),
        denials=tuple(_denials(every).most_common()),
        failures=tuple(_failures(every)),
    )


def _over_time(chosen: Sequence[tuple[RunSummary, Sequence[Recorded]]], since: int, until: int) -> tuple[Over, ...]:
    parts: defaultdict[int, list[Recorded]] = defaultdict(list)
    for row, events in chosen:
        parts[min(PARTS - 1, (row.started_at - since) * PARTS // max(until - since, 1))] += events
    of_part = {
        part: {(item.agent, item.action): item for item in tool_statistics(events)} for part, events in parts.items()
    }
    found = tool_statistics(item for _, events in chosen for item in events)
    return tuple(
        Over(
            all=item,
            p95=tuple(None if one is None or not one.calls else one.p95_s for one in _each(of_part, item)),
            cost=tuple(None if one is None else one.cost for one in _each(of_part, item)),
        )
        for item in found
    )


def _each(
    of_part: dict[int, dict[tuple[str, str], ActionStatistics]], item: ActionStatistics
) -> list[ActionStatistics | None]:
    return [of_part.get(part, {}).get((item.agent, item.action)) for part in range(PARTS)]


def _denials(events: Sequence[Recorded]) -> Counter[str]:
    """How many calls each rule has denied. A call that no rule allows counts for `NO_RULE`."""
    found: Counter[str] = Counter()
    for item in events:
        event = item.event
        if isinstance(event, CallDecided) and event.decision is not None and event.decision.verdict == "deny":
            rules = [f"{rule.file}:{rule.line} {rule.note or rule.text}" for rule in event.decision.rules]
            found.update(set(rules or [NO_RULE]))
    return found


def _failures(events: Sequence[Recorded]) -> list[FailedCall]:
    """The calls that failed, the latest first."""
    actions: dict[tuple[str, int, int], str] = {}
    found: list[FailedCall] = []
    for item in events:
        event = item.event
        if isinstance(event, CallDecided):
            actions[item.run, event.step, event.index] = event.call.action if event.call else event.proposed.action
        elif isinstance(event, CallAnswered) and isinstance(event.result, Failed) and not event.result.refused:
            error, place = event.result.error, (item.run, event.step, event.index)
            found.append(
                FailedCall(
                    run=item.run,
                    place=f"{event.step}.{event.index}",
                    action=actions.get(place, ""),
                    code=error.code,
                    message=error.message,
                    at=item.at,
                )
            )
    return sorted(found, key=lambda item: -item.at)
