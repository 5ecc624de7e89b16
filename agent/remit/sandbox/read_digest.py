"""The digest of everything in the working folder that one call can read: while it is the same, so is what the call reads."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from remit.core import Json
from remit.core.parsing import digest
from remit.sandbox.file_grants import expand_beneath, folder_of, is_set, open_root
from remit.sandbox.guest import kernel
from remit.sandbox.profile import Profile

MOST_BYTES: Final = 16 * 1024**2  # more takes longer to read than most calls take
_PIECE: Final = 1024**2


def digest_of_reads(profile: Profile) -> str:
    """Covers the content, mode and time of each file, and the names in each folder; "" if there is more than `MOST_BYTES`.

    Raises:
        Refusal: a set of the call holds too many files.
        OSError: a file cannot be read.
    """
    root = open_root(Path(os.path.realpath(profile.root)))
    try:
        return _Reading(root).of((*profile.reads, *(f"stores/{store}/**" for store in profile.only_read_stores)))
    finally:
        os.close(root)


class _Reading:
    """What was read so far, with the number of bytes that may still be read."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._left = MOST_BYTES

    def of(self, names: tuple[str, ...]) -> str:
        found: dict[str, Json] = {}
        for name in names:
            if is_set(name):
                expansion = expand_beneath(self._root, folder_of(name), lambda _: True)
                found |= {folder: self._entries(folder) for folder in expansion.folders}
                found |= {file: self._file(file) for file in expansion.files}
            else:
                found[name] = self._file(name)
            if self._left < 0:
                return ""
        return digest(found)

    def _file(self, name: str) -> Json:
        """One file; of a folder, its entries. None: there is nothing, as for the call."""
        # O_PATH opens without effect, also a fifo or a device.
        try:
            descriptor = kernel.open_beneath(self._root, name, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                return self._entries(name)
            if not stat.S_ISREG(status.st_mode) or self._left < 0:
                return None
            return [_shown(status), self._content(descriptor)]
        finally:
            os.close(descriptor)

    def _content(self, descriptor: int) -> str:
        content = hashlib.sha256()
        with open(f"/proc/self/fd/{descriptor}", "rb", buffering=0) as file:
            while self._left >= 0 and (piece := file.read(_PIECE)):
                self._left -= len(piece)
                content.update(piece)
        return content.hexdigest()

    def _entries(self, folder: str) -> Json:
        """The names in a folder, which the call can list, with what a listing shows of them."""
        try:
            descriptor = kernel.open_beneath(self._root, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            with os.scandir(descriptor) as entries:
                return sorted(
                    [os.fsencode(entry.name).hex(), _shown(entry.stat(follow_symlinks=False))] for entry in entries
                )
        finally:
            os.close(descriptor)


def _shown(status: os.stat_result) -> str:
    """What a call can see of a file without reading it."""
    return f"{status.st_mode:o} {status.st_size} {status.st_mtime_ns}"
