"""Deployments of our services, from their logs. One function for each action of tool.toml, with the same name."""

import re
from pathlib import Path


class NoLog(Exception):
    """There is no such log."""


def find(log: str) -> list[dict[str, str]]:
    """Find the deployments that one log names, the first one first."""
    path = Path(log)
    if not path.exists():
        raise NoLog(f"there is no log {log!r}")
    starts = re.findall(r"^(\S+) .*starting version=(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [{"at": at, "version": version} for at, version in starts]
