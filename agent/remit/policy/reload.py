"""The rules in force while people edit them: checked as calls are decided, and replaced as a whole.

A valid edit is in force within a second. An invalid one changes nothing and is reported.
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
from remit.policy.folder import read_case_tables, read_folder, team_folders, unread_files
from remit.policy.language.loader import FOLDER

LOOK_S: Final = 0.25  # between two checks of the files
# Files must be unchanged for this long: the first half of a file can be a valid policy without its last denies.
SETTLED_S: Final = 0.25

Signature: TypeAlias = tuple[tuple[object, ...], ...]


class PolicyWatcher:
    """The current policy of one folder. Thread-safe.

    `files` are those of the policy in force: at first those from which `opened` was loaded. `problem` says why the present
    files are not in force; None if they are. `report` is called once for each edit that cannot be loaded.
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
        self._loaded: Signature | None = None  # the files at the last load, successful or not
        self._before: Signature | None = None  # the files at the last check

    def current(self) -> Policy:
        """The rules in force. Checks the files at most every `LOOK_S`, and parses them only if they changed."""
        if self._clock() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._check_files()
            finally:
                self._next = self._clock() + LOOK_S
                self._looking.release()
        return self._policy

    def _check_files(self) -> None:
        signature = self._signature()
        before, self._before = self._before, signature
        if signature == self._loaded or not (signature == before or self._settled(signature)):
            return
        try:
            if unread := [*unread_files(self._folder)]:
                raise WorkspaceError(unread)
            files, cases = read_folder(self._folder), read_case_tables(self._folder)
            if self._signature() != signature:
                return  # changed while they were read: checked again later
            policy = self._policy if files == self.files else load_policy(files, self._policy.vocabulary)
            if policy.digest != self._policy.digest:
                check_agreement(policy, cases)
        except OSError as error:
            what = f"the rules cannot be read: {error.strerror or error}"
            self._keep_policy(WorkspaceError([Problem(file=FOLDER, what=what, fix="restore the folder and its files")]))
        except WorkspaceError as error:
            self._keep_policy(error)
        else:
            self.problem = None
            # An edit that changes comments or spacing only keeps the loaded policy: a run records the files it started with.
            if policy.digest != self._policy.digest:
                self.files, self._policy = files, policy
        self._loaded = signature

    def _keep_policy(self, error: WorkspaceError) -> None:
        self.problem = error
        if self._report is not None:
            self._report(error)

    def _signature(self) -> Signature:
        """A value that changes when a file does. The change time is included, because a tool may reset the modification time."""
        entries: list[tuple[object, ...]] = []
        try:
            for folder in (self._folder, *team_folders(self._folder)):
                for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                    if not entry.name.startswith(".") or entry.name.endswith(".csv"):
                        info = entry.stat()
                        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
                            entries.append(
                                (entry.path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                            )
        except OSError as error:
            return (("unreadable", error.errno),)
        return tuple(entries)

    @staticmethod
    def _settled(signature: Signature) -> bool:
        changed = [entry[-1] for entry in signature if isinstance(entry[-1], int) and len(entry) > 2]
        return bool(changed) and 0 <= SETTLED_S * 1e9 <= time.time_ns() - max(changed)
