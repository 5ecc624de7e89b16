"""Limits for a whole sandbox where cgroup v2 is delegated to this account: its memory with its files, its processes.

Resource limits bind one process each, and nothing else counts the inodes of a file system in memory. Where no group is
delegated they are all there is; that is said by `remit doctor`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")
NAMED: Final = "REMIT_CGROUP"  # a delegated folder, where it is not this process's own
_NEEDED: Final = {"memory", "pids"}


@cache
def delegated(mount: Path = MOUNT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The group below which groups with limits can be made; None where there is none."""
    named = os.environ.get(NAMED)
    if named is not None:
        return Path(named) if _usable(Path(named)) else None
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    group = mount / line.removeprefix("0::").lstrip("/")
    # A group that holds processes cannot hand controllers down: its parent may have a place for siblings.
    return next((one for one in (group, group.parent) if one.is_relative_to(mount) and _usable(one)), None)


def _usable(group: Path) -> bool:
    if not os.access(group / "cgroup.procs", os.W_OK) or not os.access(group, os.W_OK):
        return False
    try:
        return set((group / "cgroup.subtree_control").read_text().split()) >= _NEEDED
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


class Cgroup:
    """One sandbox's group; leaving it kills what is in it and removes it."""

    def __init__(self, parent: Path, name: str, *, memory: int, processes: int) -> None:
        self._path = parent / name
        self._path.mkdir()
        try:
            (self._path / "memory.max").write_text(str(memory))
            (self._path / "pids.max").write_text(str(processes))
            with suppress(OSError):  # a kernel without swap accounting
                (self._path / "memory.swap.max").write_text("0")
        except OSError:
            self._path.rmdir()
            raise

    def add(self, pid: int) -> None:
        """Put a process in, with all that it will start."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        with suppress(OSError):
            (self._path / "cgroup.kill").write_text("1")
        with suppress(OSError):  # its last processes are ending: an empty group costs nothing
            self._path.rmdir()
