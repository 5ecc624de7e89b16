"""The service sends notifications by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from notifications.receiving import KEY, is_signed, receiving

from support.served import serving

CLOSE: Any = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}


async def test_a_service_notifies_of_a_call_that_waits_and_ends_while_the_receiver_is_silent(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_SECRET_HOOK", KEY)
    monkeypatch.setattr("remit.notifications.notifier.IDLE_S", 0.05)
    with receiving() as receiver:
        with (session / "remit.toml").open("a") as settings:
            settings.write(f'\n[notify.oncall]\nwebhook = "{receiver.url}"\nsecret = "hook"\n')
            settings.write('service = "https://remit.example.com"\n')
        async with serving(session) as caller:
            caller.service.begin()
            asked = await caller.post("/v1/calls", CLOSE)
            assert asked.status == 202
            async with asyncio.timeout(20):
                while not receiver.requests:
                    await asyncio.sleep(0.02)
        (request,), (body,) = receiver.requests, receiver.bodies
    assert is_signed(request)
    assert body["data"]["link"] == f"https://remit.example.com/approvals/{asked.body['approval']['id']}"
    assert "INC-2041" not in request.body.decode()
