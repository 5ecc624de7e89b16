"""Objects: files by their own digest, so that a run can name the rules it stood on."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from remit.core import RunEnded, UsageError
from remit.core.parsing import canonical_json, digest_bytes

_INDEX: Final = TypeAdapter(dict[str, str])
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


class ObjectStore:
    """Content-addressed files in one folder (mode 0700, files 0600); what is read is checked against its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep `data` and return its digest. Raises RunEnded (`unrecorded`) where it cannot be kept."""
        digest = digest_bytes(data)
        path = self._path(digest)
        try:
            if path.exists():
                os.utime(path)  # it is in use again, whatever is being removed at this moment
            else:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomically(path, data)
        except OSError as failure:
            message = f"the object store {self._folder.name} cannot be written: {failure.strerror}"
            raise RunEnded("unrecorded", message, fix="make room or give back write access to it") from failure
        return digest

    def get(self, digest: str) -> bytes:
        """The object of that digest. Raises UsageError where it is not there, or is no longer what it was."""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise UsageError(f"there is no object {digest!r}: it was removed, or never brought here") from None
        if digest_bytes(data) != digest:
            raise UsageError(f"the object {digest!r} is not what it was when it was kept: restore it")
        return data

    def put_bundle(self, files: Mapping[str, bytes]) -> str:
        """Keep every file, and the index that names them by path; the digest of that index is the rulebook's."""
        return self.put(canonical_json({path: self.put(data) for path, data in files.items()}))

    def get_bundle(self, digest: str) -> dict[str, bytes]:
        """The files of a rulebook by path. Raises UsageError where one of them is not there."""
        return {path: self.get(named) for path, named in read_index(self.get(digest)).items()}

    def remove_unused(self, used: set[str], *, older_s: float) -> list[tuple[str, int]]:
        """Remove every object that is not `used` and was not put in the last `older_s` seconds; digest and size of each."""
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
    """The digests of a rulebook's files by path. Raises UsageError where `data` is no such index."""
    try:
        return _INDEX.validate_json(data, strict=True)
    except ValidationError as failure:
        raise UsageError("the rulebook is not an index of files: the object was not made by Remit") from failure


def write_atomically(path: Path, data: bytes) -> None:
    """Write a private file so that it is there whole or not at all, whoever looks and whatever is cut off."""
    making = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(making, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
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
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
