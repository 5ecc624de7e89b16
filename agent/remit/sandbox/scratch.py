"""Puts written files in place: copies each next to its destination, then renames it, beneath the working folder."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress

from remit.core import Change, Refusal
from remit.sandbox.guest import kernel
from remit.sandbox.profile import SCRATCH_BYTES


class Scratch:
    """The files that a successful call wrote, held by descriptor until `commit` or `discard`.

    The descriptors came from the sandbox: if one is not a regular file of limited size, nothing is committed.
    """

    def __init__(self, root: int, files: Mapping[str, int], removed: tuple[str, ...]) -> None:
        self._root = root
        self._files = dict(files)
        self._removed = removed

    def commit(self) -> tuple[Change, ...]:
        """Put every written file in place. All are copied next to their destinations first; then each is renamed.

        Raises:
            Refusal: nothing was changed. With `outcome_unknown`, some files are in place and others are not.
        """
        staged: list[tuple[int, str, str, Change]] = []
        try:
            for name, descriptor in self._files.items():
                staged.append(self._stage(name, descriptor))
            return self._place(staged)
        except OSError as failure:
            raise _not_placed(failure) from failure
        finally:
            for folder, temporary, _, _ in staged:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)  # it is gone if it was renamed
                os.close(folder)
            self.discard()

    def discard(self) -> None:
        """Drop the written files. It may be called again."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}
        self._removed = ()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __del__(self) -> None:
        self.discard()

    def _stage(self, name: str, source: int) -> tuple[int, str, str, Change]:
        parent, _, last = name.rpartition("/")
        # Opened once: the copy and the rename use this very folder, even if its name is swapped for a symlink
        # meanwhile.
        folder = make_folders(self._root, parent or ".")
        temporary = (
            f".remit-{secrets.token_hex(8)}"  # random, and opened with O_EXCL: no link can be planted there before
        )
        target = -1
        try:
            before = _lstat(last, folder)
            if before is not None and not stat.S_ISREG(before.st_mode):
                raise Refusal("sandbox_violation", f"{name!r} is not a regular file, so it is not replaced")
            target = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder
            )
            size, digest = _copy(source, target)
            if before is not None:
                os.fchmod(target, stat.S_IMODE(before.st_mode) & 0o777)
            os.fsync(target)
        except BaseException:
            if target >= 0:
                os.unlink(temporary, dir_fd=folder)
            os.close(folder)
            raise
        finally:
            if target >= 0:
                os.close(target)
        return folder, temporary, last, Change(resource=f"file:{name}", digest=f"sha256:{digest}", size=size)

    def _place(self, staged: list[tuple[int, str, str, Change]]) -> tuple[Change, ...]:
        changes: list[Change] = []
        try:
            for folder, temporary, last, change in staged:
                os.rename(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
                changes.append(change)
                _sync(folder)
            for name in self._removed:
                self._remove(name)
                changes.append(Change(resource=f"file:{name}", digest="", size=0))
        except OSError as failure:
            if not changes:
                raise
            done = [change.resource for change in changes]
            raise Refusal(
                "outcome_unknown", f"only some of the files were saved: {failure.strerror}", details={"in_place": done}
            ) from failure
        return tuple(changes)

    def _remove(self, name: str) -> None:
        parent, _, last = name.rpartition("/")
        folder = kernel.open_beneath(self._root, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.unlink(last, dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)


def make_folders(root: int, path: str, mode: int = 0o777) -> int:
    """Open the folder `path` beneath `root`, and make the folders that are missing. The caller closes the descriptor."""
    made = "."
    for part in path.split("/"):
        made = part if made == "." else f"{made}/{part}"
        try:
            os.close(kernel.open_beneath(root, made, os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            parent = kernel.open_beneath(root, made.rpartition("/")[0] or ".", os.O_PATH | os.O_DIRECTORY)
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, mode, dir_fd=parent)
            finally:
                os.close(parent)
    return kernel.open_beneath(root, path, os.O_PATH | os.O_DIRECTORY)


def read_beneath(root: int, path: str) -> bytes | None:
    """The content of a regular file beneath the folder `root`; None if there is none of at most `SCRATCH_BYTES`.

    Raises OSError: ELOOP if a symbolic link is in its path, or another error of the kernel.
    """
    try:
        descriptor = kernel.open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size <= SCRATCH_BYTES else None


def _not_placed(failure: OSError) -> Refusal:
    what = f"the written files could not be saved: {failure.strerror}"
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Refusal("resource_exhausted", what)
    if failure.errno in (errno.ELOOP, errno.EXDEV):
        named = failure.filename or "one of them"
        return Refusal(
            "sandbox_violation",
            f"the written files could not be saved: the path of {named!r} contains a symlink, or leads out of the working folder",
            next_step="write to a path without symlinks",
        )
    return Refusal("tool_crashed", what)


def _lstat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _copy(source: int, target: int) -> tuple[int, str]:
    """Copy at most `SCRATCH_BYTES`; return the size and the SHA-256 of the copy."""
    if not stat.S_ISREG(os.fstat(source).st_mode):
        raise Refusal("invalid_output", "the tool returned something that is not a regular file")
    digest = hashlib.sha256()
    size = 0
    while chunk := os.pread(source, 1 << 20, size):
        digest.update(chunk)
        size += len(chunk)
        if size > SCRATCH_BYTES:
            raise Refusal("resource_exhausted", f"a written file is larger than {SCRATCH_BYTES} bytes")
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
    return size, digest.hexdigest()


def _sync(folder: int) -> None:
    """Make a rename durable. The folder is opened again, because an O_PATH descriptor cannot be synced."""
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(again)
    finally:
        os.close(again)
