"""Limits for a whole sandbox, if cgroup v2 is delegated to this account: its memory including tmpfs, its processes.

Resource limits (`setrlimit`) apply to each process alone, and only a control group counts the inodes of a tmpfs. If no
group is delegated, the resource limits are the only ones; `remit doctor` reports that.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")
VARIABLE: Final = "REMIT_CGROUP"  # names a delegated folder, if it is not the group of this process
_NEEDED: Final = {"memory", "pids"}


@cache
def delegated(mount: Path = MOUNT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The group in which groups with limits can be made; None if there is none."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if _usable(Path(named)) else None
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    group = mount / line.removeprefix("0::").lstrip("/")
    # The kernel lets no group have both processes and children with controllers, so the parent may be the usable one.
    return next((item for item in (group, group.parent) if item.is_relative_to(mount) and _usable(item)), None)


def _usable(group: Path) -> bool:
    if not os.access(group / "cgroup.procs", os.W_OK) or not os.access(group, os.W_OK):
        return False
    try:
        return set((group / "cgroup.subtree_control").read_text().split()) >= _NEEDED
    except OSError:
        return False


def cgroup_descendants(pid: int) -> list[int]:
    """The process, and all that it and its children started."""
    pids = [pid]
    for parent in pids:  # the list grows while it is walked
        with suppress(OSError):
            pids += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return pids


class Cgroup:
    """The control group of one sandbox. `close` kills its processes and removes it."""

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
        """Move a process into the group; what it starts later is in it too."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        with suppress(OSError):
            (self._path / "cgroup.kill").write_text("1")
        with suppress(OSError):  # its last processes are still ending: an empty group costs nothing
            self._path.rmdir()
