"""Files that are written whole or not at all, also if the process is killed or the power fails."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


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
