"""Pages of the list of runs that one principal may read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from remit.core import Principal
from remit.journal import LIVE_RUNS, RunQuery, RunSummary, list_runs
from remit.policy import Policy
from remit.workspace import WorkspaceSession, readable

MOST_READ: Final = (
    2000  # rows of one page, also of runs that the principal may not read: a page costs no more than that
)


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
    rows = list(islice(list_runs(session.journal, query, page=min(limit + 1, 200), before=before), MOST_READ))
    found = list(islice(readable(policy, rows, by), limit))
    if len(found) == limit and found[-1] is not rows[-1]:
        return RunPage(runs=tuple(found), next=(found[-1].started_at, found[-1].run))
    # A place in the list names no run that the principal may not read: the time of its start is enough.
    more = len(rows) == MOST_READ
    return RunPage(runs=tuple(found), next=(rows[-1].started_at, "") if more else None)
