"""What the sandbox's tests share: a working folder, a tool written on the spot, and a call of it in a real sandbox."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from remit.sandbox import Output, Profile, Sandbox, Tier
from remit.sandbox.warm import Bounds


@cache
def sandbox(tier: Tier) -> Sandbox:
    """One for each tier: each tries this machine once. Few stand by: most tests call a tool once."""
    return Sandbox(accept=(tier,), bounds=Bounds(min_ready=1, max_tools=4))


async def close_sandboxes() -> None:
    """End what is kept warm, so that what is left is left by a call."""
    for tier in get_args(Tier):
        await sandbox(tier).close()


def below(pid: int) -> list[int]:
    """Every process below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        ones = children.get(waiting.pop(), [])
        found += ones
        waiting += ones
    return found


def command(pid: int) -> bytes:
    """Its command line; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass(frozen=True, kw_only=True)
class ToolHarness:
    """One tool and one working folder, in one tier."""

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
        """A file of the working folder; `../name` lies outside of it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def profile(self, action: str = "act", **given: Any) -> Profile:
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
        """Call the function `act` of `text`, confined to what `given` says of the profile."""
        profile = self.profile(**given)
        main, source = profile.code / "main.py", textwrap.dedent(text)
        if not main.exists() or main.read_text() != source:  # the same tool stays warm
            main.write_text(source)
        return await sandbox(self.tier).run(profile, arguments or {}, declared=declared or {}, allowed=allowed)
