"""The entry point of the sandbox: run one authorized call, or report why no tool can be confined on this machine."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast

from remit.core import Confinement, Json, ModelCode, Refusal, RunEnded
from remit.sandbox import remote
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.live.call import LiveCall, open_live
from remit.sandbox.live.pool import LiveBounds, LivePool
from remit.sandbox.live.served import ServedCall, open_served
from remit.sandbox.live.speaker import Speaker
from remit.sandbox.network_handover import CallContext
from remit.sandbox.one_shot import OneShotCall, open_once, perform_once
from remit.sandbox.outcome import Output, refused
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime, Tier, runtime
from remit.sandbox.protocol import ToolCall
from remit.sandbox.selfcheck.bubblewrap import find_bwrap
from remit.sandbox.selfcheck.fit import check_fit
from remit.sandbox.selfcheck.probe import TierReport, fix_for, try_tier
from remit.sandbox.selfcheck.tiers import TIERS, try_accounts
from remit.sandbox.syscall_observer import Observed, Observer
from remit.sandbox.warm.call import WarmCall, expect_call, open_warm
from remit.sandbox.warm.pool import Closed, Pool
from remit.sandbox.warm.zygote_handle import Bounds, Cold

if TYPE_CHECKING:  # its HTTP client is loaded at the first use
    from remit.sandbox.remote import RemoteCall

_OBSERVED_SLOWDOWN: Final = 4  # an observed call gets this many times its wall limit

_Call: TypeAlias = "WarmCall | LiveCall | ServedCall | RemoteCall | OneShotCall"


class OpenedCall:
    """A call whose arguments are decoded and whose function is not called yet.

    `decoded` are the named arguments as the function would get them, as JSON; one that JSON cannot represent is missing.
    None: all are as given.
    """

    def __init__(self, call: _Call | None, early: Output | None = None) -> None:
        self._call = call
        self._early = early  # the result of a call for which nothing was started

    @property
    def decoded(self) -> Mapping[str, Json] | None:
        return None if self._call is None else self._call.decoded

    async def run(self, context: CallContext | None = None) -> Output:
        """The second phase: have the function called, with what only a recorded attempt gets.

        Raises:
            RunEnded: `sandbox_unavailable`: the function was not called.
        """
        if self._call is None:
            assert self._early is not None
            return self._early
        try:
            return await self._call.run(context or CallContext())
        except OSError as failure:
            raise _not_set_up(failure) from failure


class Sandbox:
    """Confines tools in the first tier of `accept` that works on this machine. Safe to use for many calls at once.

    Python tools stay warm between calls until `close`.

    Args:
        bwrap: the bubblewrap program; None: look for one.
        accept: the tiers that the workspace accepts.
        bounds: how many warm tools and children may exist.
        live: how many live sandboxes may exist.
        on_print: gets what calls print, while they print it.
        egress: the proxy; None: one with the resolver and the certificate authorities of this machine.
        observed: gets what each call tried to access. Then each call runs in a sandbox of its own, with four times its
            wall limit.
    """

    def __init__(
        self,
        *,
        bwrap: Path | None = None,
        accept: Sequence[Confinement] = ("full",),
        bounds: Bounds | None = None,
        live: LiveBounds | None = None,
        on_print: Callable[[bytes], None] | None = None,
        egress: Egress | None = None,
        observed: Callable[[Profile, Observed], None] | None = None,
    ) -> None:
        self._bwrap = bwrap if bwrap is not None else find_bwrap()
        if self._bwrap is not None and not os.access(self._bwrap, os.X_OK):
            self._bwrap = None
        self._accept: tuple[Tier, ...] = tuple(tier for tier in TIERS if tier in accept)
        self._tier: Tier | RunEnded | None = None
        self._bounds = bounds
        self._live_bounds = live
        self._on_print = on_print
        self._egress = egress or Egress()
        self._observed = observed
        self._account: int | None = None
        self._pool: Pool | None = None
        self._live: LivePool | None = None
        self._remote = remote.RemoteServers()
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, accept: Sequence[Confinement]) -> Sandbox:
        """The sandbox of this process for those tiers, shared by its runs; callers must not close it.

        A later run finds the tools warm that an earlier one used; no process of a tool serves two users or workspaces. A fork takes
        over which tier works, and nothing else. Other programs or trusted authorities in the environment: another sandbox.
        """
        key = (os.getpid(), tuple(accept), *map(os.environ.get, _DECIDES))
        with _sharing:
            sandbox = _shared.get(key)
            # Once the machine is fixed, a run must find that out.
            if sandbox is None or isinstance(sandbox._tier, RunEnded):
                sandbox = cls(accept=accept)
                for (_, *of), other in _shared.items():  # that of the process of which this one is a fork
                    if of == list(key[1:]) and not isinstance(other._tier, RunEnded):
                        sandbox._tier, sandbox._account = other._tier, other._account
                _shared[key] = sandbox
            return sandbox

    def close_sync(self) -> None:
        """`close` for callers without an event loop."""
        with self._lock:
            pool, self._pool = self._pool, None
            live, self._live = self._live, None
        if pool is not None and pool.process == os.getpid():
            pool.close(wait=True)
        if live is not None and live.process == os.getpid():
            live.close()
        self._egress.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every process of the warm tools and the live sandboxes. A later call starts them again."""
        await asyncio.to_thread(self.close_sync)

    @property
    def confinement(self) -> Tier:
        """The tier that calls run in. The first use tries the tiers on this machine; later uses reuse the result.

        Raises:
            RunEnded: `sandbox_unavailable`, with a fix.
        """
        if self._tier is None:
            self._tier = self._find()
        if isinstance(self._tier, RunEnded):
            raise RunEnded(self._tier.code, self._tier.message, fix=self._tier.fix)
        return self._tier

    async def run(
        self,
        profile: Profile,
        arguments: Mapping[str, Json],
        *,
        declared: Mapping[str, str] | None = None,
        allowed: Callable[[str], bool] | None = None,
        permit: Permit | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Output:
        """Run one call. If it is cancelled, it leaves no process, no file and no connection.

        Args:
            profile: what the call may access, and its limits.
            arguments: as the tool's schema describes them.
            declared: the manifest's error names, each with its exception class; "": the class named like the error. None: no
                error is declared.
            allowed: decides each file of a set; None: every file except `profile.denied`.
            permit: what the call may do at the proxy besides `profile.network`.
            variables: environment variables for the process of this call alone.

        Raises:
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        try:
            async with self.open(profile, arguments, declared=declared, allowed=allowed) as opened:
                return await opened.run(CallContext(permit=permit or Permit(), variables=variables or {}))
        except Refusal as refusal:
            return refused(refusal)

    @asynccontextmanager
    async def open(
        self,
        profile: Profile,
        arguments: Mapping[str, Json],
        *,
        named: Collection[str] = (),
        declared: Mapping[str, str] | None = None,
        allowed: Callable[[str], bool] | None = None,
        speaker: Speaker | None = None,
    ) -> AsyncGenerator[OpenedCall]:
        """The first phase of one call: its arguments are decoded, and its function is not called yet.

        Until `OpenedCall.run`, the process has no secret and no permit at the proxy, and can write nothing that outlives it.
        When the context is left, no process, no file and no connection is left.

        Args:
            profile: as in `run`, and so are `arguments`, `declared` and `allowed`.
            named: the arguments that `OpenedCall.decoded` has.
            speaker: for an MCP server, what asks it to run the call.

        Raises:
            Refusal: `invalid_arguments`: the tool does not accept the arguments, or decoding them failed.
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        may = allowed or _everything
        call = ToolCall(arguments=arguments, declared=declared or {}, allowed=may, named=named, speaker=speaker)
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, self._fitted(profile), call)

    async def _opened(self, stack: AsyncExitStack, profile: Profile, call: ToolCall) -> OpenedCall:
        try:
            return OpenedCall(await self._enter(stack, profile, call))
        except Refusal as refusal:
            if "reason" in refusal.details:
                raise
            return OpenedCall(None, refused(refusal))
        except (DidNotStart, Closed) as failure:
            raise self._broken(failure) from failure
        except OSError as failure:
            raise _not_set_up(failure) from failure

    async def _enter(self, stack: AsyncExitStack, profile: Profile, call: ToolCall) -> _Call:
        if profile.url:
            opened = remote.open_remote(self._egress, self._remote, profile, call)
            return await stack.enter_async_context(opened)
        if profile.source == "mcp":
            served = open_served(self._live_pool(), profile, call, on_print=self._on_print)
            return await stack.enter_async_context(served)
        if self._observed is not None:
            # Each observed system call waits for an answer of the broker, so the wall limit of the manifest would be too
            # short.
            slower = replace(profile, wall=_OBSERVED_SLOWDOWN * profile.wall)
            observer = Observer(slower, self._runtime())
            report = self._observed
            stack.callback(lambda: report(profile, observer.seen))
            return await stack.enter_async_context(
                open_once(slower, self._runtime(), call, egress=self._egress, observer=observer)
            )
        if profile.stays_warm:
            with suppress(Cold):
                return await stack.enter_async_context(open_warm(self._warm(), profile, call, on_print=self._on_print))
        if profile.stays_live:
            with suppress(Cold):
                return await stack.enter_async_context(
                    open_live(self._live_pool(), profile, call, on_print=self._on_print)
                )
        return await stack.enter_async_context(
            open_once(profile, self._runtime(), call, on_print=self._on_print, egress=self._egress)
        )

    def _warm(self) -> Pool:
        with self._lock:
            if (
                self._pool is None or self._pool.process != os.getpid()
            ):  # a fork of the broker does not have its threads
                self._pool = Pool(self._runtime(), self._bounds, self._egress)
                weakref.finalize(self, self._pool.close, wait=False)
            return self._pool

    def _live_pool(self) -> LivePool:
        with self._lock:
            if self._live is None or self._live.process != os.getpid():
                self._live = LivePool(self._runtime(), self._egress, self._live_bounds)
                weakref.finalize(self, self._live.close)
            return self._live

    @property
    def live(self) -> tuple[int, int]:
        """How many live sandboxes runs have now, and how many are started and unused."""
        pool = self._live
        return (0, 0) if pool is None else (pool.live, pool.unused)

    def end_run(self, run: str) -> None:
        """End the live sandboxes of that run, with everything that its calls left in them, and its sessions elsewhere."""
        self._remote.end_run(run)
        if (pool := self._live) is not None:
            pool.end_run(run)

    def expect(self, profile: Profile) -> None:
        """Let processes of a warm tool stand by in the working folder of the profile, so that its first call need not wait for one.

        Nothing happens if the tool is not warm, or if its processes are for another person.
        """
        if profile.stays_warm and self._observed is None and (pool := self._pool) is not None:
            with suppress(RunEnded):  # the call itself finds out what is wrong
                expect_call(pool, self._fitted(profile))

    async def describe(self, profile: Profile) -> Json:
        """The functions of main.py by name: `description`, `input` and `output` (JSON Schemas), `hidden` parameters.

        A function that cannot be an action has only `problem`.

        Raises:
            Refusal: the code does not import; `details["stderr"]` has its traceback.
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        return await self._inspect(profile, "describe", {})

    async def conform(self, profile: Profile, examples: Mapping[str, Json]) -> Json:
        """What became of examples of `arguments` and `results`, by function: see `tried` in `guest/conformance.py`.

        Validators of the author run, without files, network and secrets; the functions do not.

        Raises:
            Refusal: as `describe`; `timeout` if the validators did not end within the limit of the profile.
            RunEnded: `sandbox_unavailable`: nothing ran.
        """
        return await self._inspect(profile, "conform", examples)

    async def _inspect(
        self, profile: Profile, mode: Literal["describe", "conform"], arguments: Mapping[str, Json]
    ) -> Json:
        alone = replace(
            self._fitted(profile), reads=(), writes=(), stores=(), read_stores=(), source="python", output=1 << 20
        )
        call = ToolCall(arguments=arguments, declared={}, allowed=_everything, mode=mode)
        try:
            output = await perform_once(alone, self._runtime(), call)
        except DidNotStart as failure:
            raise self._broken(failure) from failure
        if output.code is not None:
            raise Refusal(cast(ModelCode, output.code), output.message, details={"stderr": output.stderr})
        return output.value

    def _fitted(self, profile: Profile) -> Profile:
        if profile.url:  # nothing is started here
            return profile
        tier = self.confinement
        check_fit(profile, tier, observed=self._observed is not None)
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
            report, self._account = try_accounts(tier, self._runtime(), try_tier)
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
        return RunEnded(
            "sandbox_unavailable",
            f"tools cannot be confined on this machine: no accepted tier works ({names})",
            fix=reports[0].fix,
        )

    def _broken(self, failure: Exception) -> RunEnded:
        return RunEnded("sandbox_unavailable", "the sandbox did not start", fix=fix_for(str(failure)))


_DECIDES: Final = ("REMIT_BWRAP", "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")  # its programs, and whom its proxy trusts
_shared: dict[tuple[int | str | tuple[Confinement, ...] | None, ...], Sandbox] = {}
_sharing = threading.Lock()


@atexit.register
def close_shared() -> None:
    """End every warm tool of the sandboxes that runs of this process share. Later runs start them again."""
    with _sharing:
        # A forked process inherits the table, but the tools in it belong to its parent.
        shared = [sandbox for key, sandbox in _shared.items() if key[0] == os.getpid()]
        _shared.clear()
    for sandbox in shared:
        sandbox.close_sync()


def _not_set_up(failure: OSError) -> RunEnded:
    return RunEnded(
        "sandbox_unavailable",
        f"the call could not be set up: {failure.strerror}",
        fix="check the permissions of the working folder, the free space for temporary files, and `ulimit -n`",
    )


def _everything(_: str) -> bool:
    return True
