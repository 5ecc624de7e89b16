"""Many users of one service at once: each decision, label, approval, result and record is that of the one who asked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from support.service_process import remit_serve
from support.tokens import AUDIENCE, SHOP, Shop
from support.workspaces.ledger import effects, environment, ledger_workspace, pin, use

USERS: Final = int(os.environ.get("REMIT_SERVICE_USERS", "20"))  # `make service-users` has 200
OWN: Final = """
# People start calls, and read their own runs
p, role:people, remit.run, agent:*, True, allow
p, role:people, remit.read, run:own/*, True, allow
# A lead answers the requests of others
p, role:lead, remit.approve, run:**, True, allow
"""
NAMES: Final = [f"u{number}" for number in range(USERS)]
BACKEND: Final = Shop()
SETTINGS: Final = """
[serve]
address = "127.0.0.1:0"
runs = 1000

[issuers.shop]
kind = "application"
issuer = "{issuer}"
audience = "{audience}"
agents = ["clerk"]
approvals = true
keys = ['''{key}''']
"""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger workspace with all users, whom an application has signed in."""
    folder = tmp_path / "clerk"
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LEDGER", "")
    use(folder)
    ledger_workspace(folder, [{"say": "done"}])
    tool, rules, marker = (folder / name for name in ("tools/ledger/tool.toml", "policies/rules.csv", "remit.toml"))
    # The calls of so many wait for each other in one process.
    tool.write_text(tool.read_text().replace('wall = "1s"', 'wall = "120s"'))
    rules.write_text(rules.read_text() + OWN + "".join(f"g, user:{name}, role:people\n" for name in NAMES))
    declared = "".join(f'"user:{name}", ' for name in NAMES)
    settings = SETTINGS.format(issuer=SHOP, audience=AUDIENCE, key=BACKEND.public)
    marker.write_text(marker.read_text().replace("users = [", f"users = [{declared}") + settings)
    pin(folder)
    return folder


class User:
    """One user of the application, which signs a new token for each request."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client = client
        self.name = name
        self.amount = 500 + int(name[1:]) if name[1:].isdigit() else 0

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        sent = {"authorization": f"Bearer {BACKEND.token(sub=self.name)}", **headers}
        return await self._client.request(method, path, json=body, headers=sent)

    async def call(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Make one call of the clerk under a key that all users have in common, and wait for its end once it is approved."""
        asked = {"agent": "clerk", "action": f"ledger.{action}", "arguments": {"name": self.name, **arguments}}
        made: dict[str, Any] = (
            await self.send("POST", "/v1/calls", asked, **{"idempotency-key": f"the-{action}"})
        ).json()
        return made

    async def look(self) -> dict[str, Any]:
        return await self.call("look", text=f"for {self.name}")

    async def pay(self) -> dict[str, Any]:
        return await self.call("pay", amount=self.amount)

    async def paid(self) -> dict[str, Any]:
        while (made := await self.pay()).get("error", {}).get("code") in ("approval_required", "still_running"):
            await asyncio.sleep(0.2)
        return made

    async def record(self, run: str) -> list[dict[str, Any]]:
        """The events of a run that the user may read."""
        answer = await self.send("GET", f"/v1/runs/{run}/events")
        assert answer.status_code == 200, answer.text
        return [item["event"] for item in answer.json()["value"]["events"]]


def check_record(events: list[dict[str, Any]], name: str, approved_by: str | None, labels: list[str]) -> None:
    """Everything in the record of one call is of that user."""
    of: Mapping[str, list[dict[str, Any]]] = {
        type: [event for event in events if event["type"] == type]
        for type in ("run.started", "call.decided", "approval.granted", "call.answered")
    }
    (started,) = of["run.started"]
    assert (started["subjects"]["user"], started["by"]["subject"]) == (f"user:{name}", f"user:{name}")
    assert {event["call"]["subjects"]["user"] for event in of["call.decided"]} == {f"user:{name}"}
    touched = {touch["resource"] for event in of["call.decided"] for touch in event["call"]["touches"]}
    assert touched == {f"account:{name}"}
    assert [event["by"]["subject"] for event in of["approval.granted"]] == ([approved_by] if approved_by else [])
    assert [event["result"]["labels"] for event in of["call.answered"]] == [labels]


async def all_at_once(folder: Path) -> None:
    with remit_serve(folder, env=environment(folder)) as service:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            users, lead = [User(client, name) for name in NAMES], User(client, "lea")
            made = await asyncio.gather(*(each() for user in users for each in (user.look, user.pay)))
            looked, waiting = made[::2], made[1::2]
            assert [answer["value"] for answer in looked] == [{"name": name, "text": f"for {name}"} for name in NAMES]
            asked = [answer["approval"] for answer in waiting]
            assert all(f"{user.amount}" in request["summary"] for user, request in zip(users, asked, strict=True))
            found = (await lead.send("GET", "/v1/approvals?limit=200")).json()["value"]["approvals"]
            assert sorted(item["id"] for item in found) == sorted(request["id"] for request in asked)
            granted = await asyncio.gather(
                *(lead.send("POST", f"/v1/approvals/{request['id']}/grant", {}) for request in asked)
            )
            assert {answer.status_code for answer in granted} == {200}
            paid = await asyncio.gather(*(user.paid() for user in users))
            assert [(answer["run"], answer["value"]) for answer in paid] == [
                (answer["run"], "paid") for answer in waiting
            ]
            for user, look, pay in zip(users, looked, paid, strict=True):
                check_record(await user.record(look["run"]), user.name, None, ["seen"])
                check_record(await user.record(pay["run"]), user.name, "user:lea", [])
            for user, other in zip(users, paid[1:] + paid[:1], strict=True):
                assert (await user.send("GET", f"/v1/runs/{other['run']}")).status_code == 404


def test_users_of_one_service_at_once_are_never_mixed_up(ledger: Path) -> None:
    asyncio.run(all_at_once(ledger))
    done = sorted((row["name"], row["amount"]) for row in effects(ledger))
    assert done == sorted((name, 500 + number) for number, name in enumerate(NAMES))
