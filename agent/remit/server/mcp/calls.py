"""A call of a tool, as a client makes it: its result, its progress, and how people approve it.

A client that can open a page for its user gets the page of the request for approval; the call waits meanwhile. One that can show a form
asks its user to confirm a call whose rules want that. Every other client reads the error `approval_required`, and makes the same call again once a person has approved it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from remit.client import AsyncRemit
from remit.core import Json, ProposedCall, Refusal, RemitError, RunEnded, UsageError, tool_name
from remit.server.handlers.calls import ApprovalView, CallAnswer
from remit.server.http.answers import HttpRefusal, ServiceError, error_of, error_of_run
from remit.server.mcp.conversation import ClientCall, Conversation
from remit.server.mcp.questions import CONFIRM, OPEN, ask, is_agreed, is_confirmed, questions_about
from remit.server.mcp.tools import action_called

REQUEST: Final = "io.remit/request"  # in `_meta`: the id of the request for approval that the call was answered with
_FLUSH_S: Final = 1.0
_PROGRAM: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What one client is served: an agent, for one principal. `client` acts as that principal.

    `page` returns the address of the page of a request for approval, "" without pages. `longest_wait` is how many seconds a call may
    wait for people.
    """

    client: AsyncRemit
    conversation: Conversation
    page: Callable[[ApprovalView], str] = lambda _: ""
    longest_wait: float = 50.0

    @property
    def agent(self) -> str:
        return self.conversation.agent


async def call_tool(
    served: Served, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    """The result of the call, or the question with which the client asks its user to approve it."""
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
        return _result(served, answer)
    except (HttpRefusal, RemitError) as error:
        return _failed(error)
    finally:
        await progress.end()


async def _ask(
    served: Served, ctx: ServerRequestContext[Any, Any], asked: ClientCall, answer: CallAnswer, view: ApprovalView
) -> CallToolResult | InputRequiredResult:
    """Ask the user of the client about a call that waits, as far as the client can."""
    unconfirmed = served.conversation.is_unconfirmed(asked.proposed)
    questions = questions_about(view, ctx, served.page(view), unconfirmed=unconfirmed)
    if questions and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return InputRequiredResult(input_requests=dict(questions), request_state=f"{view.id} {view.decision_digest}")
    if not ctx.session.can_send_request:
        return _result(served, answer)
    for name, question in questions.items():
        reply = await ask(ctx, question, view.id)
        if name == CONFIRM and is_confirmed(reply):
            await served.conversation.confirm(asked, view.decision_digest)
            answer = await served.conversation.call(asked)
        elif name == OPEN and is_agreed(reply):
            answer = await served.conversation.call(replace(asked, wait=served.longest_wait))
            with suppress(MCPError):
                await ctx.session.send_elicit_complete(view.id, ctx.request_id)
    return _result(served, answer)


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


def program_of(ctx: ServerRequestContext[Any, Any]) -> str:
    """The name of the client program, as it says itself: nothing decides by it."""
    given = ctx.session.client_params
    name = "" if given is None else _PROGRAM.sub("-", given.client_info.name)[:40].strip("-")
    return name or "client"


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


def _result(served: Served, answer: CallAnswer) -> CallToolResult:
    body: dict[str, Json] = {"ok": answer.ok, "run": answer.run}
    if answer.ok:
        body |= {"value": answer.value, "labels": list(answer.labels)}
    if answer.error is not None:
        body["error"] = answer.error.model_dump(mode="json")
    if answer.approval is not None:
        body["approval"] = {**answer.approval.model_dump(mode="json"), "page": served.page(answer.approval)}
    return _written(body)


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


def _written(body: dict[str, Json]) -> CallToolResult:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(text=text)], structured_content=body, is_error=not body["ok"])
