"""What people should know of, read from the projections of the journal: history is not scanned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from remit.core.events import CODE, NANO, ApprovalRequested, CallDecided, HoldSet, NotificationKind
from remit.journal import (
    Journal,
    RunQuery,
    WaitingRequest,
    find_run,
    list_runs,
    request_of,
    waiting_requests,
)

NEWS_NS: Final = 3 * 86_400 * NANO  # what is older is no news: a new channel does not get the lost runs of last year


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing that people should know of.

    `id` identifies it in the journal permanently. `at` is when it came up, in Unix nanoseconds; of a run, when it started. `agent` is the
    name of its agent and `run` the id of its run, "" without one. `text` says it in one sentence, without arguments and content, and
    `command` shows it; of an approval they are "" until `described`, as are `roles`, which it needs, and `path`, its page of the service.
    """

    kind: NotificationKind
    id: str
    at: int
    agent: str = ""
    run: str = ""
    text: str = ""
    command: str = ""
    path: str = ""
    roles: tuple[str, ...] = ()
    request: WaitingRequest | None = None


def subjects_of(journal: Journal) -> list[Subject]:
    """Everything that is so now, the oldest first."""
    since = journal.clock() - NEWS_NS
    found = [*_approvals(journal), *_lost(journal, since), *_in_doubt(journal, since), *_holds(journal, since)]
    return sorted((item for item in found if item.at >= since), key=lambda item: (item.at, item.id))


def described(journal: Journal, subject: Subject) -> Subject | None:
    """The subject with its text; None if the request was erased. Only what is sent is read: a thousand requests may wait."""
    if subject.request is None:
        return subject
    request = request_of(journal, subject.request)
    if request is None:
        return None
    needs = " and ".join(f"{item.count} × {item.role}" for item in request.missing) or "an approval"
    until = datetime.fromtimestamp(request.expires_at // NANO, UTC).strftime("%Y-%m-%d %H:%M UTC")
    action = _action(journal, subject.run, request)
    return replace(
        subject,
        roles=tuple(item.role for item in request.missing),
        text=f"A call of {action} by agent {subject.agent} waits for {needs}, until {until}.",
        path=f"approvals/{subject.run}/{request.step}.{request.index}",
        command=f"remit approve show {subject.run}/{request.step}.{request.index}",
    )


def _action(journal: Journal, run: str, request: ApprovalRequested) -> str:
    """The action of the call, as its manifest names it: what a model wrote is no part of a notification."""
    found = journal.get(run, f"call.decided/{request.step}/{request.index}/0")
    decided = None if found is None else found.event
    call = decided.call if isinstance(decided, CallDecided) else None
    return "an action" if call is None else call.action


def _approvals(journal: Journal) -> Iterator[Subject]:
    for item in waiting_requests(journal):
        agent = item.agent.removeprefix("agent:")
        id = f"approval/{item.run}/{item.seq}"
        yield Subject(kind="approval", id=id, at=item.at, agent=agent, run=item.run, request=item)


def _lost(journal: Journal, since: int) -> Iterator[Subject]:
    for run in list_runs(journal, RunQuery(state="lost", since=since)):
        agent = run.agent.removeprefix("agent:")
        yield Subject(
            kind="lost",
            id=f"lost/{run.run}/{journal.fence_of(run.run)}",  # its lease: a run that is resumed and lost again is news
            at=run.started_at,
            agent=agent,
            run=run.run,
            text=f"Run {run.run[:8]} of agent {agent} is lost: its process has ended.",
            command=f"remit run --resume {run.run}",
        )


def _in_doubt(journal: Journal, since: int) -> Iterator[Subject]:
    for run in list_runs(journal, RunQuery(in_doubt=True, since=since)):
        agent = run.agent.removeprefix("agent:")
        for item in run.in_doubt:
            if not item.answered and run.state == "running":
                continue  # a living process is at work on it
            place = f"{item.step}.{item.index}"
            yield Subject(
                kind="in-doubt",
                id=f"in-doubt/{run.run}/{place}",
                at=run.started_at,
                agent=agent,
                run=run.run,
                text=f"It is unknown whether a call of {item.action} in run {run.run[:8]} of agent {agent} has had its effect.",
                command=f"remit trace show {run.run}",
            )


def _holds(journal: Journal, since: int) -> Iterator[Subject]:
    """The holds in force that can be lifted: a revocation of code is none."""
    in_force = {hold.number for scope, hold in journal.holds().items() if not scope.startswith(CODE)}
    for item in journal.every("hold.set", since=since) if in_force else ():
        if isinstance(item.event, HoldSet) and item.event.number in in_force:
            kind, _, name = item.event.scope.partition(":")
            held = find_run(journal, name) if kind == "run" else None
            what = "Everything" if kind == "all" else f"{kind.capitalize()} {name}"
            yield Subject(
                kind="hold",
                id=f"hold/{item.event.number}",
                at=item.at,
                agent=name if kind == "agent" else held.agent.removeprefix("agent:") if held else "",
                run=name if kind == "run" else "",
                text=f"{what} is on hold, set by {item.event.by.subject}.",
                command=f"remit start {item.event.scope}",
            )
