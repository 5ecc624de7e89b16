"""Values of secrets that other systems keep: a file that they write, or a command that prints the value.

`[secrets.NAME]` of remit.toml names one of them. The command runs as the account of the broker, without a shell, in the folder of the
workspace; a vault's own client is such a command. What it prints is a secret, so no part of it is recorded or shown, and neither is
what it writes to standard error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Final

from remit.core import FrozenModel, UsageError

USER: Final = "{user}"
FAILURE_SECONDS: Final = (
    5.0  # for which a failure is kept: the calls that wait for a slow vault fail with the first one
)


class SecretSource(FrozenModel):
    """Where the value of a secret comes from: `command` prints it, or `file` contains it; the other is empty.

    `ttl` is how many seconds the value of a command is used before it runs again. A file is read for each call. Of a secret that each
    user has of their own, `{user}` stands for the user.
    """

    command: tuple[str, ...] = ()
    file: str = ""
    ttl: float = 300.0

    def of_user(self, user: str) -> SecretSource:
        """The source of the secret of that user. Raises UsageError if it does not depend on the user."""
        filled = SecretSource(
            command=tuple(part.replace(USER, user) for part in self.command),
            file=self.file.replace(USER, user),
            ttl=self.ttl,
        )
        if filled == self:
            raise UsageError(
                f"its table in remit.toml gives one value to all users: write {USER} where the user belongs"
            )
        return filled


class Fetched:
    """The values of commands that this process has run, each until its time to live has passed. Calls at once run a command once.

    A command that fails does not run again for `FAILURE_SECONDS`: until then each call gets the same refusal at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._locks: dict[tuple[str, tuple[str, ...]], threading.Lock] = {}
        self._values: dict[tuple[str, tuple[str, ...]], tuple[float, str]] = {}
        self._failures: dict[tuple[str, tuple[str, ...]], tuple[float, str]] = {}  # when, and why

    def value(self, source: SecretSource, folder: str) -> str:
        """The value that the command of that folder prints. Raises UsageError if it fails."""
        key = folder, source.command
        # A lock for each command: a slow one delays no other.
        with self._locks.setdefault(key, threading.Lock()):
            until, kept = self._values.get(key, (0.0, ""))
            if self._clock() < until:
                return kept
            # INVARIANT: a value is used for its time to live and no longer, also if the next one fails.
            self._values.pop(key, None)
            failed = self._failures.pop(key, None)
            if failed is not None and self._clock() - failed[0] < FAILURE_SECONDS:
                self._failures[key] = failed
                raise UsageError(failed[1])
            try:
                # Imported only now: most commands of Remit start no program.
                value: str = import_module("remit.guardrails.printed_secret").printed_by(source.command, folder)
            except UsageError as failure:
                self._failures[key] = self._clock(), str(failure)
                raise
            self._values[key] = self._clock() + source.ttl, value
            return value

    def present(self, source: SecretSource, folder: str) -> str:
        """The value as it was printed last; "" if the command has not run. It does not run now."""
        return self._values.get((folder, source.command), (0.0, ""))[1]
