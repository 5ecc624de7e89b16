"""Shared storage in a folder that the machines share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from remit.storage.bounds import check_size, unusable
from remit.storage.files import write_atomically


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
