"""Runs: start, show and resume them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from pydantic import Field
from starlette.responses import Response

from remit.client import AsyncRemit, AsyncRunStream, page_of_runs
from remit.core import Code, FrozenModel, Refusal, Scope, UsageError
from remit.core.events import Outcome, Recorded, RunFinished
from remit.journal import RunQuery, RunStatus, RunSummary, find_run
from remit.runtime import RunResult
from remit.server.handlers.decisions import AgentName, UserName
from remit.server.http.answers import HttpRefusal, answered, conflict, not_found
from remit.server.http.idempotency import new_run
from remit.server.http.paging import NEXT, Limit
from remit.server.http.route import Asked, apart
from remit.server.http.times import rfc3339
from remit.server.workspaces import ServedWorkspace
from remit.workers import QueueFull
from remit.workspace import run_resource

Seconds = Annotated[
    float, Field(ge=0, le=3600, description="How many seconds the answer may wait; 0: it does not wait for the end")
]
ENDED: Final = "run.finished/-/-/-"


class NewRun(FrozenModel):
    """A run of an agent. `scope` is the most that it may do, beside what the rules allow."""

    agent: AgentName
    task: Annotated[str, Field(min_length=1, max_length=200_000, description="What the agent is to do")]
    user: UserName = None
    scope: Scope | None = None
    wait: Seconds = 0.0
    priority: Annotated[
        int | None,
        Field(ge=1, le=9, description="Workers drive the run, those of 9 first; absent: the service drives it"),
    ] = None


class RunView(FrozenModel):
    """One run. Times are RFC 3339 in UTC; `ended` is None if it goes on or waits. `answer` is the model's, None without one.

    `state` "waiting" is for people, and "ready" can go on while no process drives it. `message` says why it ended.
    """

    run: str
    agent: str
    user: str
    task: str
    state: RunStatus
    outcome: Outcome | None
    code: Code | None
    started: str
    ended: str | None
    steps: int
    calls: int
    denied: int
    labels: tuple[str, ...]
    answer: str | None = None
    message: str | None = None


class RunsQuery(FrozenModel):
    """Which runs, the latest first."""

    agent: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] | None = None
    user: Annotated[str, Field(pattern=r"^(user:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")] | None = None
    state: RunStatus | None = None
    failed: bool = False
    limit: Limit = 50
    # At most 18 digits after the first: a number that a database holds.
    cursor: Annotated[str | None, Field(pattern=r"^[0-8]?[0-9]{1,18}\.[0-9a-f]{0,32}$", description=NEXT)] = None


class RunList(FrozenModel):
    """Some of the runs that the principal may read. A page can have fewer runs than `limit`, and a `next` page."""

    runs: tuple[RunView, ...]
    next: str | None


class Resumed(FrozenModel):
    """How a run goes on: with `accept_changes`, with the agent and the tools on disk."""

    accept_changes: bool = False
    wait: Seconds = 0.0


def view_of(row: RunSummary, finished: RunFinished | None = None) -> RunView:
    return RunView(
        run=row.run,
        agent=row.agent.removeprefix("agent:"),
        user=row.user,
        task=row.task,
        state=row.state,
        outcome=row.outcome,
        code=row.code,
        started=rfc3339(row.started_at),
        ended=None if row.ended_at is None else rfc3339(row.ended_at),
        steps=row.steps,
        calls=row.calls,
        denied=row.denied,
        labels=row.labels,
        answer=finished.answer if finished is not None and finished.outcome == "completed" else None,
        message=finished.message if finished is not None else None,
    )


async def start(asked: Asked) -> Response:
    body: NewRun = asked.body
    asked.authorize_agent(body.agent)
    new = await new_run(asked)
    if not new.repeats and body.priority is not None:
        enqueue = partial(asked.client.enqueue, priority=body.priority)
        enqueued = enqueue(body.agent, body.task, user=body.user, scope=body.scope, run_id=new.run)
        asked.workspace.driven.start(new.run, lambda _: enqueued)
    elif not new.repeats:
        stream = asked.client.stream(
            body.agent,
            body.task,
            user=body.user,
            scope=body.scope,
            run_id=new.run,
            wait=asked.workspace.settings.serve.waiting,
        )
        asked.workspace.driven.start(new.run, partial(_driven, stream))
    return await _after(asked, new.run, body.wait)


async def _driven(stream: AsyncRunStream, on_event: Callable[[Recorded], None]) -> RunResult:
    async with stream:
        async for recorded in stream:
            on_event(recorded)
    return stream.result


async def show(asked: Asked) -> Response:
    row = await readable_run(asked, asked.path["run"])
    return answered(view_of(row, _end_of(asked, row)))


async def listed(asked: Asked) -> Response:
    query: RunsQuery = asked.query
    before = None
    if query.cursor is not None:
        started, _, run = query.cursor.partition(".")
        before = int(started), run
    matching = RunQuery(
        agent="" if query.agent is None else f"agent:{query.agent}",
        user="" if query.user is None else f"user:{query.user.removeprefix('user:')}",
        state=query.state or "",
        failed=query.failed,
    )
    client = asked.client
    page = await asked.workspace.read(
        lambda _: page_of_runs(
            client.session, client.policy, client.principal, matching, limit=query.limit, before=before
        )
    )
    place = None if page.next is None else f"{page.next[0]}.{page.next[1]}"
    return answered(RunList(runs=tuple(map(view_of, page.runs)), next=place))


async def resume(asked: Asked) -> Response:
    body: Resumed = asked.body
    row = await readable_run(asked, asked.path["run"])
    asked.authorize("remit.resume", asked.client.run_resource(row.run))
    if row.state == "finished":
        raise conflict("the run has ended", f"read it: GET /v1/runs/{row.run}")
    await resume_here(asked.workspace, asked.client, row.run, accept_changes=body.accept_changes)
    return await _after(asked, row.run, body.wait)


async def resume_here(
    workspace: ServedWorkspace, client: AsyncRemit, run: str, *, accept_changes: bool = False
) -> None:
    """Let the service drive the run from now on. Raises HttpRefusal if it cannot go on here."""
    if workspace.driven.get(run) is not None:
        raise conflict("the service drives the run already")
    drive = partial(client.resume, run, accept_changes=accept_changes, wait=workspace.settings.serve.waiting)
    driven = workspace.driven.start(run, lambda on_event: drive(on_event=on_event))
    try:
        await driven.until_begun()
    except UsageError as error:  # another process drives it, or a part of its definition is missing
        raise conflict(str(error)) from None


async def readable_run(asked: Asked, name: str) -> RunSummary:
    """The run. INVARIANT: one that the principal may not read looks like one that does not exist."""
    try:
        return await apart(asked.client.find_run(name))
    except (UsageError, Refusal):
        raise not_found("run") from None


def _end_of(asked: Asked, row: RunSummary) -> RunFinished | None:
    recorded = asked.workspace.journal.get(row.run, ENDED) if row.state == "finished" else None
    event = None if recorded is None else recorded.event
    return event if isinstance(event, RunFinished) else None


async def _after(asked: Asked, run: str, seconds: float) -> Response:
    """The run after so many seconds, or once it ends or pauses: 200 if it has ended, 202 if it has not."""
    driven = asked.workspace.driven.get(run)
    if driven is not None:
        try:
            await driven.until_begun()
        except QueueFull as full:
            raise HttpRefusal("too_many", str(full), retry_after_s=5.0) from None
        await driven.until_ended(min(seconds, asked.service.longest_wait))
    row = find_run(asked.workspace.journal, run)
    assert row is not None  # its first event is recorded
    # Who started it learns how it goes on; what it has read and answered is for those who may read it.
    reads = asked.client.may("remit.read", run_resource(row.agent, own=True))
    view = view_of(row, _end_of(asked, row) if reads else None)
    return answered(view, 200 if view.state == "finished" else 202)
