"""What a command prints, as the value of a secret: bounded in time and size, and no text of it is repeated anywhere."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from remit.core import UsageError

LONGEST: Final = 16 << 10  # bytes of one secret
SECONDS: Final = 10.0  # of one command
_OWN: Final = "REMIT_SECRET_"  # variables with secrets, which no command of another secret needs


def printed_by(command: Sequence[str], folder: str) -> str:
    """What the command prints, without the end of its line.

    It has `SECONDS` and `LONGEST` bytes, and all of its processes end with it.

    Raises:
        UsageError: it does not start, fails, or prints nothing, too much or too slowly. No text of it is repeated.
    """
    name = command[0]
    if shutil.which(name) is None:
        raise UsageError(f"its command {name!r} is not installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    except OSError as failure:
        raise UsageError(f"its command {name!r} does not start: {failure.strerror}") from failure
    assert process.stdout is not None
    try:
        printed = _read(process.stdout.fileno(), time.monotonic() + SECONDS)
        ended = printed is not None and len(printed) <= LONGEST
        status = process.wait(timeout=SECONDS) if ended else 0
    except subprocess.TimeoutExpired:
        printed, status = None, 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    if printed is None:
        raise UsageError(f"its command {name!r} did not end within {SECONDS:g} s")
    if len(printed) > LONGEST:
        raise UsageError(f"its command {name!r} printed more than {LONGEST} bytes")
    if status:
        raise UsageError(f"its command {name!r} ended with status {status}")
    value = printed.decode("utf-8", "replace").rstrip("\r\n")
    if not value:
        raise UsageError(f"its command {name!r} printed nothing")
    return value


def _read(descriptor: int, until: float) -> bytes | None:
    """All that is written there, up to a little more than `LONGEST`; None if it does not end in time."""
    data = b""
    while len(data) <= LONGEST:
        left = until - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, left))
        if not ready:
            return None
        part = os.read(descriptor, LONGEST)
        if not part:
            break
        data += part
    return data
