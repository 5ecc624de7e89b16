"""The account that a sandbox runs as: not root if another account can read what the tool needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from remit.sandbox.profile import GUEST_FILES, Profile, Runtime

NOBODY: Final = 65_534
_READ: Final = 0o004
_ENTER: Final = 0o001


def account_for(profile: Profile, runtime: Runtime, files: Sequence[str] = ()) -> int | None:
    """The account for this sandbox; None: the broker's own.

    A tool keeps running as root if only root can access its folder, its working folder, its files or its stores: under
    another account the granted call would fail. `files` are the granted files, relative to the working folder. Only the
    full tier changes accounts: its mounts show the other account only what it needs.
    """
    if runtime.account is None or profile.tier != "full":
        return None
    root = os.fspath(profile.root)
    environment = () if profile.environment is None else (profile.environment.site,)
    if unreachable((os.fspath(profile.code), root, *environment)):
        return None
    if any(_closed(f"{root}/{name}", root) for name in files):
        return None
    if any(
        _owner(f"{root}/stores/{store}") not in (None, runtime.account)
        for store in (*profile.stores, *profile.read_stores)
    ):
        return None
    return runtime.account


def _owner(path: str) -> int | None:
    """The owner of the path; None if it does not exist."""
    try:
        return os.stat(path).st_uid
    except FileNotFoundError:
        return None


def closed_to_others(runtime: Runtime) -> str:
    """The first path of the runtime that other accounts cannot read; empty if there is none."""
    return unreachable(_needed(runtime))


def account_note(runtime: Runtime, account: int | None) -> str:
    """As which account the tools of a broker that is root run, and why."""
    if account is not None:
        return f"started as root: tools run as account {account} wherever it can read what they need"
    closed = closed_to_others(runtime)
    why = f"other accounts cannot read {closed}" if closed else "an ordinary account may not make namespaces here"
    return f"started as root, and tools stay root in their namespaces, without a limit on processes: {why}"


def _needed(runtime: Runtime) -> Iterator[str]:
    yield from (str(runtime.bwrap), runtime.python, *runtime.folders, *runtime.packages.values(), *runtime.web.values())
    yield from (f"{runtime.guest_folder}/{name}" for name in GUEST_FILES)


def unreachable(paths: Iterable[str]) -> str:
    """The first of the paths that accounts other than its owner cannot read; empty if there is none."""
    return next((path for path in paths if _closed(os.path.realpath(path), "/")), "")


def _closed(path: str, below: str) -> bool:
    """True if other accounts cannot read the path, or cannot enter a folder on the way to it from `below`."""
    try:
        status = os.stat(path)
        needed = _READ | _ENTER if os.path.isdir(path) else _READ
        if status.st_mode & needed != needed:
            return True
        folder = os.path.dirname(path)
        while len(folder) >= len(below):
            if not os.stat(folder).st_mode & _ENTER:
                return True
            if folder == os.path.dirname(folder):
                break
            folder = os.path.dirname(folder)
    except OSError:
        return True
    return False
