"""A call of a tool, as a client makes it: its result, its progress, and how people approve it.

A client that polls tasks gets the call as one. A client that can open a page for its user gets the page of the request for approval; the call waits meanwhile. One that can show a form
asks its user to confirm a call whose rules want that. Every other client reads the error `approval_required`, and makes the same call again once a person has approved it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    InputRequiredResult,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from remit.core import Json, ProposedCall, Refusal, RemitError, RunEnded, UsageError, tool_name
from remit.server.handlers.calls import ApprovalView
from remit.server.http.answers import HttpRefusal, ServiceError, error_of, error_of_run
from remit.server.mcp.contents import contents
from remit.server.mcp.conversation import ClientCall
from remit.server.mcp.served import Served, program_of
from remit.server.mcp.tools import action_called
from remit.server.mcp.waiting.questions import CONFIRM, OPEN, ask, is_agreed, is_confirmed, questions_about
from remit.server.mcp.waiting.recorded import ClientAnswer
from remit.server.mcp.waiting.tasks import Task, created_task, takes_tasks

REQUEST: Final = "io.remit/request"  # in `_meta`: the id of the request for approval that the call was answered with
_FLUSH_S: Final = 1.0


async def call_tool(
    served: Served, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult | Task:
    """The result of the call; of one that waits for people a task, or the question with which the client asks its user to approve it."""
    progress = _Progress(ctx)
    asked = ClientCall(
        client=served.client,
        program=program_of(ctx),
        proposed=_proposed(served, params),
        request=_request(params),
        progress=progress.add,
    )
    try:
        replies = params.input_responses or {}
        if is_confirmed(replies.get(CONFIRM)):
            await served.conversation.confirm(asked, _state(params)[1])
        if is_agreed(replies.get(OPEN)):
            asked = replace(asked, wait=served.longest_wait)
        answer = await served.conversation.call(asked)
        if answer.approval is not None and not replies:
            return await _ask(served, ctx, asked, answer, answer.approval)
        return await _finished(served, ctx, answer)
    except (HttpRefusal, RemitError) as error:
        return _failed(error)
    finally:
        await progress.end()


async def _ask(
    served: Served, ctx: ServerRequestContext[Any, Any], asked: ClientCall, answer: ClientAnswer, view: ApprovalView
) -> CallToolResult | InputRequiredResult | Task:
    """Ask the user of the client about a call that waits, as far as the client can."""
    unconfirmed = served.conversation.is_unconfirmed(asked.proposed)
    page = "" if takes_tasks(ctx) else served.page(view)
    questions = questions_about(view, ctx, page, unconfirmed=unconfirmed)
    if questions and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return InputRequiredResult(input_requests=dict(questions), request_state=f"{view.id} {view.decision_digest}")
    if not questions or not ctx.session.can_send_request:
        return await _finished(served, ctx, answer)
    for name, question in questions.items():
        reply = await ask(ctx, question, view.id)
        if name == CONFIRM and is_confirmed(reply):
            await served.conversation.confirm(asked, view.decision_digest)
            answer = await served.conversation.call(asked)
        elif name == OPEN and is_agreed(reply):
            answer = await served.conversation.call(replace(asked, wait=served.longest_wait))
            with suppress(MCPError):
                await ctx.session.send_elicit_complete(view.id, ctx.request_id)
    return written_result(served, answer)


async def _finished(served: Served, ctx: ServerRequestContext[Any, Any], answer: ClientAnswer) -> CallToolResult | Task:
    """The result of a call about which nobody is asked any more; a task, if it waits for people and the client polls tasks."""
    if (view := answer.approval) is None or not takes_tasks(ctx):
        return written_result(served, answer)
    known = await served.conversation.recorded(served.client, view.id)
    return created_task(known, view, served.page(view))


class _Progress:
    """Reports to the client what the tool of a call prints. A client that does not ask for it gets nothing."""

    def __init__(self, ctx: ServerRequestContext[Any, Any]) -> None:
        self._ctx = ctx
        self._lines: asyncio.Queue[str] = asyncio.Queue(1000)
        self._task: asyncio.Task[None] | None = None

    def add(self, text: str) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._report())
        with suppress(asyncio.QueueFull):  # the record has all of it
            self._lines.put_nowait(text)

    async def _report(self) -> None:
        number = 0
        while True:
            text, number = await self._lines.get(), number + 1
            await self._ctx.session.report_progress(float(number), None, text)
            self._lines.task_done()

    async def end(self) -> None:
        """Report what is left, before the result: afterwards no client accepts it."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await asyncio.wait(
                    {self._task, rest := asyncio.ensure_future(self._lines.join())}, return_when="FIRST_COMPLETED"
                )
                rest.cancel()
        self._task.cancel()


def _proposed(served: Served, params: CallToolRequestParams) -> ProposedCall:
    actions = served.client.session.workspace.agents[served.agent].actions
    arguments = json.dumps(params.arguments or {}, ensure_ascii=False, separators=(",", ":"))
    return ProposedCall(name=tool_name(action_called(actions, params.name)), arguments=arguments)


def _request(params: CallToolRequestParams) -> str:
    """The request for approval that the client names."""
    if params.request_state:
        return _state(params)[0]
    named: object = dict(params.meta or {}).get(REQUEST)
    return named if isinstance(named, str) else ""


def _state(params: CallToolRequestParams) -> tuple[str, str]:
    """The id of the request and the digest of the decision that the user was asked about.

    INVARIANT: `request_state` was sealed by this process for this call.
    """
    request, _, decision = (params.request_state or "").partition(" ")
    return request, decision


def written_result(served: Served, answer: ClientAnswer) -> CallToolResult:
    """The result of a call, as its client reads it."""
    body: dict[str, Json] = {"ok": answer.ok, "run": answer.run}
    if answer.ok:
        body |= {"value": answer.value, "labels": list(answer.labels)}
    if answer.error is not None:
        body["error"] = answer.error.model_dump(mode="json")
    if answer.approval is not None:
        body["approval"] = {**answer.approval.model_dump(mode="json"), "page": served.page(answer.approval)}
    return _written(body, contents(answer.value, answer.objects))


def _failed(error: HttpRefusal | RemitError) -> CallToolResult:
    """The result of a call that was not made."""
    return _written({"ok": False, "error": _error(error).model_dump(mode="json")})


def _error(error: HttpRefusal | RemitError) -> ServiceError:
    if isinstance(error, HttpRefusal):
        return error.error
    if isinstance(error, Refusal):
        return error_of(error)
    if isinstance(error, RunEnded):
        return error_of_run(error)
    if isinstance(error, UsageError):
        return ServiceError(code="conflict", message=str(error))
    return ServiceError(code="unavailable", message="the workspace is not valid", retryable=True)


def _written(body: dict[str, Json], shown: Sequence[ContentBlock] = ()) -> CallToolResult:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(text=text), *shown], structured_content=body, is_error=not body["ok"])
