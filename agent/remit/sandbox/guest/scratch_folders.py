"""Where the calls of a warm tool write: a folder of its own for each, which no other call finds.

Standard library only. Its name is the broker's: 128 random bits. The folder that all of them lie in can be entered, and neither
listed nor changed, so who was not told a name has no way to it.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel
else:
    import kernel

_ENTERED_ONLY = 0o311  # where it is written, its mount is read-only all the same


class MountedScratchFolders:
    """Each is a file system in memory, so that one call can neither fill nor measure what another has."""

    def __init__(self, folder: str, *, size: int, files: int, floating: str) -> None:
        self._folder, self._size, self._files, self._floating = folder, size, files, floating
        self._beside = kernel.open_detached_clone(folder)
        os.fchmod(self._beside, _ENTERED_ONLY)
        kernel.mount_read_only(folder)

    def open(self, name: str, root: list[Any]) -> None:
        """`root` is the call's working folder, where each has its own: its path beneath `floating`, its device and inode."""
        own = f"{self._folder}/{name}"
        os.mkdir(name, 0o700, dir_fd=self._beside)
        kernel.mount_tmpfs(own, size=self._size, files=self._files)
        if not self._floating:
            return
        path, *expected = root
        os.mkdir(f"{own}/work", 0o700)
        folder = self._folder_of(path)
        try:
            status = os.fstat(folder)
            if [status.st_dev, status.st_ino] != expected:
                raise OSError(errno.ESTALE, "another folder took its place")
            kernel.bind_mount(folder, f"{own}/work")
        finally:
            os.close(folder)

    def _folder_of(self, path: str) -> int:
        top = os.open(self._floating, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return kernel.open_beneath(top, path, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(top)

    def close(self, name: str) -> int:
        with suppress(OSError):
            kernel.unmount(f"{self._folder}/{name}")
            os.rmdir(name, dir_fd=self._beside)
        return 0


class PlainScratchFolders:
    """Where there are no mounts: the broker made them all, and closed the folder that they lie in, before the tool came."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def open(self, name: str, root: list[Any]) -> None:
        """It is there."""

    def close(self, name: str) -> int:
        """Remove what the call left; the number of the process that does so, 0 where nothing is left.

        It may be millions of files, and must not hold up the next call.
        """
        folder = f"{self._folder}/{name}"
        with suppress(OSError):
            if not os.listdir(folder):
                return 0
        cleaner = os.fork()
        if cleaner == 0:
            kernel.close_all_from(0)
            for part in ("scratch", "tmp"):
                shutil.rmtree(f"{folder}/{part}", ignore_errors=True)
            os._exit(0)
        return cleaner
