"""Workers of two machines: each has a folder of its own, and they share the journal and the storage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from remit.client import AsyncRemit
from remit.core import Change, ResourceAccess, RunEnded, Succeeded, UsageError
from remit.core.events import AttemptEnded
from remit.core.parsing import digest_bytes
from remit.journal import StoredRecord, seal_run
from remit.runtime.upkeep import folders
from remit.runtime.upkeep.folders import KeptFolder
from remit.sandbox import SCRATCH_BYTES, read_beneath
from remit.storage import open_store
from remit.testing import read_run
from remit.tracing import ObjectStore, objects_of
from remit.workers import DroveRun, Worker
from remit.workspace import open_session
from support.events import call, started
from support.principals import principal
from support.runs import TASK, Command

LEAD = principal("dana")
COMMENT = {"key": "INC-2041", "text": "the pool was too small"}
TURNS = [
    {"calls": [{"tickets__comment": COMMENT}, {"files__write": {"path": "reports/a.md", "text": "the pool"}}]},
    {"calls": [{"tickets__close": {"key": "INC-2041", "reason": "the pool is larger now"}}]},
    {"calls": [{"files__read": {"path": "reports/a.md"}}, {"tickets__get": {"key": "INC-2041"}}]},
    {"say": "The report is written, and the ticket is closed."},
]


@pytest.fixture
def machines(session: Path, tmp_path: Path, storage: str, postgres_journal: str) -> tuple[Path, Path]:
    """Two machines with the same definition: `work/` and `traces/` are their own."""
    (session / "agent/triage/script.yaml").write_text(json.dumps({"turns": TURNS}))
    settings = session / "remit.toml"
    settings.write_text(f'journal = "{postgres_journal}"\n{settings.read_text()}{storage}')
    other = tmp_path / "other"
    shutil.copytree(session, other, symlinks=True)
    for name in ("work", "traces/objects"):
        shutil.rmtree(other / name, ignore_errors=True)
    return session, other


async def driven(client: AsyncRemit) -> list[DroveRun]:
    """What a worker of that machine drives until nothing is left that can go on."""
    reports: list[DroveRun] = []
    worker = Worker([(client.session, client.principal)], slots=2, report=reports.append)
    await worker.run(drain=0.0, until_idle=True)
    return reports


def contents(client: AsyncRemit, run: str) -> dict[str, bytes]:
    """The working folder of the run, without its stores' files that SQLite writes beside a database."""
    folder = client.root / "work" / "triage" / run
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


async def test_a_run_that_began_on_one_machine_goes_on_on_another_with_its_files(machines: tuple[Path, Path]) -> None:
    first, second = (AsyncRemit(open_session(root)) for root in machines)
    run = await first.enqueue("triage", TASK)
    assert [drove.word for drove in await driven(first)] == ["waiting"]
    before = contents(first, run)
    assert any(name.startswith("reports/") for name in before)
    assert contents(second, run) == {}
    # The definition of the first machine is gone: the run goes on with the one that it began with.
    (machines[1] / "agent/triage/prompt.md").write_text("Do something else.\n")
    await first.acting_as(LEAD).approve(run)
    (drove,) = await driven(second)
    assert (drove.run, drove.word, drove.error) == (run, "completed", "")
    after = contents(second, run)
    assert {name for name in before if name not in after} == set()
    read, ticket = (read_run(second.session, run).call(2, index).result for index in (0, 1))
    assert isinstance(read, Succeeded)
    assert "the pool" in str(read.value)
    assert isinstance(ticket, Succeeded)  # with the comment of the first machine
    assert COMMENT["text"] in str(ticket.value)
    assert "closed" in str(ticket.value)
    assert {name: data for name, data in after.items() if name.startswith("reports/")} == {
        name: data for name, data in before.items() if name.startswith("reports/")
    }
    assert second.session.journal.verify(run) == ()
    assert (second.session.traces / f"{run}.jsonl").exists()
    await first.close()
    await second.close()


ONE = pytest.mark.parametrize("storage", ["folder"], indirect=True)


@ONE
async def test_a_run_of_one_machine_is_read_exported_and_replayed_on_another_also_once_it_is_sealed(
    machines: tuple[Path, Path], command: Command, tmp_path: Path
) -> None:
    first = AsyncRemit(open_session(machines[0]))
    run = await first.enqueue("triage", TASK)
    await driven(first)
    await first.acting_as(LEAD).approve(run)
    await driven(first)
    assert seal_run(first.session.journal, run)
    await first.close()
    assert not (machines[1] / "traces" / f"{run}.jsonl").exists()
    exported = tmp_path / "exported.jsonl"
    for line in (("trace", "show", run), ("trace", "verify", run), ("trace", "export", run, "-o", str(exported))):
        done = command(machines[1], *line)
        assert (line[1], done.code) == (line[1], 0), done.err
    assert COMMENT["text"] in exported.read_text()
    assert command(machines[1], "trace", "verify", str(exported)).code == 0
    assert command(machines[1], "replay", run).code == 0


@ONE
async def test_a_file_that_was_changed_in_the_storage_is_not_given_to_a_run(machines: tuple[Path, Path]) -> None:
    first, second = (AsyncRemit(open_session(root)) for root in machines)
    run = await first.enqueue("triage", TASK)
    await driven(first)
    await first.acting_as(LEAD).approve(run)
    store = first.session.storage
    assert store is not None
    name, *_ = store.names(f"runs/{run}/files/")
    kept = store.get(name)
    store.put(name, b"another text")
    (drove,) = await driven(second)
    assert "was changed in the storage" in drove.error
    assert contents(second, run) == {}
    assert kept is not None
    store.put(name, kept)
    assert [drove.word for drove in await driven(second)] == ["completed"]
    await first.close()
    await second.close()


@ONE
async def test_a_definition_that_was_changed_in_the_storage_is_refused(machines: tuple[Path, Path]) -> None:
    first, second = (AsyncRemit(open_session(root)) for root in machines)
    run = await first.enqueue("triage", TASK)
    began = StoredRecord(first.session.journal, run).state.started
    store = first.session.storage
    assert store is not None
    assert began is not None
    objects = objects_of(second.session)
    assert objects.get_bundle(began.bundle)
    shutil.rmtree(second.session.traces / "objects")
    store.put(f"objects/{began.bundle.removeprefix('sha256:')}", b"{}")
    with pytest.raises(UsageError, match="was changed after it was stored"):
        objects.get_bundle(began.bundle)
    await first.close()
    await second.close()


def test_a_file_is_given_to_another_machine_only_as_it_was_stored(tmp_path: Path) -> None:
    """On the folder itself: `test_a_file_that_was_changed_in_the_storage_is_not_given_to_a_run` has a whole run."""
    for name in ("shared", "here", "there"):
        (tmp_path / name).mkdir()
    store, objects = open_store(str(tmp_path / "shared")), ObjectStore(tmp_path / "objects")
    assert store is not None
    here, there = (KeptFolder(store=store, run="r", folder=tmp_path / name) for name in ("here", "there"))
    (tmp_path / "here" / "seed.md").write_text("seed")
    began = started(files=here.begin(objects))
    (tmp_path / "here" / "a.md").write_text("written")
    change = Change(resource="file:a.md", digest=digest_bytes(b"written"), size=7)
    assert here.keep(call(0, 0), (change,)) == (change,)
    ended = AttemptEnded(step=0, index=0, attempt=1, code=None, changes=(change,))
    (name,) = store.names("runs/r/files/")
    store.put(name, b"another")
    with pytest.raises(UsageError, match="was changed in the storage"):
        there.bring_here((began, ended), objects)
    assert list((tmp_path / "there").iterdir()) == []
    store.put(name, b"written")
    assert there.bring_here((began, ended), objects) == 2
    assert {path.name: path.read_text() for path in (tmp_path / "there").iterdir()} == {
        "a.md": "written",
        "seed.md": "seed",
    }
    assert there.bring_here((began, ended), objects) == 0


WRITES = call(0, 0).model_copy(update={"touches": (ResourceAccess(access="write", resource="store:notes"),)})


@pytest.fixture
def kept(tmp_path: Path) -> KeptFolder:
    """A working folder with the store `notes` of two files."""
    notes = tmp_path / "work/stores/notes"
    notes.mkdir(parents=True)
    for name in ("a.db", "b.db"):
        (notes / name).write_text(name)
    (tmp_path / "shared").mkdir()
    store = open_store(str(tmp_path / "shared"))
    assert store is not None
    return KeptFolder(store=store, run="r", folder=tmp_path / "work")


def test_the_files_of_a_store_are_kept_after_a_call_that_writes_it(kept: KeptFolder) -> None:
    changes = kept.keep(WRITES, ())
    assert [change.resource for change in changes] == ["file:stores/notes/a.db", "file:stores/notes/b.db"]
    assert len(kept.store.names("runs/r/files/")) == 2


@pytest.mark.parametrize("name", ["a.db", "."])
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_store_that_cannot_be_read_ends_the_run_with_a_code_and_what_to_do(kept: KeptFolder, name: str) -> None:
    path = kept.folder / "stores/notes" / name
    path.chmod(0)
    with pytest.raises(RunEnded) as ended:
        kept.keep(WRITES, ())
    path.chmod(0o700)
    assert (ended.value.code, "Permission denied" in str(ended.value)) == ("unrecorded", True)


def test_a_file_of_a_store_that_is_removed_meanwhile_is_left_out(
    kept: KeptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(root: int, path: str) -> bytes | None:
        (kept.folder / "stores/notes/a.db").unlink(missing_ok=True)
        return read_beneath(root, path)

    monkeypatch.setattr(folders, "read_beneath", read)
    assert [change.resource for change in kept.keep(WRITES, ())] == ["file:stores/notes/b.db"]


def test_a_file_of_a_store_that_is_too_large_to_share_ends_the_run_with_its_name(kept: KeptFolder) -> None:
    path = kept.folder / "stores/notes/a.db"
    os.truncate(path, SCRATCH_BYTES + 1)
    with pytest.raises(RunEnded, match=r"stores/notes/a.db is larger than 64 MiB"):
        kept.keep(WRITES, ())
    os.truncate(path, SCRATCH_BYTES)
    assert len(kept.keep(WRITES, ())) == 2
