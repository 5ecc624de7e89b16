"""Shared by the tests of live sandboxes: a command tool that runs the script of the test, in the live sandbox of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit.sandbox import CallContext, Output, Profile, Sandbox
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.live import LiveBounds

PROGRAMS = (
    "sh",
    "cat",
    "ls",
    "ln",
    "mv",
    "rm",
    "mkdir",
    "sleep",
    "setsid",
    "env",
    "kill",
    "head",
    "unshare",
    "mount",
    "umount",
)


@dataclass(kw_only=True)
class LiveHarness:
    """One command tool and one working folder. `base` holds both."""

    base: Path
    bounds: LiveBounds | None = None
    egress: Egress | None = None
    programs: tuple[str, ...] = PROGRAMS
    sandbox: Sandbox = field(init=False)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(accept=("full",), live=self.bounds, egress=self.egress)
        for folder in ("work", "tool"):
            (self.base / folder).mkdir(exist_ok=True)

    @property
    def root(self) -> Path:
        return self.base / "work"

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def profile(self, *argv: str, **given: Any) -> Profile:
        defaults: dict[str, Any] = {"wall": 20.0, "cpu": 10.0, "life": "run", "run": "run", "root": self.root}
        return Profile(
            tool="tool",
            action="tool.act",
            source="command",
            code=self.base / "tool",
            argv=argv,
            programs=self.programs,
            **(defaults | given),
        )

    async def sh(self, script: str, **given: Any) -> Output:
        """Run the shell script; `given` are fields of the profile."""
        return await self.sandbox.run(self.profile("sh", "-c", script, **given), {})

    async def run(self, *argv: str, permit: Permit | None = None, **given: Any) -> Output:
        """Run the program."""
        async with self.sandbox.open(self.profile(*argv, **given), {}) as opened:
            return await opened.run(CallContext(permit=permit or Permit()))

    def keepers(self) -> int:
        """How many live sandboxes there are, also unused ones."""
        return sum(self.sandbox.live)


def committed(output: Output) -> list[str]:
    """The names of the files that the call changed, once they are in place."""
    assert output.scratch is not None, output
    return sorted(change.resource.removeprefix("file:") for change in output.scratch.commit())


def exists(process: int) -> bool:
    return os.path.exists(f"/proc/{process}")
