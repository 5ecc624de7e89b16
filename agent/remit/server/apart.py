"""Commands of Remit that a page needs, each in a process of its own with limits: no analysis stops or slows the requests of others."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.server.http.answers import HttpRefusal

AT_ONCE: Final = 2  # commands that run at the same time
MOST: Final = 8  # pieces of work that run or wait
LONGEST_S: Final = 60.0  # of one command; its CPU time has the same limit
MEMORY: Final = 4 << 30  # bytes of address space
LARGEST_OUTPUT: Final = 256 * 1024  # bytes
_PART: Final = 64 * 1024
_NICE: Final = 10


@dataclass(frozen=True, kw_only=True)
class CommandAnswer:
    """What a command has printed, and its exit code; None: it was ended, because it reached a limit."""

    text: str
    code: int | None


class Apart:
    """The commands of a service that run apart."""

    def __init__(self) -> None:
        self._running: Final = asyncio.Semaphore(AT_ONCE)
        self._work: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin work that calls `command`. Raises HttpRefusal `too_many` if too much of it has not ended."""
        if len(self._work) >= MOST:
            work.close()
            raise HttpRefusal("too_many", "the service computes too much for other people now", retry_after_s=10.0)
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def command(self, *words: str, folder: Path, longest: float = LONGEST_S) -> CommandAnswer:
        """Run `remit` with these words in that folder. INVARIANT: when this returns or is cancelled, its process group has ended."""
        async with self._running:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # no module of the folder of the workspace
                "-m",
                "remit",
                *words,
                cwd=folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("REMIT_SECRET_")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                _limit(process.pid, longest)
                async with asyncio.timeout(longest):
                    text, whole = await _output(process)
                    code = await process.wait() if whole else None
            except TimeoutError:
                text, code = "", None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return CommandAnswer(text=text, code=code if code is None or code >= 0 else None)

    async def end(self) -> None:
        """End all that runs."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)


async def _output(process: asyncio.subprocess.Process) -> tuple[str, bool]:
    """What the process prints, and whether that is all of it."""
    assert process.stdout is not None
    found = b""
    while part := await process.stdout.read(_PART):
        found += part
        if len(found) > LARGEST_OUTPUT:
            return found[:LARGEST_OUTPUT].decode(errors="replace"), False
    return found.decode(errors="replace"), True


def _limit(pid: int, longest: float) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.prlimit(pid, resource.RLIMIT_CPU, (round(longest), round(longest)))
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
