"""Who drives a run: one process at a time; the kernel gives the lock back when it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from remit.core import UsageError

DRIVEN: Final = "run {} is being driven by another process; it takes up what people say"
TRIES: Final = 3  # whoever only asks holds the lock for an instant
PAUSE_S: Final = 0.01


@contextmanager
def run_lock(traces: Path, run: str) -> Generator[None]:
    """Be the one that drives the run. Raises UsageError where another process does."""
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
                raise UsageError(DRIVEN.format(run)) from None
            time.sleep(PAUSE_S)
            continue
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the last holder removed the file between our two calls
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_run_locked(traces: Path, run: str) -> bool:
    """Whether some process drives the run now."""
    try:
        descriptor = os.open(_lock(traces, run), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(traces: Path, run: str) -> Path:
    return traces / f".{run}.lock"
