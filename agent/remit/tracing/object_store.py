"""The object store: files named by their own digest, so that a run can name the policy bundle that it ran under.

With shared storage (`[storage]` in remit.toml), the folder is a bounded copy of a part of it: what one machine stored, another one reads.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from remit.core import RunEnded, UsageError
from remit.core.parsing import canonical_json, digest_bytes
from remit.storage import Store, file_mode, write_atomically

if TYPE_CHECKING:  # who only reads a trace file does not load the workspace
    from remit.workspace import WorkspaceSession

_INDEX: Final = TypeAdapter(dict[str, str])
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_AT_ONCE: Final = 8  # requests to shared storage at one time
_FULL: Final = 0.8  # of the bound, after the local copies were reduced


class Objects(ABC):
    """Contents by their digest."""

    @abstractmethod
    def put(self, data: bytes) -> str:
        """Store `data` and return its digest."""

    @abstractmethod
    def get(self, digest: str) -> bytes:
        """The object with that digest. Raises UsageError if it is missing or was changed."""

    def put_bundle(self, files: Mapping[str, bytes]) -> str:
        """Store every file and the index of their digests by path; returns the digest of that index: the bundle's digest."""
        return self.put(canonical_json({path: self.put(data) for path, data in files.items()}))

    def get_bundle(self, digest: str) -> dict[str, bytes]:
        """The files of a bundle by path. Raises UsageError if one of them is missing."""
        return {path: self.get(named) for path, named in read_index(self.get(digest)).items()}


class MemoryObjects(Objects):
    """Objects in memory, for a run of which nothing is stored."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = digest_bytes(data)
        self._objects[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        if digest not in self._objects:
            raise UsageError(f"there is no object {digest!r}: it was not stored in this run")
        return self._objects[digest]


def objects_of(session: WorkspaceSession) -> ObjectStore:
    """The objects of the workspace; of all machines, if remit.toml names shared storage."""
    cache = session.workspace.settings.storage.cache
    return ObjectStore(session.traces / "objects", shared=session.storage, most=cache)


class ObjectStore(Objects):
    """Content-addressed files in one folder (mode 0700, files 0600). Each read is checked against the digest.

    With `shared` storage, an object is stored there first, and the folder keeps copies of at most about `most` bytes, the ones used last.
    """

    def __init__(self, folder: Path, *, shared: Store | None = None, most: int = 0) -> None:
        self._folder = folder
        self._shared = shared
        self._most = most
        self._unmeasured = most  # bytes that were written since the copies were measured; before the first time, all

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest. Raises RunEnded (`unrecorded`) if it cannot be stored."""
        digest = digest_bytes(data)
        try:
            if not self._touch(digest):
                if self._shared is not None:
                    # INVARIANT: first. What the folder has is in shared storage too.
                    self._shared.put(_name(digest), data)
                self._keep(digest, data)
        except OSError as failure:
            message = f"the object store {self._folder.name} cannot be written: {failure.strerror}"
            raise RunEnded("unrecorded", message, fix="free disk space or restore write permission") from failure
        return digest

    def put_bundle(self, files: Mapping[str, bytes]) -> str:
        if self._shared is None:
            return super().put_bundle(files)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = pool.map(self.put, files.values())
            return self.put(canonical_json(dict(zip(files, digests, strict=True))))

    def _keep(self, digest: str, data: bytes) -> None:
        """Write an object into the folder, which loses the copies that were not used for the longest time, if they become too many."""
        if not self._folder.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if file_mode(self._folder.parent) == 0o660:
                self._folder.chmod(0o2770)
        write_atomically(self._path(digest), data)
        self._unmeasured += len(data)
        if self._shared is not None and self._unmeasured * 10 > self._most:
            self._unmeasured = 0
            self._reduce()

    def _reduce(self) -> None:
        found = sorted(
            ((status.st_mtime_ns, status.st_size, path) for path, status in self._copies()), key=lambda item: item[0]
        )
        total = sum(size for _, size, _ in found)
        for _, size, path in found if total > self._most else ():
            path.unlink(missing_ok=True)
            total -= size
            if total <= self._most * _FULL:
                return

    def _copies(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process has removed it
                yield path, path.stat()

    def _touch(self, digest: str) -> bool:
        """False if the object is not stored. In use again, it is not deleted by `remove_unused` in another process."""
        try:
            os.utime(f"{self._folder}/{digest.removeprefix('sha256:')}")  # each run asks for all of its files
        except FileNotFoundError:
            return False
        return True

    def keeps(self, digest: str) -> bool:
        """True if the object is stored. It counts as stored now, so that `remove_unused` does not delete it."""
        path = self._path(digest)
        with suppress(FileNotFoundError, PermissionError):
            os.utime(path)
        return path.exists() or (self._shared is not None and self._fetched(digest) is not None)

    def get(self, digest: str) -> bytes:
        """The object with that digest. Raises UsageError if it is missing or was changed."""
        try:
            data: bytes | None = self._path(digest).read_bytes()
        except FileNotFoundError:
            data = self._fetched(digest)
        if data is None:
            raise UsageError(f"there is no object {digest!r}: it was removed, or is in another workspace")
        if digest_bytes(data) != digest:
            raise UsageError(f"the object {digest!r} was changed after it was stored: restore it from a backup")
        return data

    def _fetched(self, digest: str) -> bytes | None:
        """The object from shared storage, of which the folder keeps a copy if it is intact; None if it is not there."""
        data = None if self._shared is None else self._shared.get(_name(digest))
        if data is not None and digest_bytes(data) == digest:
            with suppress(OSError):  # a copy only
                self._keep(digest, data)
        return data

    def remove_unused(self, used: set[str], *, older_s: float) -> list[tuple[str, int]]:
        """Remove every object that is not `used` and was not stored in the last `older_s` seconds.

        Returns the digest and the size in bytes of each removed object.
        """
        removed: list[tuple[str, int]] = []
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            status = path.stat()
            if f"sha256:{path.name}" not in used and status.st_mtime < time.time() - older_s:
                path.unlink(missing_ok=True)
                removed.append((f"sha256:{path.name}", status.st_size))
        return removed

    def _path(self, digest: str) -> Path:
        matched = _DIGEST.fullmatch(digest)
        if matched is None:
            raise UsageError(f"{digest!r} is not the digest of an object")
        return self._folder / matched[1]


def _name(digest: str) -> str:
    """The name of an object in shared storage."""
    return f"objects/{digest.removeprefix('sha256:')}"


def read_index(data: bytes) -> dict[str, str]:
    """The digests of a bundle's files by path. Raises UsageError if `data` is not such an index."""
    try:
        return _INDEX.validate_json(data, strict=True)
    except ValidationError as failure:
        raise UsageError(
            "the run names a policy bundle that Remit did not write: do not trust this run, and compare it with another copy"
        ) from failure
