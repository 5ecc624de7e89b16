"""Several workers on one PostgreSQL: many runs that wait, a flood of one tenant, a hold of everything.

`make fleet` has 10,000 runs that wait and 1,000 of one tenant, and checks the times; here the same happens with few.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import pytest
import pytest_asyncio
from workers.test_workers import ASK, PAY, ended, until, worker_of, working

from remit.client import AsyncRemit
from remit.core.events import NANO, ApprovalGranted, Recorded, RunFinished, RunResumed, RunStarted
from remit.journal import look_into_queue
from remit.journal.storage.core_tables import TABLES
from remit.workspace import open_session
from support.fleet import StatementLog
from support.journal_history import Copier, Rows, write_rows
from support.postgres import Server, journals_in
from support.principals import principal
from support.workspaces.ledger import effects

WAITING: Final = int(os.environ.get("REMIT_WAITING_RUNS", "60"))
# Many more than end meanwhile, also on a busy machine: a flood that has ended delays nobody.
FLOOD: Final = int(os.environ.get("REMIT_FLOOD_RUNS", "80"))
QUIET_S: Final = float(os.environ.get("REMIT_QUIET_S", "2.5"))
BARS: Final = "REMIT_FLEET_BARS" in os.environ  # times are checked by `make fleet` only
LEA: Final = principal("user:lea")
SIGN_OF_LIFE: Final = "SELECT 1"  # of the connection that listens, every 5 s


def at_most(seconds: float, bar: float, what: str) -> None:
    print(f"{what}: {seconds:.3f} s (at most {bar:g} s)")
    assert not BARS or seconds <= bar, what


def first(events: list[Recorded], kind: type[Any]) -> int:
    return next(item.at for item in events if isinstance(item.event, kind))


@pytest.fixture(autouse=True)
def _pinned(clerk: Callable[..., Path]) -> None:
    """The tool is pinned before there is an event loop."""
    clerk(PAY)


@pytest.fixture(autouse=True)
def _on_postgres(postgres_server: Server) -> Iterator[None]:
    with journals_in(postgres_server):
        yield


@pytest_asyncio.fixture
async def opened() -> AsyncGenerator[Callable[[Path], AsyncRemit]]:
    """Opens workspaces, and closes them after the test."""
    async with AsyncExitStack() as stack:

        def one(root: Path) -> AsyncRemit:
            client = AsyncRemit(open_session(root))
            stack.push_async_callback(client.close)
            return client

        yield one


async def waiting_copies(client: AsyncRemit, url: str, count: int) -> None:
    """So many more runs of the queue that wait for an approval: copies of a real one."""
    run = await client.enqueue("clerk", "pay much")
    await worker_of([client], 1, []).run(drain=0.0, until_idle=True)
    await client.acting_as(LEA).approve(run)
    await worker_of([client], 1, []).run(drain=0.0, until_idle=True)
    copier, rows = Copier(client.session.journal.chain(run).links, 1), Rows()
    rows.update({table: [] for table in TABLES})
    for number in range(count):
        copier.copy("waiting", time.time_ns() - number * 1_000_000, rows)
    write_rows(url, [rows])


async def test_runs_that_wait_hold_no_worker_and_ask_the_database_nothing_and_a_grant_continues_its_run(
    clerk: Callable[..., Path], opened: Callable[[Path], AsyncRemit], postgres_server: Server
) -> None:
    client = opened(clerk(ASK))
    url = str(client.session.workspace.settings.journal)
    log = StatementLog(postgres_server, url)
    await waiting_copies(client, url, WAITING)
    worked = opened(client.root)  # its connections are opened now, so their statements are logged
    async with working([worked], slots=1) as reports:
        run = await client.enqueue("clerk", "pay much")
        await until(lambda: len(reports) == 1)
        await asyncio.sleep(0.5)
        log.begin()
        await asyncio.sleep(QUIET_S)
        asked = log.statements()
        assert set(asked) <= {SIGN_OF_LIFE}
        assert len(asked) <= 3 * (QUIET_S / 5 + 1)  # of three journals that are open here
        queued = look_into_queue(client.session.journal)
        assert (queued.runs, queued.driven) == ((), 0)
        assert len(await client.approvals()) == WAITING + 1
        await client.acting_as(LEA).approve(run)
        await until(lambda: ended(reports) == [run])
        assert log.statements()  # it would have seen a poll
    events = client.session.journal.events(run)
    took = (first(events, RunFinished) - first(events, ApprovalGranted)) / NANO
    at_most(took, 1.0, f"from a grant to the end of its run, beside {WAITING} runs that wait")


async def test_a_flood_of_one_tenant_does_not_delay_the_runs_of_another(
    clerk: Callable[..., Path], opened: Callable[[Path], AsyncRemit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEDGER_SLOW", "0.2")
    root = clerk([{"say": "look", "calls": [{"ledger__look": {"name": "ann"}}]}, {"say": "done"}])
    other = tmp_path / "other"
    shutil.copytree(root, other)
    tenant = f"t{secrets.token_hex(4)}"
    (other / "remit.toml").write_text(f'tenant = "{tenant}"\n' + (other / "remit.toml").read_text())
    big, small = opened(root), opened(other)
    for number in range(FLOOD):
        await big.enqueue("clerk", f"task {number}")
    names: list[str] = []
    async with working([big, small], slots=8) as reports:
        for number in range(max(4, FLOOD // 50)):
            await until(lambda: len(ended(reports)) >= 2 * len(names), 300.0)
            names.append(await small.enqueue("clerk", f"task {number}"))
        await until(lambda: set(names) <= set(ended(reports)), 300.0)
        left = look_into_queue(big.session.journal).runs
        assert left, "the flood had ended: nothing was measured"
        waits = [(first(events, RunResumed) - first(events, RunStarted)) / NANO for events in histories(small, names)]
        before = ended(reports)
        assert sum(run not in names for run in before) < FLOOD
    at_most(quantiles(waits, n=20)[-1], 1.0, f"p95 of the wait of a tenant, beside {FLOOD} runs of another")


def histories(client: AsyncRemit, runs: list[str]) -> Iterator[list[Recorded]]:
    for run in runs:
        yield client.session.journal.events(run)


async def test_after_a_hold_of_everything_no_worker_begins_an_effect_and_after_it_all_runs_end(
    clerk: Callable[..., Path], opened: Callable[[Path], AsyncRemit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_SLOW", "0.05")
    root = clerk([*[{"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 1}}]}] * 12, {"say": "done"}])
    client, workers = opened(root), [opened(root), opened(root)]
    runs = [await client.enqueue("clerk", f"task {number}") for number in range(6)]
    async with working([workers[0]], slots=3) as one, working([workers[1]], slots=3) as two:
        await until(lambda: len(effects(root)) >= 6)
        await client.hold("all", reason="an incident")
        held = time.monotonic()
        last, changed = len(effects(root)), held
        while time.monotonic() - held < 2.5:
            if (now := len(effects(root))) != last:
                last, changed = now, time.monotonic()
            await asyncio.sleep(0.02)
        at_most(changed - held, 1.0, "from a hold of everything to the last effect of two workers")
        assert last < 72, "every run had ended: nothing was held"
        assert time.monotonic() - changed > 1.0  # nothing began for a long time, although runs are left
        await client.lift("all")
        await until(lambda: {*ended(one), *ended(two)} == set(runs), 60.0)
    assert len(effects(root)) > last
