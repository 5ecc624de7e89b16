"""`confirmed()`: the user of an MCP client agrees to a call in a form of the client. That is no approval of a role."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp_types import ElicitResult

from remit.client import AsyncRemit
from remit.core import CONFIRMATION, ProposedCall, Refusal
from remit.core.events import ApprovalGranted
from remit.journal import StoredRecord
from remit.runtime import new_run_id
from remit.server.driven import DrivenRuns
from remit.server.mcp.conversation import ClientCall, Conversation
from remit.workspace import open_session
from support.mcp_clients import CLOSE, ERAS, McpService, called, mcp_service
from support.principals import principal

LEAD = "approved('role:oncall-lead')"


def asking(folder: Path, condition: str) -> None:
    """Let the rule about closing tickets ask for that."""
    rules = folder / "policies" / "rules.csv"
    lines = [
        line.replace(LEAD, condition) if "agent:triage, tickets.close" in line else line
        for line in rules.read_text().splitlines()
    ]
    rules.write_text("\n".join(lines) + "\n")
    assert condition in rules.read_text()


@pytest_asyncio.fixture
async def service(session: Path) -> AsyncIterator[McpService]:
    asking(session, "confirmed()")
    async with mcp_service(session) as opened:
        yield opened


def acting(service: McpService, name: str) -> AsyncRemit:
    client: AsyncRemit = service.caller.service.workspaces["default"].client(principal(name))
    return client


class User:
    """The user of a client: answers its forms, and lets the page of a request be opened."""

    def __init__(self, action: str = "accept", make: object = True) -> None:
        self._action, self._make = action, make
        self.asked: list[str] = []

    async def __call__(self, _: object, params: Any) -> ElicitResult:
        self.asked.append(params.mode)
        content: Any = {"make_this_call": self._make} if params.mode == "form" and self._action == "accept" else None
        return ElicitResult(action=self._action, content=content)  # type: ignore[arg-type]  # one of its literals


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_is_made_once_its_user_has_confirmed_it_and_the_record_says_by_which_program(
    service: McpService, era: str
) -> None:
    user = User()
    async with service.client(era=era, elicitation_callback=user) as client:
        closed = await called(client, *CLOSE)
    assert (closed["ok"], user.asked) == (True, ["form"]), closed
    record = StoredRecord(service.caller.service.workspaces["default"].journal, closed["run"])
    granted = [item for item in record.every() if isinstance(item, ApprovalGranted)]
    assert [(item.role, item.by.subject, item.via) for item in granted] == [(CONFIRMATION, "user:operator", "mcp:mcp")]
    assert (await acting(service, "operator").replay(closed["run"])).reproduced


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("user", [User("decline"), User("cancel"), User(make=False), User(make="yes")])
async def test_a_call_that_its_user_does_not_confirm_waits(service: McpService, era: str, user: User) -> None:
    async with service.client(era=era, elicitation_callback=user) as client:
        waits = await called(client, *CLOSE)
    assert waits["error"]["code"] == "approval_required"
    assert "they must confirm it" in waits["error"]["next_step"]
    assert waits["approval"]["missing"] == [{"role": CONFIRMATION, "count": 1}]


async def test_a_client_without_forms_lets_its_user_confirm_elsewhere_and_nobody_else_can(service: McpService) -> None:
    async with service.client() as client:
        request = (await called(client, *CLOSE))["approval"]["id"]
    with pytest.raises(Refusal, match="only the user of the run can"):
        await acting(service, "dana").approve(request)
    await acting(service, "operator").approve(request)
    async with service.client() as client:
        closed = await called(client, *CLOSE)
    assert closed["ok"], closed


@pytest.mark.parametrize("era", ERAS)
async def test_a_confirmation_counts_as_no_approval_of_a_role(session: Path, era: str) -> None:
    """Also of a role that the user has."""
    asking(session, f"confirmed() and {LEAD}")
    with (session / "policies" / "rules.csv").open("a") as rules:
        rules.write("g, user:operator, role:oncall-lead\n")
    async with mcp_service(session) as service:
        user = User()
        async with service.client(era=era, elicitation_callback=user) as client:
            waits = await called(client, *CLOSE)
            assert user.asked == ["form", "url"]
            assert waits["error"]["code"] == "approval_required"
            with pytest.raises(Refusal, match="did not start the run"):
                await acting(service, "operator").approve(waits["approval"]["id"], role="role:oncall-lead")
            await acting(service, "dana").approve(waits["approval"]["id"], role="role:oncall-lead")
            closed = await called(client, *CLOSE)
        assert closed["ok"], closed


async def test_an_answer_about_an_earlier_decision_confirms_nothing(session: Path) -> None:
    asking(session, "confirmed()")
    (session / "agent/triage/incident/stores/tickets/tickets.lock").unlink()
    client = AsyncRemit(open_session(session), principal("operator"))
    conversation = Conversation("triage", new_run_id(), DrivenRuns(1))
    proposed = ProposedCall(name="tickets__close", arguments=json.dumps(CLOSE[1]))
    asked = ClientCall(client=client, program="test", proposed=proposed)
    waits = await conversation.call(asked)
    assert waits.approval is not None
    with pytest.raises(Refusal, match="the rules or facts have changed"):
        await conversation.confirm(asked, "sha256:" + "0" * 64)
    assert conversation.is_unconfirmed(proposed)
    await conversation.confirm(asked, waits.approval.decision_digest)
    assert (await conversation.call(asked)).ok
    await conversation.end()
    await client.close()
