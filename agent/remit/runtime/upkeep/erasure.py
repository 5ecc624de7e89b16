"""Erases what the runs of a person, a tenant or one run recorded: journal, projections, sealed runs and trace files.

The headers of the events stay, so that each chain can still be verified. A run that has not finished keeps its events, because
its state is computed from them. Golden traces are files of the repository, and are named but not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from remit.core import Principal
from remit.core.events import RunErased
from remit.journal import (
    WORKSPACE_RUN,
    RunQuery,
    RunSummary,
    conversation_of,
    erase,
    forget_deleted,
    list_runs,
    release_space,
)
from remit.runtime.upkeep.folders import forget_folder
from remit.runtime.upkeep.retention import golden_runs
from remit.tracing import TraceFile
from remit.workspace import WorkspaceSession, authorize_runs


@dataclass(frozen=True, kw_only=True)
class Erasable:
    """The runs that match, and why some of them are left: they have not finished, or a golden trace is made of them."""

    finished: tuple[RunSummary, ...]
    unfinished: tuple[RunSummary, ...]
    golden: tuple[str, ...]


def erasable(session: WorkspaceSession, query: RunQuery) -> Erasable:
    """The runs that match, divided by what can be erased. With a run of a conversation, its later runs: they have its words."""
    rows = tuple(list_runs(session.journal, query))
    if query.run and rows and (conversation := conversation_of(session.journal, query.run)):
        others = list_runs(session.journal, RunQuery(evaluation=None, conversation=conversation))
        rows = tuple(row for row in others if row.started_at >= rows[0].started_at)
    return Erasable(
        finished=tuple(row for row in rows if row.ended_at is not None),
        unfinished=tuple(row for row in rows if row.ended_at is None),
        golden=tuple(sorted(golden_runs(session.traces) & {row.run for row in rows})),
    )


def erase_runs(
    session: WorkspaceSession,
    runs: Sequence[str],
    *,
    by: Principal,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Erase the bodies of every event of these finished runs. An interrupted call is completed by the next one.

    `on_progress` gets the number of erased runs and the total, after each run.

    Raises:
        Refusal: `policy_denied`: the rules do not let the person erase one of them. None is erased then.
        UsageError: a run has not finished.
    """
    journal = session.journal
    authorize_runs(session.policy, journal, runs, by, "remit.erase", "erase")
    for done, run in enumerate(runs, 1):
        count = (journal.head(WORKSPACE_RUN) or (-1, ""))[0] + 1
        journal.append_shared(WORKSPACE_RUN, RunErased(number=count, run=run, by=by))
        file = TraceFile(session.traces, run)
        if file.path.exists():
            file.rebuild(replace(link, salt=None, body=None) for link in journal.links(run))
            file.close()
        forget_folder(session.storage, run)
        erase(
            journal, run
        )  # INVARIANT: last. While the list has the user, the next call finds the run and erases the rest.
        on_progress(done, len(runs))
    release_space(journal)
    forget_deleted(journal)
