"""One call in the live sandbox of its run: wait for its turn, have its files mounted, run it, take them out again.

Nothing is mounted before the attempt is recorded, so what a sandbox was given is always in the record.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from remit.core import Json
from remit.sandbox.account import account_for
from remit.sandbox.file_grants import FileGrant, GrantedFiles
from remit.sandbox.live.pool import LivePool
from remit.sandbox.live.started import LiveProcess, LiveSandbox
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.one_shot import call_frame, close_files, settle
from remit.sandbox.outcome import Ending, GuestAnswer, Output, classify_ending
from remit.sandbox.process import DRAIN_SECONDS, DidNotStart
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import Exchange, ToolCall
from remit.sandbox.warm.call import key_of
from remit.sandbox.warm.zygote_handle import Cold, child_folder

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class _NoGrants:
    """The process of a call gets no file by descriptor: its files are mounted."""

    def grants(self) -> Iterator[FileGrant]:
        return iter(())


class LiveCall:
    """One call that has its turn in the live sandbox of its run; `run` has its files mounted and its program started."""

    decoded: Mapping[str, Json] | None = None

    def __init__(
        self,
        current: Callable[[], Awaitable[LiveSandbox]],
        sandbox: LiveSandbox,
        granted: GrantedFiles,
        profile: Profile,
        call: ToolCall,
        on_print: Callable[[bytes], None] | None,
    ) -> None:
        self._current = current
        self._sandbox = sandbox
        self._granted = granted
        self._profile = profile
        self._call = call
        self._on_print = on_print
        self._process: LiveProcess | None = None
        self._ended_well = True

    async def run(self, context: CallContext) -> Output:
        """Have the program run, with what only a recorded attempt gets."""
        profile, started = self._profile, time.monotonic()
        try:
            self._sandbox = await self._current()  # another one, if a call that ran at the same time did not end well
        except (DidNotStart, Cold) as failure:
            return Output(
                code="tool_crashed", message=f"the sandbox could not be started again: {failure}", entered=False
            )
        self._ended_well = False  # until the end is known
        tree, folder = self._granted.tree, child_folder(profile)
        process = self._process = self._sandbox.start({**tree, "folder": [folder.path, folder.device, folder.inode]})
        exchange = Exchange(process.channel, process.prints, profile, context.on_print or self._on_print)
        try:
            access = NetworkAccess(self._sandbox.listener, profile.network, context, token=self._sandbox.token)
            async with access:
                await exchange.at_once(_NoGrants(), self._frame(tree), access.variables, profile.wall)
                ending = await self._ending(process, exchange, started)
            answer = _not_mounted(process) or classify_ending(profile, ending, declared=self._call.declared)
            output = with_network_result(settle(profile, ending, answer, self._granted, exchange), access)
        finally:
            close_files(exchange)
            exchange.unwatch()
        # INVARIANT: a call that did not end as its tool meant leaves nothing behind for the next one.
        self._ended_well = output.code in (None, "tool_failed")
        return output

    def _frame(self, tree: Mapping[str, Json]) -> dict[str, Json]:
        layout = {
            "mirrored": bool(self._profile.writes),
            "reads": list(self._granted.files),
            "writes": list(self._profile.writes),
            "whole": [],
            "links": [*self._granted.files, *tree["listed"]],
            "stores": tree["stores"],
        }
        return {**call_frame(self._profile, self._granted, self._call), "layout": layout, "kinds": []}

    async def _ending(self, process: LiveProcess, exchange: Exchange, started: float) -> Ending:
        if exchange.stop is not None or not exchange.complete:
            self._sandbox.end(process)
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await process.over.wait()
        exchange.read_prints()
        report = process.report
        return exchange.ending(started, report if report and not report["failed"] else None)

    def close(self) -> None:
        """Take the files of the call out. One that still runs, or did not end well, ends the sandbox with it."""
        if not self._ended_well:
            self._sandbox.alive = False  # no other call gets it
        if self._process is None:
            return
        if not self._ended_well:
            self._sandbox.end(self._process)
        self._sandbox.leave(self._process)


def _not_mounted(process: LiveProcess) -> GuestAnswer | None:
    """The answer for a call whose files could not be mounted or whose process could not be started; None if it was."""
    failed = int(process.report["failed"]) if process.report else 0
    if not failed:
        return None
    why = f"the files of the call could not be mounted: {os.strerror(failed)}"
    return GuestAnswer(code="resource_exhausted" if failed in _FULL else "tool_crashed", message=why)


@asynccontextmanager
async def open_live(
    pool: LivePool, profile: Profile, call: ToolCall, *, on_print: Callable[[bytes], None] | None
) -> AsyncGenerator[LiveCall]:
    """Wait for the turn of one call in the live sandbox of its run. When the context is left, its files are taken out.

    Raises:
        Cold: there are too many live sandboxes; no part of the call ran.
        DidNotStart: the sandbox did not start; no part of the call ran.
        Refusal: what the call reads or writes cannot be opened as granted.
    """
    profile = profile.resolved()
    granted = GrantedFiles(profile, call.allowed)
    try:
        account = account_for(profile, pool.runtime, granted.files)
        key = (account, profile.proc, key_of(replace(profile, run="")))
        place = pool.place(profile.run, key)
        async with place.turn(_together(profile, granted)):

            async def current() -> LiveSandbox:
                return await pool.sandbox(place, key, profile, account)

            opened = LiveCall(current, await current(), granted, profile, call, on_print)
            try:
                yield opened
            finally:
                opened.close()
    finally:
        granted.close()


def _together(profile: Profile, granted: GrantedFiles) -> Hashable:
    """What must be equal for two calls to run at once; None for a call that runs alone.

    A copy that is written belongs to one call, and so does a decision about a redirect, or an idempotency key.
    """
    network = profile.network
    if profile.writes or (network is not None and (network.at_most or network.key_header)):
        return None
    return repr((granted.tree, None if network is None else network.model_dump(mode="json")))
