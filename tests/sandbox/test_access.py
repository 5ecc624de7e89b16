"""The kernel enforces the kind of access: for each resource and each access, every other access is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from remit.sandbox import Output, Tier
from support.sandbox import ToolHarness

# Each case is one thing that code can do to the file `name` or next to it.
TRIES = """
import mmap, os, sqlite3
def connect(path: str) -> None:
    with sqlite3.connect(path, isolation_level=None) as store:
        store.execute("UPDATE kept SET text = 'changed'")
def act(name: str, how: str) -> str:
    folder = os.path.dirname(name)
    match how:
        case "read":
            return open(name).read()
        case "list":
            return ",".join(sorted(os.listdir(folder)))
        case "query":
            with sqlite3.connect(f"file:{os.path.abspath(name)}?mode=ro", uri=True) as store:
                return store.execute("SELECT text FROM kept").fetchone()[0]
        case "write":
            open(name, "w").write("changed")
        case "append":
            open(name, "a").write("changed")
        case "truncate":
            os.truncate(name, 0)
        case "create":
            open(f"{folder}/new", "w").write("new")
        case "create folder":
            os.mkdir(f"{folder}/new")
        case "remove":
            os.unlink(name)
        case "rename":
            os.rename(name, f"{folder}/moved")
        case "link":
            os.link(name, f"{folder}/linked")
        case "symlink":
            os.symlink(name, f"{folder}/linked")
        case "map":
            with open(name, "r+b") as file:
                mmap.mmap(file.fileno(), 0)[:7] = b"changed"
        case "mode":
            os.chmod(name, 0o600)
        case "times":
            os.utime(name, (1, 1))
        case "update":
            connect(name)
    return "done"
"""
LOOKS = ("read", "list")
CHANGES = (
    *("write", "append", "truncate", "create", "create folder", "remove", "rename", "link", "symlink", "map"),
    *("mode", "times"),
)


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ToolHarness:
    tier: Tier = request.param
    return ToolHarness(base=tmp_path, tier=tier)


def snapshot(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.is_file() and path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
    }


def refused(output: Output) -> bool:
    return output.code in ("sandbox_violation", "tool_crashed")


@pytest.mark.parametrize("trust", ["pinned", "none"])
@pytest.mark.parametrize("how", CHANGES)
async def test_a_store_that_is_read_cannot_be_changed_in_any_way(harness: ToolHarness, how: str, trust: str) -> None:
    """`read store:kept`, with code that changes it: the kernel refuses, and the store is unchanged."""
    harness.file("stores/kept/a.txt", "as it was")
    before = snapshot(harness.root / "stores")
    output = await harness.run(TRIES, {"name": "stores/kept/a.txt", "how": how}, read_stores=("kept",), trust=trust)
    assert refused(output), output
    assert snapshot(harness.root / "stores") == before


@pytest.mark.parametrize("trust", ["pinned", "none"])
async def test_a_store_that_is_read_is_read_and_listed(harness: ToolHarness, trust: str) -> None:
    """The twin."""
    harness.file("stores/kept/a.txt", "as it was")
    given = {"read_stores": ("kept",), "trust": trust}
    assert (await harness.run(TRIES, {"name": "stores/kept/a.txt", "how": "read"}, **given)).value == "as it was"
    assert (await harness.run(TRIES, {"name": "stores/kept/a.txt", "how": "list"}, **given)).value == "a.txt"


@pytest.mark.parametrize("how", [one for one in CHANGES if one not in ("symlink", "mode", "times")])
async def test_a_store_that_is_written_can_be_changed(harness: ToolHarness, how: str) -> None:
    """The twin. Links can never be made in a store, and modes and times can only be set in the tier with mounts."""
    harness.file("stores/kept/a.txt", "as it was")
    (harness.root / "stores" / "kept").chmod(0o777)
    (harness.root / "stores" / "kept" / "a.txt").chmod(0o666)
    before = snapshot(harness.root / "stores")
    output = await harness.run(TRIES, {"name": "stores/kept/a.txt", "how": how}, stores=("kept",))
    assert output.value == "done", output
    assert snapshot(harness.root / "stores") != before


async def test_a_database_in_a_store_that_is_read_is_queried_and_not_updated(harness: ToolHarness) -> None:
    """For example, a read action must not be able to close a ticket."""
    path = harness.file("stores/kept/kept.db", "")
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE kept (text)")
        store.execute("INSERT INTO kept VALUES ('as it was')")
    store.close()
    name = "stores/kept/kept.db"
    assert (await harness.run(TRIES, {"name": name, "how": "query"}, read_stores=("kept",))).value == "as it was"
    assert refused(await harness.run(TRIES, {"name": name, "how": "update"}, read_stores=("kept",)))
    with sqlite3.connect(path) as store:
        assert store.execute("SELECT text FROM kept").fetchall() == [("as it was",)]
    store.close()


@pytest.mark.parametrize("how", [*LOOKS, *CHANGES])
async def test_a_store_that_was_not_decided_is_neither_read_nor_changed(harness: ToolHarness, how: str) -> None:
    """Next to a store that is read and one that is written."""
    harness.file("stores/kept/a.txt", "secret")
    before = snapshot(harness.root / "stores" / "kept")
    output = await harness.run(
        TRIES, {"name": "stores/kept/a.txt", "how": how}, read_stores=("one",), stores=("other",)
    )  # fmt: skip
    assert refused(output), output
    assert snapshot(harness.root / "stores" / "kept") == before


@pytest.mark.parametrize("how", ["write", "append", "truncate", "map", "mode", "times"])
async def test_a_file_that_is_read_cannot_be_changed(harness: ToolHarness, how: str) -> None:
    harness.file("docs/a.txt", "as it was")
    before = snapshot(harness.root / "docs")
    assert refused(await harness.run(TRIES, {"name": "docs/a.txt", "how": how}, reads=("docs/a.txt",)))
    assert snapshot(harness.root / "docs") == before
    assert (await harness.run(TRIES, {"name": "docs/a.txt", "how": "read"}, reads=("docs/a.txt",))).value == "as it was"


async def test_two_calls_with_another_access_to_one_store_share_no_process(harness: ToolHarness) -> None:
    """Reading after writing, and writing after reading: each in a process with exactly its own access."""
    harness.file("stores/kept/a.txt", "as it was")
    (harness.root / "stores" / "kept").chmod(0o777)
    (harness.root / "stores" / "kept" / "a.txt").chmod(0o666)
    call: dict[str, Any] = {"name": "stores/kept/a.txt", "how": "append"}
    for _ in range(2):
        assert (await harness.run(TRIES, call, stores=("kept",))).value == "done"
        assert refused(await harness.run(TRIES, call, read_stores=("kept",)))


async def test_a_call_that_reads_and_writes_one_store_may_write_it(harness: ToolHarness) -> None:
    """Of two granted accesses, the wider one holds."""
    harness.file("stores/kept/a.txt", "as it was").chmod(0o666)
    (harness.root / "stores" / "kept").chmod(0o777)
    call = {"name": "stores/kept/a.txt", "how": "append"}
    assert (await harness.run(TRIES, call, stores=("kept",), read_stores=("kept",))).value == "done"
