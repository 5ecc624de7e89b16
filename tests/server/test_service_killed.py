"""The service is killed with -9 while many calls wait for people: no event is lost, no effect happens twice, each request is still there."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from remit.core import UsageError
from remit.journal import StoredRecord, find_run, list_runs
from remit.runtime import resume_run
from remit.workspace import open_session
from support.events import RUN, started
from support.principals import OPERATOR
from support.service_process import ServiceProcess, service_process
from support.workspaces.ledger import effects, environment, ledger_workspace, use

RUNS: Final = int(os.environ.get("REMIT_SERVICE_RUNS", "8"))  # `make service-kills` has 100
LEAD: Final = "dana"
NEW_KEY: Final = "make a new call with a new key"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger workspace, in which dana is a lead."""
    folder = tmp_path / "clerk"
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LEDGER", "")
    use(folder)
    ledger_workspace(folder, [{"say": "done"}])
    for name, old, new in (
        ("remit.toml", 'users = ["user:operator",', f'users = ["user:operator", "user:{LEAD}",'),
        ("policies/rules.csv", "g, user:lea, role:lead\n", f"g, user:lea, role:lead\ng, user:{LEAD}, role:lead\n"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    return folder


async def pay(client: httpx.AsyncClient, number: int, key: str = "pay") -> Any:
    """Ask for one payment, which needs the approval of a lead. The key makes a repeated request the same one."""
    asked = {"agent": "clerk", "action": "ledger.pay", "arguments": {"name": f"a{number}", "amount": 500}}
    return (await client.post("/v1/calls", json=asked, headers={"idempotency-key": f"{key}-{number}"})).json()


async def until_killed(service: ServiceProcess, work: list[Any], after: int) -> list[Any]:
    """The answers that came before the service was killed, which happens after so many of them."""
    answers: list[Any] = []

    async def one(item: Any) -> None:
        try:
            answers.append(await item)
        except httpx.HTTPError:  # the service was killed
            return
        if len(answers) == after:
            service.kill()

    await asyncio.gather(*map(one, work))
    if service.lives:
        service.kill()
    return answers


async def waiting(client: httpx.AsyncClient) -> dict[str, Any]:
    """Every request that waits, by its id."""
    return {item["id"]: item for item in (await client.get("/v1/approvals?limit=200")).json()["value"]["approvals"]}


async def requested(ledger: Path, dice: random.Random) -> list[str]:
    """Ask for all payments in two lives of the service; returns the ids of the requests, all of which wait at the end."""
    with service_process(ledger, env=environment(ledger)) as service:
        async with service.client() as client:
            first = await until_killed(service, [pay(client, number) for number in range(RUNS)], dice.randint(1, RUNS))
    with service_process(ledger, env=environment(ledger)) as service:
        async with service.client() as client:
            there = await waiting(client)
            assert all("approval" in answer for answer in first), first
            assert {answer["approval"]["id"] for answer in first} <= set(there)
            again = await asyncio.gather(*(pay(client, number) for number in range(RUNS)))
            assert {answer["run"] for answer in first} <= {answer["run"] for answer in again}
            for number, answer in enumerate(again):
                if "approval" not in answer:  # killed before its arguments were recorded: nothing was done, or can be
                    assert (answer["error"]["code"], answer["error"]["next_step"]) == ("conflict", NEW_KEY)
                    assert "approval" in await pay(client, number, "again")
            async with service.client(LEAD) as lead:
                found = sorted(await waiting(lead))
        service.kill()
    assert len(found) == RUNS
    return found


async def granted(ledger: Path, ids: list[str], dice: random.Random) -> None:
    """Approve all in two lives of the service, and resume what was interrupted."""
    with service_process(ledger, env=environment(ledger)) as service:
        async with service.client(LEAD) as lead:
            work = [lead.post(f"/v1/approvals/{id}/grant", json={}) for id in ids]
            await until_killed(service, work, dice.randint(1, RUNS))
    with service_process(ledger, env=environment(ledger)) as service:
        async with service.client(LEAD) as lead:
            for id in await waiting(lead):
                await lead.post(f"/v1/approvals/{id}/grant", json={})
        async with service.client() as client:
            await _resumed(client, [id.partition("/")[0] for id in ids])


async def _resumed(client: httpx.AsyncClient, runs: list[str]) -> None:
    answers = await asyncio.gather(
        *(client.post(f"/v1/runs/{run}/resume", json={"wait": 5}, timeout=120) for run in runs)
    )
    assert {answer.status_code for answer in answers} <= {200, 202, 409}


def test_nothing_is_lost_and_nothing_happens_twice_when_the_service_is_killed(ledger: Path) -> None:
    dice = random.Random(RUNS)
    ids = asyncio.run(requested(ledger, dice))
    print(f"{len(ids)} requests wait after two kills", flush=True)
    asyncio.run(granted(ledger, ids, dice))
    print("all are approved and resumed after two more", flush=True)
    with open_session(ledger).journal as journal:
        runs = [row.run for row in list_runs(journal)]
        assert all(journal.verify(run) == () for run in runs)
        ended = {run: find_run(journal, run) for run in {id.partition("/")[0] for id in ids}}
    paid = Counter(row["name"] for row in effects(ledger))
    assert set(paid.values()) <= {1}
    doubtful = sum(row is not None and bool(row.in_doubt) for row in ended.values())
    completed = [row for row in ended.values() if row is not None and row.outcome == "completed" and not row.in_doubt]
    assert len(completed) + doubtful == RUNS
    assert len(completed) <= len(paid) <= RUNS


def test_a_call_whose_arguments_were_never_recorded_is_not_made_with_others(ledger: Path) -> None:
    with open_session(ledger).journal as journal:
        StoredRecord(journal, RUN).append(started(model="call:ledger.pay"))
    with pytest.raises(UsageError, match="make the call again"):
        asyncio.run(resume_run(open_session(ledger), RUN, by=OPERATOR))
    assert effects(ledger) == []
