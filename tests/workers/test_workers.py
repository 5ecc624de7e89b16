"""Workers take runs from the queue of a workspace, and drive them until they end or wait."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remit.client import AsyncRemit
from remit.client.access import disable_principal, enable_principal
from remit.core import Refusal
from remit.core.events import RunResumed, RunStarted
from remit.journal import look_into_queue
from remit.workers import DroveRun, QueueFull, Worker
from remit.workspace import open_session
from support.principals import principal
from support.runs import Command
from support.workspaces.ledger import effects, environment

PAY = [{"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 10}}]}, {"say": "done"}]
ASK = [{"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 500}}]}, {"say": "done"}]
LEA = principal("user:lea")


def worker_of(clients: Iterable[AsyncRemit], slots: int, reports: list[DroveRun]) -> Worker:
    return Worker([(client.session, client.principal) for client in clients], slots=slots, report=reports.append)


@asynccontextmanager
async def working(
    clients: Iterable[AsyncRemit], *, slots: int = 4, drain: float = 20.0
) -> AsyncGenerator[list[DroveRun]]:
    """A worker beside the block, and what it reports. It ends with the block."""
    reports: list[DroveRun] = []
    worker = worker_of(clients, slots, reports)
    task = asyncio.create_task(worker.run(drain=drain))
    try:
        yield reports
    finally:
        worker.end()
        await task


async def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


def ended(reports: list[DroveRun]) -> list[str]:
    return [drove.run for drove in reports if drove.word == "completed"]


def with_rule(root: Path, row: str) -> Path:
    rules = root / "policies" / "rules.csv"
    rules.write_text(f"{rules.read_text()}\n# A rule of the test\n{row}\n")
    return root


@pytest.fixture(autouse=True)
def _pinned(clerk: Callable[..., Path]) -> None:
    """The tool is pinned before there is an event loop."""
    clerk(PAY)


@pytest.fixture
def desk(clerk: Callable[..., Path]) -> Callable[..., AsyncRemit]:
    """Open a workspace whose agent follows this script."""

    def opened(turns: list[dict[str, Any]], **options: Any) -> AsyncRemit:
        return AsyncRemit(open_session(clerk(turns, **options)))

    return opened


async def test_a_worker_drives_the_runs_of_the_queue_those_of_the_highest_priority_first_then_the_oldest(
    desk: Callable[..., AsyncRemit],
) -> None:
    client = desk(PAY)
    runs = [await client.enqueue("clerk", f"task {number}", priority=1 + number // 2 * 4) for number in range(4)]
    reports: list[DroveRun] = []
    await worker_of([client], 1, reports).run(drain=0.0, until_idle=True)
    assert ended(reports) == [runs[2], runs[3], runs[0], runs[1]]
    assert len(effects(client.root)) == 4
    started, resumed = (client.session.journal.events(runs[0])[number].event for number in (0, 1))
    assert isinstance(started, RunStarted)
    assert isinstance(resumed, RunResumed)  # it says which principal's process took the run
    await client.close()


async def test_a_run_that_waits_for_people_holds_no_worker_and_goes_on_once_they_have_answered(
    desk: Callable[..., AsyncRemit],
) -> None:
    client = desk(ASK)
    async with working([client], slots=1) as reports:
        waiting = [await client.enqueue("clerk", "pay much") for _ in range(3)]
        await until(lambda: len(reports) == 3)  # one slot was enough for all three
        assert {drove.word for drove in reports} == {"waiting"}
        assert not any(client.session.journal.is_driven(run) for run in waiting)
        begun = time.monotonic()
        await client.acting_as(LEA).approve(waiting[1])
        await until(lambda: ended(reports) == [waiting[1]])
        assert time.monotonic() - begun < 5.0
        await client.acting_as(LEA).reject(waiting[0], reason="too much")
        await until(lambda: len(ended(reports)) == 2)
    assert len(effects(client.root)) == 1
    await client.close()


async def test_a_worker_reads_nothing_while_every_run_waits_for_people(
    desk: Callable[..., AsyncRemit], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = desk(ASK)
    journal = client.session.journal
    async with working([client]) as reports:
        run = await client.enqueue("clerk", "pay much")
        await until(lambda: len(reports) == 1)
        await asyncio.sleep(0.5)
        looks: list[object] = []
        monkeypatch.setattr("remit.workers.worker.look_into_queue", lambda at: looks.append(at) or look_into_queue(at))
        await asyncio.sleep(2.5)
        assert looks == []
        await client.acting_as(LEA).approve(run)
        await until(lambda: ended(reports) == [run])
        assert looks
    assert look_into_queue(journal).runs == ()
    await client.close()


async def test_a_run_on_hold_stays_in_the_queue_and_goes_on_after_the_hold(desk: Callable[..., AsyncRemit]) -> None:
    client = desk(PAY)
    await client.hold("agent:clerk", reason="a drill")
    async with working([client]) as reports:
        run = await client.enqueue("clerk", "pay")
        await asyncio.sleep(0.5)
        assert reports == []
        await client.lift("agent:clerk")
        await until(lambda: ended(reports) == [run])
    await client.close()


async def test_the_runs_of_a_disabled_principal_do_not_go_on_and_those_of_others_do(
    clerk: Callable[..., Path],
) -> None:
    client = AsyncRemit(open_session(with_rule(clerk(PAY), "p, user:operator, remit.disable, user:*, True, allow")))
    theirs = await client.acting_as(LEA).enqueue("clerk", "pay")
    disable_principal(client.session, "user:lea", by=client.principal, reason="has left")
    async with working([client]) as reports:
        own = await client.enqueue("clerk", "pay")
        await until(lambda: ended(reports) == [own])
        await asyncio.sleep(0.3)
        assert ended(reports) == [own]
        enable_principal(client.session, "user:lea", by=client.principal)
        await until(lambda: ended(reports) == [own, theirs])
    await client.close()


async def test_a_run_does_not_go_on_once_its_principal_may_no_longer_run_the_agent(
    clerk: Callable[..., Path],
) -> None:
    root = with_rule(clerk(PAY), "p, user:lea, remit.run, agent:clerk, True, allow")
    rules = root / "policies" / "rules.csv"
    granted = rules.read_text()
    client = AsyncRemit(open_session(root))
    run = await client.acting_as(LEA).enqueue("clerk", "pay")
    rules.write_text(granted.replace("user:lea, remit.run", "user:leo, remit.run"))
    await asyncio.sleep(0.6)
    async with working([client]) as reports:
        await until(lambda: bool(reports))
        assert "user:lea may not" in reports[0].error
        assert effects(root) == []
        rules.write_text(granted)
        await until(lambda: ended(reports) == [run])
    await client.close()


async def test_a_run_of_a_dead_process_is_continued_by_another_worker(desk: Callable[..., AsyncRemit]) -> None:
    """The lease of a process that lives on keeps others away."""
    client = desk(PAY)
    journal = client.session.journal
    run = await client.enqueue("clerk", "pay")
    async with journal.lease(run):
        async with working([client]) as reports:
            await asyncio.sleep(1.5)
            assert reports == []
        head = journal.database
        with head.transaction(durable=True) as transaction:
            transaction.run("UPDATE head SET holder = 'gone:0:0/1.1 dead', beat = 0")
        async with working([client]) as reports:
            await until(lambda: ended(reports) == [run])
    await client.close()


async def test_a_full_queue_refuses_a_run_and_records_nothing(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clerk(PAY)
    settings = root / "remit.toml"
    settings.write_text(f"{settings.read_text()}\n[worker]\nqueue = 2\n")
    client = AsyncRemit(open_session(root))
    for _ in range(2):
        await client.enqueue("clerk", "pay")
    with pytest.raises(QueueFull, match=r"2 runs wait for workers, as many as \[worker\] queue allows"):
        await client.enqueue("clerk", "pay")
    assert len(await client.runs()) == 2
    await worker_of([client], 2, []).run(drain=0.0, until_idle=True)
    await client.enqueue("clerk", "pay")
    await client.close()


async def test_the_end_of_a_worker_lets_a_run_pause_and_the_next_worker_continues_it(
    desk: Callable[..., AsyncRemit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call ends first, because an effect is never given up in the middle."""
    monkeypatch.setenv("LEDGER_SLOW", "0.6")
    client = desk([*PAY[:1], *PAY])
    run = await client.enqueue("clerk", "pay twice")
    async with working([client], drain=0.0) as reports:
        await until(lambda: bool(effects(client.root)))
    assert ended(reports) == []
    await worker_of([client], 1, reports).run(drain=0.0, until_idle=True)
    assert ended(reports) == [run]
    await client.close()


async def test_runs_of_one_tenant_do_not_delay_those_of_another(
    clerk: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_SLOW", "0.05")
    root = clerk([{"say": "look", "calls": [{"ledger__look": {"name": "ann"}}]}, {"say": "done"}])
    other = tmp_path / "other"
    shutil.copytree(root, other)
    (other / "remit.toml").write_text('tenant = "small"\n' + (other / "remit.toml").read_text())
    big, small = AsyncRemit(open_session(root)), AsyncRemit(open_session(other))
    for number in range(20):
        await big.enqueue("clerk", f"task {number}")
    runs = [await small.enqueue("clerk", f"task {number}") for number in range(2)]
    reports: list[DroveRun] = []
    await worker_of([big, small], 2, reports).run(drain=0.0, until_idle=True)
    places = [ended(reports).index(run) for run in runs]
    assert max(places) <= 6
    assert len(ended(reports)) == 22
    await big.close()
    await small.close()


async def test_who_may_not_run_the_agent_cannot_leave_a_run_to_the_workers(
    clerk: Callable[..., Path],
) -> None:
    client = AsyncRemit(open_session(with_rule(clerk(PAY), "p, user:bob, remit.run, agent:*, True, allow")))
    with pytest.raises(Refusal, match=r"remit\.run"):
        await client.acting_as(principal("user:bea")).enqueue("clerk", "pay")
    assert await client.acting_as(principal("user:bob")).enqueue("clerk", "pay")
    await client.close()


def test_the_commands_start_a_run_and_drive_it(clerk: Callable[..., Path], command: Command) -> None:
    root = clerk(PAY)
    run = command(root, "enqueue", "clerk", "pay", "--json", env=environment(root)).json["run"]
    drove = command(root, "worker", "--until-idle", "--json", env=environment(root))
    assert drove.json == {"run": run, "tenant": "default", "state": "completed", "error": None}
