"""The object store: files named by their own digest, so that a run can name the policy bundle that it ran under."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from remit.core import RunEnded, UsageError
from remit.core.parsing import canonical_json, digest_bytes

_INDEX: Final = TypeAdapter(dict[str, str])
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


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


class ObjectStore(Objects):
    """Content-addressed files in one folder (mode 0700, files 0600). Each read is checked against the digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest. Raises RunEnded (`unrecorded`) if it cannot be stored."""
        digest = digest_bytes(data)
        try:
            if not self._touch(digest):
                if not self._folder.exists():
                    self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    if file_mode(self._folder.parent) == 0o660:
                        self._folder.chmod(0o2770)
                write_atomically(self._path(digest), data)
        except OSError as failure:
            message = f"the object store {self._folder.name} cannot be written: {failure.strerror}"
            raise RunEnded("unrecorded", message, fix="free disk space or restore write permission") from failure
        return digest

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
        return path.exists()

    def get(self, digest: str) -> bytes:
        """The object with that digest. Raises UsageError if it is missing or was changed."""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise UsageError(f"there is no object {digest!r}: it was removed, or is in another workspace") from None
        if digest_bytes(data) != digest:
            raise UsageError(f"the object {digest!r} was changed after it was stored: restore it from a backup")
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


def read_index(data: bytes) -> dict[str, str]:
    """The digests of a bundle's files by path. Raises UsageError if `data` is not such an index."""
    try:
        return _INDEX.validate_json(data, strict=True)
    except ValidationError as failure:
        raise UsageError(
            "the run names a policy bundle that Remit did not write: do not trust this run, and compare it with another copy"
        ) from failure


def file_mode(folder: Path) -> int:
    """The mode of a file in that folder: 0660 if a group shares it, which its set-group-ID bit says, else 0600."""
    return 0o660 if folder.stat().st_mode & stat.S_ISGID else 0o600


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also if the process is killed or the power fails. Its mode is `file_mode`."""
    making = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(making, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, file_mode(path.parent))
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        making.replace(path)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the folder itself to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
