"""Shared storage: a folder, and a bucket of a real S3-compatible server, behave alike."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core import RunEnded, UsageError, WorkspaceError
from remit.core.parsing import digest_bytes
from remit.storage import Store, open_store
from remit.tracing import ObjectStore
from remit.workspace.loader import load_workspace


@pytest.fixture
def table(storage: str) -> dict[str, str]:
    """The table [storage] of the test."""
    lines: dict[str, str] = tomllib.loads(storage)["storage"]
    return lines


@pytest.fixture
def store(table: dict[str, str]) -> Store:
    opened = open_store(table["url"], endpoint=table.get("endpoint", ""))
    assert opened is not None
    return opened


def test_what_is_put_under_a_name_is_there_until_it_is_removed(store: Store) -> None:
    assert store.get("a/one") is None
    assert store.names("a/") == []
    store.put("a/one", b"first")
    store.put("a/b/two", b"\x00" * 100_000)
    store.put("other", b"")
    store.put("a/one", b"second")
    assert store.get("a/one") == b"second"
    assert store.get("a/b/two") == b"\x00" * 100_000
    assert store.get("other") == b""
    assert list(store.names("a/")) == ["a/b/two", "a/one"]
    store.remove("a/one")
    store.remove("a/one")
    assert store.get("a/one") is None
    assert list(store.names("a/")) == ["a/b/two"]


def test_two_parts_of_one_storage_see_nothing_of_each_other(
    table: dict[str, str], store: Store, tmp_path: Path
) -> None:
    other = open_store(f"{table['url']}-other", endpoint=table.get("endpoint", ""))
    assert other is not None
    if "endpoint" not in table:
        Path(f"{table['url']}-other").mkdir()
    store.put("name", b"mine")
    assert other.get("name") is None
    assert other.names("") == []


def test_storage_that_does_not_exist_is_an_error_and_not_empty(table: dict[str, str]) -> None:
    missing = open_store(
        "s3://no-such-bucket" if "endpoint" in table else "/no/such/folder", endpoint=table.get("endpoint", "")
    )
    assert missing is not None
    uses: list[Callable[[], Any]] = [lambda: missing.get("name"), lambda: missing.names("a/")]
    for use in uses:
        with pytest.raises(RunEnded, match=r"the storage .* cannot be read") as refused:
            use()
        assert refused.value.code == "unrecorded"


def test_a_bucket_without_the_right_credentials_is_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    table = tomllib.loads(bucket)["storage"]
    refused = open_store(f"{table['url']}/refused", endpoint=table["endpoint"])
    assert refused is not None
    with pytest.raises(RunEnded, match="cannot be written"):
        refused.put("name", b"data")


def test_an_object_of_one_machine_is_read_on_another_and_a_changed_one_is_refused(store: Store, tmp_path: Path) -> None:
    here, there = (ObjectStore(tmp_path / name, shared=store, most=1 << 20) for name in ("here", "there"))
    digest = here.put(b"a definition")
    assert there.keeps(digest)
    assert there.get(digest) == b"a definition"
    store.put(f"objects/{digest.removeprefix('sha256:')}", b"another")
    assert there.get(digest) == b"a definition"  # its copy
    with pytest.raises(UsageError, match="was changed after it was stored"):
        ObjectStore(tmp_path / "third", shared=store, most=1 << 20).get(digest)
    with pytest.raises(UsageError, match="there is no object"):
        there.get(digest_bytes(b"never stored"))


def test_a_machine_keeps_only_so_many_bytes_of_copies_and_reads_the_rest_again(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    shared = open_store(str(tmp_path / "shared"))
    objects = ObjectStore(tmp_path / "copies", shared=shared, most=50_000)
    digests = [objects.put(bytes([number]) * 10_000) for number in range(20)]
    kept = sum(path.stat().st_size for path in (tmp_path / "copies").iterdir())
    assert 10_000 <= kept <= 60_000
    assert all(objects.get(digest) == bytes([number]) * 10_000 for number, digest in enumerate(digests))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('url = "ftp://host/x"', "a bucket or a folder"),
        ('url = "relative/folder"', "a bucket or a folder"),
        ('url = "s3://remit"\nendpoint = "http://elsewhere:9000"', "without TLS"),
        ('url = "s3://remit"\nendpoint = "https://key:secret@host"', "the address of an S3-compatible service"),
        ('url = "/mnt/remit"\nendpoint = "https://host"', "an endpoint and no bucket"),
    ],
)
def test_storage_that_cannot_be_meant_is_refused_when_the_workspace_is_loaded(
    session: Path, lines: str, why: str
) -> None:
    settings = session / "remit.toml"
    settings.write_text(f"{settings.read_text()}\n[storage]\n{lines}\n")
    with pytest.raises(WorkspaceError, match=why):
        load_workspace(session)
