"""The rules in force while they are edited: looked at again as calls are decided, swapped whole, never half.

A good edit is in force within a second. A bad one keeps the rules before it, and says so.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from remit.core import Problem, WorkspaceError
from remit.policy.agreement import check_agreement
from remit.policy.engine import Policy, load_policy
from remit.policy.folder import read_cases_text, read_folder, unread_files
from remit.policy.language.loader import FOLDER

LOOK_S: Final = 0.25  # between two looks at the files
SETTLED_S: Final = (
    0.25  # how long files must have stood still: half a file can be a good policy without its last denies
)

Signature: TypeAlias = tuple[tuple[object, ...], ...]


class PolicyWatcher:
    """The policy of one folder, as it is now. Any number of threads may ask.

    `problem` is why the files as they are now are not in force, None where they are; `report` is told once for each edit
    that cannot be loaded. `files` are those of the policy in force: at first what `opened` was loaded from.
    """

    def __init__(
        self,
        folder: Path,
        opened: Policy,
        files: Mapping[str, bytes],
        *,
        report: Callable[[WorkspaceError], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: WorkspaceError | None = None
        self.files: Mapping[str, bytes] = files
        self._folder = folder
        self._policy = opened
        self._report = report
        self._clock = clock
        self._looking = threading.Lock()
        self._next = -1.0
        self._loaded: Signature | None = None  # what the files were when they were last loaded, or could not be
        self._before: Signature | None = None  # what they were at the last look

    def current(self) -> Policy:
        """The rules in force. Looks at the files at most every `LOOK_S`, and parses them only where they have changed."""
        if self._clock() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next = self._clock() + LOOK_S
                self._looking.release()
        return self._policy

    def _look(self) -> None:
        signature = self._signature()
        before, self._before = self._before, signature
        if signature == self._loaded or not (signature == before or self._settled(signature)):
            return
        try:
            if unread := [*unread_files(self._folder)]:
                raise WorkspaceError(unread)
            files, cases = read_folder(self._folder), read_cases_text(self._folder)
            if self._signature() != signature:
                return  # written meanwhile: looked at again
            policy = self._policy if files == self.files else load_policy(files, self._policy.vocabulary)
            if policy.digest != self._policy.digest:
                check_agreement(policy, cases)
        except OSError as error:
            what = f"the rules cannot be read: {error.strerror or error}"
            self._refuse(WorkspaceError([Problem(file=FOLDER, what=what, fix="put the folder and its files back")]))
        except WorkspaceError as error:
            self._refuse(error)
        else:
            self.problem = None
            # The same rules in other words stay as they were loaded: what a run records names the files it began with.
            if policy.digest != self._policy.digest:
                self.files, self._policy = files, policy
        self._loaded = signature

    def _refuse(self, error: WorkspaceError) -> None:
        self.problem = error
        if self._report is not None:
            self._report(error)

    def _signature(self) -> Signature:
        """What changes when a file does: no parsing, and no trust in times that a tool may set."""
        found: list[tuple[object, ...]] = []
        try:
            for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
                if not entry.name.startswith(".") or entry.name.endswith(".csv"):
                    at = entry.stat()
                    if stat.S_ISREG(at.st_mode) or stat.S_ISDIR(at.st_mode):
                        found.append((entry.name, at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
        except OSError as error:
            return (("unreadable", error.errno),)
        return tuple(found)

    @staticmethod
    def _settled(signature: Signature) -> bool:
        changed = [entry[-1] for entry in signature if isinstance(entry[-1], int) and len(entry) > 2]
        return bool(changed) and 0 <= SETTLED_S * 1e9 <= time.time_ns() - max(changed)
