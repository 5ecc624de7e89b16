"""Runs: start, show and resume them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final

from pydantic import Field
from starlette.responses import Response

from remit.core import Code, FrozenModel, Refusal, Scope, UsageError
from remit.core.events import Outcome, RunFinished
from remit.journal import RunSummary, find_run
from remit.server.handlers.decisions import AgentName, UserName
from remit.server.http.answers import answered, not_found
from remit.server.http.idempotency import new_run
from remit.server.http.route import Asked
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


class RunView(FrozenModel):
    """One run. Times are RFC 3339 in UTC; `ended` is None if it goes on or waits. `answer` is the model's, None without one.

    `state` is running, lost, ready, finished, or what it waits for: "waiting: approval". `message` says why it ended.
    """

    run: str
    agent: str
    user: str
    task: str
    state: str
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


def rfc3339(nanoseconds: int) -> str:
    """The time in UTC, in microseconds: numbers of nanoseconds are not exact in every JSON reader."""
    at = datetime.fromtimestamp(nanoseconds // 10**9, UTC).replace(microsecond=nanoseconds % 10**9 // 1000)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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
    if not new.repeats:
        drive = partial(
            asked.client.run,
            body.agent,
            body.task,
            user=body.user,
            scope=body.scope,
            run_id=new.run,
            wait=asked.workspace.settings.serve.waiting,
        )
        asked.workspace.driven.start(new.run, lambda on_event: drive(on_event=on_event))
    return await _after(asked, new.run, body.wait)


async def show(asked: Asked) -> Response:
    return answered(await found(asked, asked.path["run"]))


async def found(asked: Asked, name: str) -> RunView:
    """The run. INVARIANT: one that the principal may not read looks like one that does not exist."""
    try:
        row = await asked.client.find_run(name)
    except (UsageError, Refusal):
        raise not_found("run") from None
    return view_of(row, _end_of(asked, row))


def _end_of(asked: Asked, row: RunSummary) -> RunFinished | None:
    recorded = asked.workspace.journal.get(row.run, ENDED) if row.state == "finished" else None
    event = None if recorded is None else recorded.event
    return event if isinstance(event, RunFinished) else None


async def _after(asked: Asked, run: str, seconds: float) -> Response:
    """The run after so many seconds, or once it ends or pauses: 200 if it has ended, 202 if it has not."""
    driven = asked.workspace.driven.get(run)
    if driven is not None:
        await driven.until_begun()
        await driven.until_ended(min(seconds, asked.service.longest_wait))
    row = find_run(asked.workspace.journal, run)
    assert row is not None  # its first event is recorded
    # Who started it learns how it goes on; what it has read and answered is for those who may read it.
    reads = asked.client.may("remit.read", run_resource(row.agent, own=True))
    view = view_of(row, _end_of(asked, row) if reads else None)
    return answered(view, 200 if view.state == "finished" else 202)
