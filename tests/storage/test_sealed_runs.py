"""With shared storage, the bodies of sealed runs lie there: every machine reads them, checked, and what is erased is gone."""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.core import RunEnded
from remit.journal import Journal, StoredRecord, delete_run, erase, open_journal, seal_run
from remit.storage import Store, open_store
from support.events import RUN, a_whole_run
from support.journals import query

TEXT = "restart checkout"  # of the task of the run


@pytest.fixture
def store(storage: str) -> Store:
    table = tomllib.loads(storage)["storage"]
    opened = open_store(table["url"], part="sealing", endpoint=table.get("endpoint", ""))
    assert opened is not None
    return opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(place: Path, store: Store) -> Iterator[Journal]:
    """A journal with one finished run, whose text is in its events."""
    with open_journal(place, copies=store) as opened:
        record = StoredRecord(opened, RUN)
        for event in a_whole_run():
            record.append(event)
        yield opened


def texts(store: Store) -> str:
    """What shared storage has of sealed runs."""
    objects = [store.get(name) for name in store.names("sealed/")]
    return "".join(zlib.decompress(data).decode() for data in objects if data is not None)


def test_every_machine_reads_a_sealed_run_and_the_database_has_no_text_of_it(
    journal: Journal, place: Path, store: Store
) -> None:
    before = journal.chain(RUN)
    assert seal_run(journal, RUN)
    ((kept,),) = query(place, "SELECT bodies FROM sealed")
    assert kept.startswith(b"sha256:")
    assert TEXT not in str(query(place, "SELECT * FROM event")) + str(query(place, "SELECT * FROM payload"))
    assert TEXT in texts(store)
    with open_journal(place, copies=store) as other:
        assert other.chain(RUN) == before
        assert other.verify(RUN) == ()
    assert journal.events(RUN) == [link.recorded() for link in before.links]


ONE = pytest.mark.parametrize("storage", ["folder"], indirect=True)


@ONE
def test_bodies_that_were_changed_in_the_storage_are_not_read(journal: Journal, place: Path, store: Store) -> None:
    seal_run(journal, RUN)
    (name,) = store.names("sealed/")
    whole = store.get(name)
    assert whole is not None
    other_text = zlib.compress(zlib.decompress(whole).replace(TEXT.encode(), b"restart billing!"))
    for data in (other_text, whole[:-1], b""):
        store.put(name, data)
        with (
            open_journal(place, copies=store) as other,
            pytest.raises(RunEnded, match="not what was stored") as refused,
        ):
            other.events(RUN)
        assert refused.value.code == "unrecorded"
    store.put(name, whole)
    with open_journal(place, copies=store) as other:
        assert len(other.events(RUN)) == len(journal.events(RUN))


@ONE
def test_bodies_that_are_missing_are_an_error_and_the_run_can_still_be_erased(
    journal: Journal, place: Path, store: Store
) -> None:
    seal_run(journal, RUN)
    for name in store.names("sealed/"):
        store.remove(name)
    with open_journal(place, copies=store) as other:
        with pytest.raises(RunEnded, match="missing in the storage"):
            other.events(RUN)
        erase(other, RUN)
        assert {fault.kind for fault in other.verify(RUN)} == {"erased"}


@ONE
def test_a_journal_that_is_opened_without_the_storage_says_where_the_bodies_are(journal: Journal, place: Path) -> None:
    seal_run(journal, RUN)
    with open_journal(place) as other, pytest.raises(RunEnded, match=r"in shared storage\n.*\[storage\] of remit.toml"):
        other.events(RUN)


def test_what_is_erased_of_a_sealed_run_is_in_the_storage_no_more(journal: Journal, store: Store) -> None:
    seal_run(journal, RUN)
    kept = len(journal.events(RUN))
    erase(journal, RUN, 0)
    assert TEXT not in texts(store)
    assert len(store.names("sealed/")) == 1
    assert [fault.kind for fault in journal.verify(RUN)] == ["erased"]
    assert sum(item.event is not None for item in journal.events(RUN)) == kept - 1


@ONE
def test_a_deleted_run_leaves_nothing_in_the_storage(journal: Journal, store: Store) -> None:
    assert journal.copies is not None
    journal.copies.add(journal, RUN)
    seal_run(journal, RUN)
    assert store.names("sealed/")
    assert store.names("chains/")
    delete_run(journal, RUN)
    assert store.names("") == []
