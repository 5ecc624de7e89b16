"""Pages of the list of runs that one principal may read."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from remit.core import Principal
from remit.journal import LIVE_RUNS, Journal, RunQuery, RunSummary, list_runs
from remit.policy import Policy
from remit.workspace import WorkspaceSession, readable

MOST_READ: Final = (
    2000  # rows of one page, also of runs that the principal may not read: a page costs no more than that
)
AT_ONCE: Final = 60  # rows that a shared list reads together


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Some runs, the latest first. `next` is where the next page begins, None at the end of the list.

    A page can have fewer runs than were asked for, or none, and a next page.
    """

    runs: tuple[RunSummary, ...]
    next: tuple[int, str] | None


def page_of_runs(
    session: WorkspaceSession,
    policy: Policy,
    by: Principal,
    query: RunQuery = LIVE_RUNS,
    *,
    limit: int = 50,
    before: tuple[int, str] | None = None,
) -> RunPage:
    """At most `limit` runs that the principal may read and that match; `before` is the `next` of the page before."""
    return readable_page(policy, by, list_runs(session.journal, query, page=min(limit + 1, 200), before=before), limit)


def readable_page(policy: Policy, by: Principal, runs: Iterable[RunSummary], limit: int) -> RunPage:
    """At most `limit` of the runs, in their order, that the principal may read. No more of them are read than that takes."""
    rows, seen = islice(runs, MOST_READ), list[RunSummary]()
    found = list(islice(readable(policy, _noted(rows, seen), by), limit))
    if len(found) == limit and next(rows, None) is not None:
        return RunPage(runs=tuple(found), next=(found[-1].started_at, found[-1].run))
    # A place in the list names no run that the principal may not read: the time of its start is enough.
    more = len(seen) == MOST_READ
    return RunPage(runs=tuple(found), next=(seen[-1].started_at, "") if more else None)


@dataclass
class _List:
    """The beginning of a list of runs; `whole` is True if there are no more."""

    rows: list[RunSummary] = field(default_factory=list[RunSummary])
    whole: bool = False


class SharedLists:
    """Lists of runs that several people look at: each run is read once for all of them, and only as far as one of them looks. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lists: dict[object, _List] = {}
        self._reading = threading.Lock()

    def runs(self, query: RunQuery, before: tuple[int, str] | None = None) -> Iterator[RunSummary]:
        """The runs of `list_runs`."""
        found, at = self._lists.setdefault((query, before), _List()), 0
        while True:
            if at == len(found.rows):
                self._read_on(found, at, query, before)
            if at == len(found.rows):
                return
            yield found.rows[at]
            at += 1

    def _read_on(self, found: _List, at: int, query: RunQuery, before: tuple[int, str] | None) -> None:
        with self._reading:
            if at < len(found.rows) or found.whole:
                return
            last = (found.rows[-1].started_at, found.rows[-1].run) if found.rows else before
            more = list(islice(list_runs(self._journal, query, page=AT_ONCE, before=last), AT_ONCE))
            found.whole = len(more) < AT_ONCE
            found.rows += more


def _noted(rows: Iterable[RunSummary], seen: list[RunSummary]) -> Iterator[RunSummary]:
    for row in rows:
        seen.append(row)
        yield row
