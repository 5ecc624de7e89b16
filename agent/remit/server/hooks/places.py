"""Where the files of a coding agent's call lie: in its project, or elsewhere on the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

HOME: Final = "home"
MACHINE: Final = "machine"
LONGEST: Final = 4096  # characters of a name
_AREA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def real(path: str) -> str:
    """The path with its links followed, as far as it is on this machine."""
    return os.path.realpath(path)


@dataclass(frozen=True, kw_only=True)
class Places:
    """`paths` are relative to the project. `outside` names areas of the machine: `home`, or the first folder of the path (`etc`, `tmp`)."""

    paths: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Project:
    """The folder of the project, and the folder in which the coding agent works now.

    Links are followed on this machine, so that a name in the project which leads out of it counts as outside. What is not on this machine
    is read as it is written.
    """

    folder: str
    cwd: str
    home: str = field(default_factory=lambda: real(os.path.expanduser("~")))

    def places(self, names: Iterable[str]) -> Places:
        """The places of these names of files. One that names no file of the project is kept as it is, and refused by the broker."""
        paths: dict[str, None] = {}
        outside: dict[str, None] = {}
        for name in names:
            inside, area = self._place(name)
            (outside if inside is None else paths)[area if inside is None else inside] = None
        return Places(paths=tuple(paths), outside=tuple(outside))

    def is_there(self, name: str) -> bool:
        """True if there is a file of that name on this machine."""
        return os.path.lexists(os.path.join(self.cwd, name))

    def _place(self, name: str) -> tuple[str | None, str]:
        if not name or "\0" in name or len(name) > LONGEST:
            return "", ""
        if name.startswith("~"):
            return None, HOME
        found = real(os.path.join(self.cwd, name))
        folder = real(self.folder)
        if found == folder:
            return ".", ""
        if found.startswith(f"{folder.rstrip('/')}/"):
            return found[len(folder.rstrip("/")) + 1 :], ""
        if found == self.home or found.startswith(f"{self.home.rstrip('/')}/"):
            return None, HOME
        first = PurePosixPath(found).parts[1:2]
        return None, first[0] if first and _AREA.fullmatch(first[0]) else MACHINE
