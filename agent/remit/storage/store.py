"""What Remit needs of shared storage: a folder that the machines share, or a bucket."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from remit.core import RunEnded, UsageError
from remit.storage.files import write_atomically

LARGEST: Final = 1 << 30  # bytes of one object: a changed one must not fill the memory
FIX: Final = "restore access to it, or free space there, then resume the run: `remit run --resume`"


class Store(Protocol):
    """Bytes under names such as `objects/3f2a…`. Threads share one.

    Every method raises RunEnded (`unrecorded`) if the storage cannot be reached or used.
    """

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under that name, in place of what is there. It is safe once this returns."""
        ...

    def get(self, name: str) -> bytes | None:
        """What is kept under that name; None if nothing is. The caller checks that it is what was put there."""
        ...

    def names(self, prefix: str) -> Sequence[str]:
        """Every name that begins with `prefix`, which ends with "/", in order."""
        ...

    def remove(self, name: str) -> None:
        """Keep nothing under that name any more."""
        ...


def open_store(url: str, *, part: str = "", endpoint: str = "", region: str = "") -> Store | None:
    """The storage that a URL names: `/folder`, or `s3://bucket/prefix` of the service at `endpoint`, "" for AWS; None for no URL.

    `part` is the tenant whose names are kept apart from those of others, "" for all of it.

    Raises UsageError if the URL names neither, or a package is missing.
    """
    return None if not url else _opened(url, part, endpoint, region, os.getpid())


def forget_run(store: Store | None, run: str) -> None:
    """Keep nothing of a run in shared storage any more: neither its files nor the copies of its chain."""
    if store is not None:
        for name in (*store.names(f"runs/{run}/"), *store.names(f"chains/{run}/")):
            store.remove(name)


@cache
def _opened(url: str, part: str, endpoint: str, region: str, _process: int) -> Store:
    """One store for all sessions of a process: it has connections."""
    if url.startswith("/"):
        return FolderStore(Path(url), part)
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(
            f"{url!r} is no storage: write s3://BUCKET/PREFIX, or the path of a folder that the machines share"
        )
    if find_spec("obstore") is None:
        raise UsageError('storage in a bucket needs obstore: pip install "remit[s3]"')
    from remit.storage.bucket import Bucket  # noqa: PLC0415 - the library is optional

    return Bucket(parts.netloc, f"{parts.path}/{part}".strip("/"), endpoint=endpoint, region=region)


class FolderStore:
    """A folder that the machines share, as on NFS (folders 0700, files 0600)."""

    def __init__(self, share: Path, part: str) -> None:
        self._share = share
        self._folder = share / part

    def put(self, name: str, data: bytes) -> None:
        with self._failing("written"):
            self._check()
            path = self._folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, data)

    def get(self, name: str) -> bytes | None:
        with self._failing("read"):
            path = self._folder / name
            try:
                check_size(str(self._folder), name, path.stat().st_size)
                return path.read_bytes()
            except FileNotFoundError:
                self._check()
                return None

    def names(self, prefix: str) -> Sequence[str]:
        with self._failing("read"):
            self._check()
            below = (path for path in (self._folder / prefix).rglob("*") if path.is_file())
            return sorted(path.relative_to(self._folder).as_posix() for path in below if not path.name.startswith("."))

    def remove(self, name: str) -> None:
        with self._failing("written"):
            (self._folder / name).unlink(missing_ok=True)

    def _check(self) -> None:
        """Raise OSError if the share itself is missing: one that is not mounted must not look empty."""
        self._share.stat()

    @contextmanager
    def _failing(self, verb: str) -> Generator[None]:
        try:
            yield
        except OSError as failure:
            raise unusable(str(self._folder), verb, failure.strerror or str(failure)) from failure


def check_size(store: str, name: str, size: int) -> None:
    """Raise RunEnded (`unrecorded`) for an object that is larger than Remit writes any."""
    if size > LARGEST:
        raise unusable(store, "read", f"{name} has {size} bytes, and Remit writes at most {LARGEST}")


def unusable(name: str, verb: str, cause: str) -> RunEnded:
    """The error of storage that cannot be `read` or `written`."""
    return RunEnded("unrecorded", f"the storage {name} cannot be {verb}: {cause}", fix=FIX)
