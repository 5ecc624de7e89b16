"""A lock on each run: only one process at a time executes it.

The lock is `flock` on a file beside the journal. The kernel releases it when its holder dies, also by kill -9, so a crash
never leaves a run locked, and no lease has to expire before another process can resume the run.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from remit.core import UsageError

RUN_LOCKED: Final = "another process executes run {}; that process applies approvals and rejections itself"
TRIES: Final = 3  # `is_run_locked` holds the lock for an instant, which is no reason to refuse
PAUSE_S: Final = 0.01


@contextmanager
def lock_run(traces: Path, run: str) -> Generator[None]:
    """Hold the lock of the run for the `with` block. Raises UsageError if another process holds it."""
    path = _lock(traces, run)
    tries = TRIES
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            tries -= 1
            if not tries:
                raise UsageError(RUN_LOCKED.format(run)) from None
            time.sleep(PAUSE_S)
            continue
        # INVARIANT: the lock counts only if its file still has this name. The last holder may have removed the file between
        # `open` and `flock`; then another process can lock a new file of that name, and two would execute the run.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except FileNotFoundError:
            pass
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released: afterwards it could be the next holder's file
        os.close(descriptor)


def is_run_locked(traces: Path, run: str) -> bool:
    """True if a process executes the run now."""
    try:
        descriptor = os.open(_lock(traces, run), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not block each other
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(traces: Path, run: str) -> Path:
    return traces / f".{run}.lock"
