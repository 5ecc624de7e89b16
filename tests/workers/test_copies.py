"""The file of the journal is put back to an earlier state: what the copies in shared storage have is brought back first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from workers.test_workers import ASK, LEA, worker_of

from remit.client import AsyncRemit
from remit.core import RunEnded
from remit.core.events import RunFinished
from remit.journal import RunQuery, list_runs
from remit.runtime.upkeep.erasure import erasable, erase_runs
from remit.storage import Store
from remit.workers import DroveRun
from remit.workspace import open_session
from support.runs import Command
from support.workspaces.ledger import effects, environment

FOLDER = pytest.mark.parametrize("storage", ["folder"], indirect=True)


class Desk:
    """A workspace with shared storage whose clerk asks for an approval, pays and is done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = AsyncRemit(open_session(root))

    @property
    def store(self) -> Store:
        store = self.client.session.storage
        assert store is not None
        return store

    async def work(self) -> list[DroveRun]:
        reports: list[DroveRun] = []
        await worker_of([self.client], 1, reports).run(drain=0.0, until_idle=True)
        return reports

    async def waiting(self) -> str:
        run = await self.client.enqueue("clerk", "pay much")
        await self.work()
        return run

    async def approved(self, run: str) -> None:
        await self.client.acting_as(LEA).approve(run)
        await self.work()

    async def kept(self) -> None:
        """Take a backup of the journal."""
        await self.client.close()
        shutil.copyfile(self.root / "traces/journal.db", self.root / "backup.db")
        self.client = AsyncRemit(open_session(self.root))

    async def put_back(self) -> None:
        """Put the backup in place of the journal."""
        await self.client.close()
        for path in (self.root / "traces").glob("journal.db*"):
            path.unlink()
        shutil.copyfile(self.root / "backup.db", self.root / "traces/journal.db")
        self.client = AsyncRemit(open_session(self.root))

    def outcome(self, run: str) -> str | None:
        return next(
            (
                row.outcome
                for row in list_runs(self.client.session.journal, RunQuery(evaluation=None))
                if row.run == run
            ),
            "no such run",
        )


@pytest.fixture
def desk(clerk: Callable[..., Path], storage: str) -> Desk:
    root = clerk(ASK)
    settings = root / "remit.toml"
    settings.write_text(f"{settings.read_text()}{storage}")
    return Desk(root)


async def test_a_run_that_ended_since_the_backup_has_ended_and_has_the_same_chain(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.approved(run)
    late = await desk.waiting()  # of which the backup knows nothing
    head = desk.client.session.journal.head(run)
    await desk.put_back()
    assert desk.outcome(run) is None
    assert desk.outcome(late) == "no such run"
    await desk.work()
    assert desk.outcome(run) == "completed"
    assert desk.client.session.journal.head(run) == head
    assert desk.client.session.journal.verify(run) == ()
    assert len(effects(desk.root)) == 1
    await desk.approved(late)
    assert len(effects(desk.root)) == 2
    await desk.client.close()


@FOLDER
async def test_a_person_who_answers_again_before_anybody_notices_repeats_no_effect(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.approved(run)
    await desk.put_back()
    await desk.client.acting_as(LEA).approve(run)  # the chain now has another event where the copies have theirs
    await desk.work()
    assert desk.outcome(run) == "completed"
    assert desk.client.session.journal.verify(run) == ()
    assert len(effects(desk.root)) == 1
    await desk.client.close()


@FOLDER
async def test_an_effect_that_may_have_happened_since_the_backup_is_in_doubt_and_not_repeated(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.approved(run)
    names = desk.store.names(f"chains/{run}/")
    at = next(number for number, name in enumerate(names) if "." in name)
    for name in names[at + 1 :]:  # as if its process had died in the call
        desk.store.remove(name)
    await desk.put_back()
    await desk.client.acting_as(LEA).approve(run)
    await desk.work()
    assert len(effects(desk.root)) == 1
    (row,) = list_runs(desk.client.session.journal, RunQuery(in_doubt=True))
    assert [(doubt.action, row.run) for doubt in row.in_doubt] == [("ledger.pay", run)]
    await desk.client.close()


@FOLDER
async def test_a_run_whose_copy_was_changed_does_not_go_on(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.approved(run)
    name = desk.store.names(f"chains/{run}/")[-1]
    kept = desk.store.get(name)
    assert kept is not None
    for changed in (kept[:-9], b"", kept.replace(kept[20:30], b"0123456789")):
        desk.store.put(name, changed)
        await desk.put_back()
        with pytest.raises(RunEnded, match="of the record is damaged"):
            await desk.client.resume(run)
    assert len(effects(desk.root)) == 1
    desk.store.put(name, kept)
    await desk.work()
    assert desk.outcome(run) == "completed"
    assert len(effects(desk.root)) == 1
    await desk.client.close()


@FOLDER
async def test_a_damaged_copy_of_one_run_stops_no_other_run_and_the_command_names_it(
    desk: Desk, command: Command
) -> None:
    damaged, whole = await desk.waiting(), await desk.waiting()
    await desk.kept()
    await desk.approved(damaged)
    await desk.approved(whole)
    desk.store.put(desk.store.names(f"chains/{damaged}/")[-1], b"no copy")
    await desk.put_back()
    await desk.work()
    assert (desk.outcome(damaged), desk.outcome(whole)) == (None, "completed")
    assert len(effects(desk.root)) == 2
    await desk.client.close()
    done = command(desk.root, "journal", "restore", env=environment(desk.root))
    assert done.code == 2
    assert damaged[:8] in done.err
    assert whole[:8] not in done.err


@FOLDER
async def test_a_damaged_copy_of_a_hold_stops_every_run(desk: Desk) -> None:
    await desk.waiting()
    await desk.kept()
    await desk.client.hold("agent:clerk", reason="a drill")
    (name,) = desk.store.names("streams/")
    desk.store.put(name, b"no copy")
    with pytest.raises(RunEnded, match="of the record is damaged"):
        await desk.put_back()


@FOLDER
async def test_a_run_does_not_begin_an_irreversible_call_that_cannot_be_copied(desk: Desk, tmp_path: Path) -> None:
    run = await desk.waiting()
    await desk.client.acting_as(LEA).approve(run)
    copies = tmp_path / "shared" / "default" / "chains" / run
    copies.rename(tmp_path / "away")
    copies.write_text("no folder")
    (drove,) = await desk.work()
    assert "cannot be written" in drove.error
    assert effects(desk.root) == []
    copies.unlink()
    (tmp_path / "away").rename(copies)
    await desk.work()
    assert desk.outcome(run) == "completed"
    assert len(effects(desk.root)) == 1
    await desk.client.close()


@FOLDER
async def test_a_hold_that_was_set_since_the_backup_is_in_force_when_the_journal_is_opened(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.client.hold("agent:clerk", reason="a drill")
    await desk.put_back()
    assert set(desk.client.session.journal.holds()) == {"agent:clerk"}
    await desk.approved(run)
    assert effects(desk.root) == []
    await desk.client.close()


@FOLDER
async def test_nothing_is_copied_or_brought_back_of_a_run_that_was_erased(desk: Desk) -> None:
    run = await desk.waiting()
    await desk.approved(run)
    assert desk.store.names(f"chains/{run}/")
    session = desk.client.session
    found = erasable(session, RunQuery(evaluation=None, run=run))
    erase_runs(session, [row.run for row in found.finished], by=desk.client.principal)
    assert desk.store.names(f"chains/{run}/") == []
    await desk.work()
    assert not any(isinstance(recorded.event, RunFinished) for recorded in desk.client.session.journal.events(run))
    await desk.client.close()


@FOLDER
async def test_the_command_says_what_it_brought_back(desk: Desk, command: Command) -> None:
    run = await desk.waiting()
    await desk.kept()
    await desk.approved(run)
    await desk.put_back()
    await desk.client.close()
    env = environment(desk.root)
    done = command(desk.root, "journal", "restore", "--json", env=env)
    assert (done.code, done.json["runs"], done.json["ok"]) == (0, [run], True)
    again = command(desk.root, "journal", "restore", env=env)
    assert (again.code, again.out.strip()) == (0, "the journal has everything that was copied")
