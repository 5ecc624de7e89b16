"""A run with a priority is recorded by the service, and driven by workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from remit.workers import DroveRun, Worker
from support.principals import OPERATOR
from support.runs import TASK
from support.served import Caller, serving

RUN = {"agent": "triage", "task": TASK, "priority": 5}


@pytest_asyncio.fixture
async def caller(session: Path) -> AsyncIterator[Caller]:
    async with serving(session) as opened:
        yield opened


async def test_a_run_with_a_priority_is_accepted_once_for_a_key_and_a_worker_drives_it(caller: Caller) -> None:
    first = await caller.post("/v1/runs", RUN, key="order-7")
    again = await caller.post("/v1/runs", RUN, key="order-7")
    assert (first.status, again.status) == (202, 202)
    assert first.value["run"] == again.value["run"]
    assert (await caller.get(f"/v1/runs/{first.value['run']}")).value["state"] == "ready"
    reports: list[DroveRun] = []
    session = caller.service.workspaces["default"].session
    await Worker([(session, OPERATOR)], slots=2, report=reports.append).run(drain=0.0, until_idle=True)
    assert [(drove.run, drove.word) for drove in reports] == [(first.value["run"], "completed")]
    assert (await caller.get(f"/v1/runs/{first.value['run']}")).value["state"] == "finished"


async def test_a_run_without_a_priority_is_driven_by_the_service(caller: Caller) -> None:
    made = await caller.post("/v1/runs", {**RUN, "priority": None, "wait": 30})
    assert made.value["state"] == "finished"


async def test_a_full_queue_is_answered_with_too_many_requests(session: Path) -> None:
    settings = session / "remit.toml"
    settings.write_text(f"{settings.read_text()}\n[worker]\nqueue = 1\n")
    async with serving(session) as caller:
        assert (await caller.post("/v1/runs", RUN)).status == 202
        full = await caller.post("/v1/runs", RUN)
        assert (full.status, full.code) == (429, "too_many")
        assert "retry-after" in full.headers


@pytest.mark.parametrize("priority", [0, 10, 1.5, "high"])
async def test_a_priority_that_does_not_exist_is_refused(caller: Caller, priority: object) -> None:
    refused = await caller.post("/v1/runs", {**RUN, "priority": priority})
    assert refused.status == 400
