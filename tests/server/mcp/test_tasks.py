"""A call that waits for people is a task, for a client that polls tasks (extension `io.modelcontextprotocol/tasks`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import pytest
import pytest_asyncio
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result

from remit.client import AsyncRemit
from remit.core.events import AttemptBegun
from remit.journal import list_runs
from remit.server.mcp.waiting.tasks import EXTENSION
from support.mcp_clients import CLOSE, HELLO, READ, McpService, called, mcp_service
from support.principals import principal

REVISION: Final = "2026-07-28"
UNKNOWN: Final = f"{'0' * 32}/0.0"


class CreatedTask(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str = ""


class PolledTask(Result):
    task_id: str
    status: str
    result: dict[str, Any] | None = None


class ByTask(RequestParams):
    task_id: str


class GetTask(Request[ByTask, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: ByTask
    name_param = "taskId"


class Tasks(ClientExtension):
    """A client that polls tasks until they have a result. `seen` are those that it was given."""

    identifier = EXTENSION

    def __init__(self) -> None:
        self.seen: list[CreatedTask] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    async def _resolve(self, task: CreatedTask, ctx: ClaimContext) -> CallToolResult:
        self.seen.append(task)
        async with asyncio.timeout(30):
            while True:
                asked = GetTask(params=ByTask(task_id=task.task_id))
                polled = await ctx.session.send_request(cast("Any", asked), PolledTask)
                if polled.status != "working":
                    return CallToolResult.model_validate(polled.result)
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def service(session: Path) -> AsyncIterator[McpService]:
    async with mcp_service(session) as opened:
        yield opened


def acting(service: McpService, name: str) -> AsyncRemit:
    client: AsyncRemit = service.caller.service.workspaces["default"].client(principal(name))
    return client


async def approved(service: McpService) -> str:
    """Approve the call that waits, as another person, once there is one. Returns the id of its request."""
    async with asyncio.timeout(20):
        while not (waiting := await acting(service, "dana").approvals()):
            await asyncio.sleep(0.05)
    await acting(service, "dana").approve(waiting[0])
    return str(waiting[0].place)


async def sent(
    service: McpService,
    method: str,
    params: dict[str, Any],
    *,
    name: str = "operator",
    path: str = "/mcp/triage",
    **more: Any,
) -> dict[str, Any]:
    """The answer to one request of a client that polls tasks, or with `tasks` False of one that does not."""
    polls, named = more.pop("tasks", True), more.pop("header", params.get("taskId", params.get("name", "")))
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}} if polls else {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {"mcp-protocol-version": REVISION, "mcp-method": method, "mcp-name": named}
    return dict((await service.send(body, name=name, path=path, **headers)).json())


async def created(service: McpService) -> str:
    """The id of the task of a call that waits."""
    answer = await sent(service, "tools/call", {"name": CLOSE[0], "arguments": CLOSE[1]})
    result: dict[str, Any] = answer["result"]
    assert (result["resultType"], result["status"], result["ttlMs"]) == ("task", "working", None), answer
    return str(result["taskId"])


def attempts(service: McpService) -> list[AttemptBegun]:
    journal = service.caller.service.workspaces["default"].journal
    events = [item.event for row in list_runs(journal) for item in journal.events(row.run)]
    return [event for event in events if isinstance(event, AttemptBegun)]


async def test_a_client_polls_the_task_of_a_call_until_another_person_has_approved_it(service: McpService) -> None:
    tasks = Tasks()
    async with service.client(extensions=[tasks]) as client:
        read = await called(client, *READ)
        closing = asyncio.ensure_future(called(client, *CLOSE))
        request = await approved(service)
        closed = await closing
    assert (read["ok"], closed["ok"], closed["run"]) == (True, True, read["run"])
    ((task),) = tasks.seen
    assert (task.task_id, "waits for role:oncall-lead" in task.status_message) == (request, True)
    assert len(attempts(service)) == 2, "it ran once"


async def test_polls_at_the_same_time_run_the_call_once_and_its_result_stays(service: McpService) -> None:
    task = await created(service)
    waits = await sent(service, "tasks/get", {"taskId": task})
    assert (waits["result"]["status"], attempts(service)) == ("working", [])
    assert await approved(service) == task
    await asyncio.gather(*(sent(service, "tasks/get", {"taskId": task}) for _ in range(5)))
    async with asyncio.timeout(20):
        while (polled := (await sent(service, "tasks/get", {"taskId": task}))["result"])["status"] == "working":
            await asyncio.sleep(0.05)
    assert (polled["status"], polled["result"]["structuredContent"]["ok"], polled["resultType"]) == (
        "completed",
        True,
        "complete",
    )
    assert len(attempts(service)) == 1


async def test_a_task_goes_on_in_another_process_of_the_service(session: Path) -> None:
    async with mcp_service(session) as service:
        task = await created(service)
    async with mcp_service(session) as service:
        await approved(service)
        async with asyncio.timeout(20):
            while (polled := (await sent(service, "tasks/get", {"taskId": task}))["result"])["status"] == "working":
                await asyncio.sleep(0.05)
        assert polled["result"]["structuredContent"]["ok"]


async def test_a_cancelled_task_never_runs_even_if_it_is_approved_later(service: McpService) -> None:
    task = await created(service)
    assert (await sent(service, "tasks/cancel", {"taskId": task}))["result"]["resultType"] == "complete"
    assert await acting(service, "dana").approvals() == ()
    assert (await sent(service, "tasks/get", {"taskId": task}))["result"]["status"] == "cancelled"
    assert attempts(service) == []
    assert await created(service) != task, "the same call made again is another one"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_only_the_conversation_that_made_a_task_reaches_it(service: McpService, method: str) -> None:
    task = await created(service)
    params = {"taskId": task} | ({"inputResponses": {}} if method == "tasks/update" else {})
    assert "result" in await sent(service, "tasks/update", {"taskId": task, "inputResponses": {"x": {}}})
    for name, path in (("dana", "/mcp/triage"), ("operator", "/mcp/triage/other")):
        assert (await sent(service, method, params, name=name, path=path))["error"]["code"] == -32602
    for unknown in (UNKNOWN, "", "x" * 500, task.replace("/", "\\")):
        assert (await sent(service, method, {**params, "taskId": unknown}))["error"]["code"] == -32602
    assert (await sent(service, method, params, header=UNKNOWN))["error"]["code"] == -32020
    missing = (await sent(service, method, params, tasks=False))["error"]
    assert (missing["code"], missing["data"]) == (-32021, {"requiredCapabilities": {"extensions": {EXTENSION: {}}}})
    assert (await sent(service, "tasks/get", {"taskId": task}))["result"]["status"] == "working"


async def test_a_client_that_polls_no_tasks_gets_the_error_that_the_call_waits(service: McpService) -> None:
    answer = await sent(service, "tools/call", {"name": CLOSE[0], "arguments": CLOSE[1]}, tasks=False)
    assert answer["result"]["structuredContent"]["error"]["code"] == "approval_required"
    assert answer["result"]["resultType"] == "complete"


async def test_the_user_of_a_client_that_polls_tasks_confirms_in_a_form_first(session: Path) -> None:
    rules = session / "policies" / "rules.csv"
    both = "confirmed() and approved('role:oncall-lead')"
    lines = rules.read_text().splitlines()
    changed = [
        line.replace("approved('role:oncall-lead')", both) if "agent:triage, tickets.close" in line else line
        for line in lines
    ]
    rules.write_text("\n".join(changed) + "\n")
    asked: list[str] = []

    async def elicited(_: object, params: Any) -> ElicitResult:
        asked.append(params.mode)
        return ElicitResult(action="accept", content={"make_this_call": True})

    tasks = Tasks()
    async with (
        mcp_service(session) as service,
        service.client(extensions=[tasks], elicitation_callback=elicited) as client,
    ):
        closing = asyncio.ensure_future(called(client, *CLOSE))
        async with asyncio.timeout(20):
            while not tasks.seen:
                await asyncio.sleep(0.05)
        await approved(service)
        assert (await closing)["ok"]
    assert (asked, len(tasks.seen)) == (["form"], 1)


async def test_the_tasks_of_revision_2025_11_25_are_not_offered(service: McpService) -> None:
    """They were experimental: the revision after it moved them to the extension, and the library has none of them."""
    begun = await service.send(HELLO)
    declared = json.loads(begun.text.partition("data: ")[2].partition("\n")[0] or begun.text)["result"]
    assert declared["protocolVersion"] == "2025-11-25"
    assert "tasks" not in declared["capabilities"]
    body = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": UNKNOWN}}
    answer = await service.send(body, mcp_session_id=begun.headers["mcp-session-id"])
    assert '"code":-32' in answer.text.replace(" ", "")
