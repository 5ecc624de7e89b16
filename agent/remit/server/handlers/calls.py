"""One call of an agent, made by a person or a program."""

from __future__ import annotations

from functools import partial

from pydantic import Field
from starlette.responses import Response

from remit.client import CallResult
from remit.core import Error, Failed, FrozenModel, Json, MissingApproval, Result, UsageError
from remit.core.events import ApprovalRequested, CallAnswered, RunFinished
from remit.journal import Journal, find_run
from remit.server.handlers.decisions import AskedCall
from remit.server.handlers.runs import ENDED, Seconds
from remit.server.http.answers import ServiceError, failed, json_response
from remit.server.http.idempotency import new_run
from remit.server.http.route import Asked
from remit.server.http.times import rfc3339

_RESULT = "call.answered/0/0/-"
_ARGUMENTS = "model.responded/0/-/-"  # the turn of the run that has the arguments of the call


class NewCall(AskedCall):
    """One call of an agent. With `wait`, the answer also waits for approval."""

    wait: Seconds = 0.0


class ApprovalView(FrozenModel):
    """One request for approval: exactly the call that would run.

    `id` is RUN/STEP.INDEX. `summary` is the text that a person reads; `missing` are the approvals that are needed, and with
    `break_glass` one in `role:break-glass` replaces them. `expires` is RFC 3339 in UTC.
    """

    id: str
    run: str
    step: int
    index: int
    summary: str
    missing: tuple[MissingApproval, ...]
    break_glass: bool
    facts: dict[str, Json]
    decision_digest: str
    expires: str


class CallAnswer(FrozenModel):
    """The result of one call, and the run that recorded it. `approval` is the request for which it waits."""

    ok: bool
    run: str
    value: Json = None
    labels: tuple[str, ...] = ()
    error: ServiceError | None = None
    approval: ApprovalView | None = Field(default=None)


def approval_view(run: str, asks: ApprovalRequested) -> ApprovalView:
    return ApprovalView(
        id=f"{run}/{asks.step}.{asks.index}",
        run=run,
        step=asks.step,
        index=asks.index,
        summary=asks.summary,
        missing=asks.missing,
        break_glass=asks.break_glass,
        facts=asks.facts,
        decision_digest=asks.decision_digest,
        expires=rfc3339(asks.expires_at),
    )


async def call(asked: Asked) -> Response:
    body: NewCall = asked.body
    asked.authorize_agent(body.agent)
    new, workspace = await new_run(asked), asked.workspace
    if not new.repeats:
        drive = partial(
            asked.client.call,
            body.action,
            body.arguments,
            agent=body.agent,
            user=body.user,
            run_id=new.run,
            wait=workspace.settings.serve.waiting,
        )
        workspace.driven.start(new.run, lambda on_event: drive(on_event=on_event))
    if (driven := workspace.driven.get(new.run)) is not None:
        await driven.until_begun()
        longest = asked.service.longest_wait
        await driven.until_asks(longest)
        if not driven.task.done():
            await driven.until_ended(min(body.wait, longest))
        if not driven.task.done():
            return _unanswered(new.run, driven.asks)
        called = driven.task.result()
        assert isinstance(called, CallResult)  # the key of a call never names a run
        if called.error is not None and called.error.code == "approval_required" and driven.asks is not None:
            return _unanswered(new.run, driven.asks)
        return _answer(new.run, called.result)
    return await _recorded(asked, new.run)


async def _recorded(asked: Asked, run: str) -> Response:
    """The answer to a repeated request, from the record of the run that the first one started."""
    journal = asked.workspace.journal
    answer, end = journal.get(run, _RESULT), journal.get(run, ENDED)
    if answer is not None and isinstance(answer.event, CallAnswered):
        return _answer(run, answer.event.result)
    if end is not None and isinstance(end.event, RunFinished):
        return failed(ServiceError(code=end.event.code or "cancelled", message=end.event.message), also={"run": run})
    if end is not None:
        return _unusable(run, "the call has ended, and its result was erased")
    if await asked.workspace.read(_is_never_made, run):
        return _unusable(run, "the first request ended before its call was recorded: nothing was done")
    row = find_run(journal, run)
    waiting = [item for item in await asked.client.approvals() if item.run == run]
    interrupted = row is not None and row.state in ("lost", "ready")  # no process drives it
    return _unanswered(run, waiting[0].request if waiting else None, interrupted=interrupted)


def _unusable(run: str, why: str) -> Response:
    """The answer to a key that will never get a result."""
    error = ServiceError(code="conflict", message=why, next_step="make a new call with a new key")
    return failed(error, also={"run": run})


def _is_never_made(journal: Journal, run: str) -> bool:
    """True if the process of the call ended before it recorded the arguments.

    INVARIANT: True is final. To take the lease ends what that process could still record, and without a record it does nothing.
    """
    try:
        with journal.brief_lease(run):
            return journal.get(run, _ARGUMENTS) is None
    except UsageError:  # a process drives it
        return False


def _answer(run: str, result: Result) -> Response:
    if isinstance(result, Failed):
        return failed(result.error, also={"run": run})
    return json_response({"ok": True, "value": result.value, "labels": result.labels, "run": run})


def _unanswered(run: str, asks: ApprovalRequested | None, *, interrupted: bool = False) -> Response:
    if asks is None and interrupted:
        error = ServiceError(
            code="still_running",
            message="the call was interrupted",
            next_step=f"resume it: POST /v1/runs/{run}/resume, then send the same request again",
        )
        return failed(error, also={"run": run})
    if asks is None:
        error = ServiceError(
            code="still_running",
            message="the call goes on",
            next_step=f"send the same request with the same Idempotency-Key, or read /v1/runs/{run}",
        )
        return failed(error, also={"run": run})
    view = approval_view(run, asks)
    waits = Error(
        code="approval_required",
        message=f"waits for {', '.join(item.role for item in asks.missing)}",
        next_step=f"approve it: POST /v1/approvals/{view.id}/grant",
    )
    return failed(waits, also={"run": run, "approval": view.model_dump(mode="json")})
