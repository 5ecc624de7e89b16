"""Scratch folders: where each call of a warm tool writes, so that no other call can find it.

Standard library only. The broker chooses the name, 128 random bits. The folder above them can be entered, and neither
listed nor changed, so a process that does not know a name cannot reach that folder.
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

_ENTERED_ONLY = 0o311  # the owner may write, but the mount that the tool sees is read-only


class MountedScratchFolders:
    """Scratch folders of the full tier. Each is a tmpfs, so one call cannot fill up or measure the space of another."""

    def __init__(self, folder: str, *, size: int, files: int, floating: str) -> None:
        self._folder, self._size, self._files, self._floating = folder, size, files, floating
        self._beside = kernel.open_detached_clone(folder)
        os.fchmod(self._beside, _ENTERED_ONLY)
        kernel.mount_read_only(folder)

    def open(self, name: str, root: list[Any]) -> None:
        """Make the folder `name`.

        With one working folder per call, mount it there: `root` is its path beneath `floating`, device and inode.

        Raises:
            OSError: it cannot be mounted; ESTALE: the working folder was replaced by another one.
        """
        own = f"{self._folder}/{name}"
        os.mkdir(name, 0o700, dir_fd=self._beside)
        kernel.mount_tmpfs(own, size=self._size, files=self._files)
        if not self._floating:
            return
        path, *expected = root
        os.mkdir(f"{own}/work", 0o700)
        folder = self._folder_of(path)
        try:
            # The broker opened the files of the call in this very folder, so one that took its name meanwhile is
            # refused.
            status = os.fstat(folder)
            if [status.st_dev, status.st_ino] != expected:
                raise OSError(errno.ESTALE, "the working folder was replaced by another one")
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
        """Unmount and remove the folder; 0, because no process is started for it."""
        with suppress(OSError):
            kernel.unmount(f"{self._folder}/{name}")
            os.rmdir(name, dir_fd=self._beside)
        return 0


class PlainScratchFolders:
    """Scratch folders of the landlock tier, which has no mounts. The broker made them all before the tool was started."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def open(self, name: str, root: list[Any]) -> None:
        """Nothing to do: the folder exists."""

    def close(self, name: str) -> int:
        """Remove what the call left; return the process that does so, 0 if nothing was left.

        A call may leave millions of files, and removing them must not delay the next call.
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
