"""Shared by the sandbox's tests: a working folder, a tool with the code of the test, and calls of it in a real sandbox."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from remit.sandbox import Output, Profile, Sandbox, Tier
from remit.sandbox.warm import Bounds


@cache
def sandbox(tier: Tier) -> Sandbox:
    """One sandbox for each tier, so that each tier is tried once.

    It keeps few idle children: most tests call a tool once.
    """
    return Sandbox(accept=(tier,), bounds=Bounds(min_ready=1, max_tools=4))


async def close_sandboxes() -> None:
    """End every warm tool, so that any process left was left by a call."""
    for tier in get_args(Tier):
        await sandbox(tier).close()


def below(pid: int) -> list[int]:
    """Every descendant of `pid`."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
    descendants, waiting = [], [pid]
    while waiting:
        pids = children.get(waiting.pop(), [])
        descendants += pids
        waiting += pids
    return descendants


def command(pid: int) -> bytes:
    """The command line of the process; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def sandboxed() -> list[int]:
    """The processes of this process's sandboxes: zygotes, their children, and calls in sandboxes of their own."""
    return [pid for pid in below(os.getpid()) if b"inside.py" in command(pid)]


def kill_sandboxes(by: signal.Signals = signal.SIGKILL) -> None:
    """Send the signal to every process of this process's sandboxes."""
    for pid in sandboxed():
        with suppress(ProcessLookupError):  # it ended with its parent
            os.kill(pid, by)


@dataclass(frozen=True, kw_only=True)
class ToolHarness:
    """One tool and one working folder, in one tier. `base` holds both."""

    base: Path
    tier: Tier

    @property
    def root(self) -> Path:
        return self.base / "work"

    @property
    def seen(self) -> str:
        """The working folder as the tool sees it."""
        return "/work" if self.tier == "full" else str(self.root)

    def file(self, name: str, text: str = "text") -> Path:
        """Write a file of the working folder; `../name` lies outside of it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def profile(self, action: str = "act", **given: Any) -> Profile:
        """A profile of the tool with generous limits; `given` are its other fields."""
        defaults: dict[str, Any] = {"wall": 20.0, "cpu": 10.0, "source": "python"}
        self.root.mkdir(exist_ok=True)
        (self.base / "tool").mkdir(exist_ok=True)
        return Profile(
            tool="tool", action=action, code=self.base / "tool", root=self.root, tier=self.tier, **(defaults | given)
        )

    async def run(
        self,
        text: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        declared: Mapping[str, str] | None = None,
        allowed: Callable[[str], bool] | None = None,
        **given: Any,
    ) -> Output:
        """Call the function `act` of the code `text`; `given` are fields of the profile."""
        profile = self.profile(**given)
        main, source = profile.code / "main.py", textwrap.dedent(text)
        if not main.exists() or main.read_text() != source:  # unchanged code keeps the tool warm
            main.write_text(source)
        return await sandbox(self.tier).run(profile, arguments or {}, declared=declared or {}, allowed=allowed)
