"""Calls that wait for people as tasks, which a client polls (extension `io.modelcontextprotocol/tasks`, SEP-2663).

A task is the request for approval of a call: its id is that of the request, and all that is known of it is in the record. So a task goes on
in another process, and only the conversation in which it was made may read it. The call is made when the client polls after people have
approved it. The tasks of revision 2025-11-25 were experimental, and neither the library nor a later revision has them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    EmptyResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from remit.core import Json, Refusal, RemitError
from remit.server.handlers.calls import ApprovalView
from remit.server.http.times import rfc3339
from remit.server.mcp.client_run import BY_CLIENT
from remit.server.mcp.served import Served, program_of
from remit.server.mcp.waiting.recorded import ClientAnswer, RecordedCall

EXTENSION: Final = "io.modelcontextprotocol/tasks"
POLL_MS: Final = 2000
Context: TypeAlias = ServerRequestContext[Any, Any]
Task: TypeAlias = dict[str, Any]  # `DetailedTask` and `CreateTaskResult` of the extension


class TaskParams(RequestParams):
    """What every request about a task says."""

    task_id: str


def takes_tasks(ctx: Context) -> bool:
    """True if this request says that the client polls tasks."""
    given = ctx.session.client_capabilities
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return modern and given is not None and EXTENSION in (given.extensions or {})


def created_task(known: RecordedCall, view: ApprovalView, page: str) -> Task:
    """The task in place of the result of a call that waits for people."""
    roles = ", ".join(item.role for item in view.missing)
    where = f"; a person answers at {page}" if page else ""
    return _task(known, resultType="task", statusMessage=f"waits for {roles}: {view.summary}{where}")


def add_tasks(
    server: Server[Any],
    served_of: Callable[[Context], Served],
    result_of: Callable[[Served, ClientAnswer], CallToolResult],
) -> None:
    """Let the server answer the requests about tasks. `result_of` writes the result of a call."""

    async def get(ctx: Context, params: TaskParams) -> Task:
        served = _checked(served_of(ctx), ctx, params)
        with _failing():
            known = await served.conversation.poll(served.client, program_of(ctx), params.task_id)
        if known.answer is None:
            return _task(known)
        if known.answer.error is not None and known.answer.error.details.get("problem") == BY_CLIENT:
            return _task(known, status="cancelled")
        result = result_of(served, known.answer).model_dump(mode="json", by_alias=True, exclude_none=True)
        return _task(known, status="completed", result=result)

    async def cancel(ctx: Context, params: TaskParams) -> EmptyResult:
        served = _checked(served_of(ctx), ctx, params)
        with _failing():
            await served.conversation.cancel(served.client, program_of(ctx), params.task_id)
        return EmptyResult(result_type="complete")

    async def update(ctx: Context, params: TaskParams) -> EmptyResult:
        """No task asks its client for anything: an answer to a question that was not asked is ignored."""
        served = _checked(served_of(ctx), ctx, params)
        with _failing():
            await served.conversation.recorded(served.client, params.task_id)
        return EmptyResult(result_type="complete")

    server.extensions = {EXTENSION: {}}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)
    server.add_request_handler("tasks/update", TaskParams, update)


def _task(known: RecordedCall, **given: Json) -> Task:
    return {
        "resultType": "complete",
        "taskId": f"{known.run}/{known.step}.{known.index}",
        "status": "working",
        "createdAt": rfc3339(known.decided_at),
        "lastUpdatedAt": rfc3339(known.changed_at),
        "ttlMs": None,  # it is kept as long as the record of the run
        "pollIntervalMs": POLL_MS,
        **given,
    }


def _checked(served: Served, ctx: Context, params: TaskParams) -> Served:
    """Raise MCPError for a client that does not poll tasks, or whose header names another one."""
    if not takes_tasks(ctx):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, f"the request does not declare {EXTENSION}", needed)
    named = None if ctx.request is None else ctx.request.headers.get(MCP_NAME_HEADER)
    if ctx.request is not None and decode_header_value(named) != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"the header {MCP_NAME_HEADER} does not name the task")
    return served


@contextmanager
def _failing() -> Generator[None]:
    """Answer what Remit refuses as an error of the protocol."""
    try:
        yield
    except Refusal as refusal:
        code = INVALID_PARAMS if refusal.code == "approval_invalid" else INTERNAL_ERROR
        raise MCPError(code, refusal.message) from refusal
    except RemitError as error:
        raise MCPError(INTERNAL_ERROR, str(error)) from error
