"""Runs one call in a sandbox of its own: start it, have it decode the arguments, have it run, end it.

How the call ended is read from what the tool cannot forge: the exit status that process 1 reports, the bytes on the
pipes, the clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Protocol

from remit.core import Json, ResourceUsage
from remit.sandbox.account import account_for
from remit.sandbox.egress import Egress, ProxyListener
from remit.sandbox.file_grants import GrantedFiles
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.outcome import Ending, GuestAnswer, Output, classify_ending, undecoded
from remit.sandbox.process import (
    DRAIN_SECONDS,
    START_SECONDS,
    DidNotStart,
    Process,
    boundary,
    group_memory,
    make_base,
    remove_base,
)
from remit.sandbox.profile import PROCESSES, Profile, Runtime, places
from remit.sandbox.protocol import DECODE_SECONDS, Exchange, ToolCall
from remit.sandbox.syscall_observer import Observer

_MAX_STARTS: Final = 3  # of a sandbox that is killed before it runs anything


def call_frame(profile: Profile, granted: GrantedFiles, call: ToolCall) -> dict[str, Json]:
    """The frame that the process of one call gets."""
    return {
        "mode": "command" if profile.source == "command" else call.mode,
        "function": profile.action.rpartition(".")[2],
        "argv": list(profile.argv),
        "arguments": dict(call.arguments),
        "named": sorted(call.named),
        "writes": bool(profile.writes or profile.stores),
        "declared": dict(call.declared),
        "layout": granted.layout,
        "env": dict(profile.env),
    }


class OneShotCall:
    """One call in a sandbox of its own. Its arguments are decoded; `run` has the function called.

    `decoded` are the named arguments as the function would get them; None: all are as given.
    """

    def __init__(
        self,
        process: Process,
        profile: Profile,
        granted: GrantedFiles,
        call: ToolCall,
        on_print: Callable[[bytes], None] | None,
        observer: Observer | None,
    ) -> None:
        self._process = process
        self._profile = profile
        self._granted = granted
        self._call = call
        self._observer = observer
        self._boundary: Mapping[str, Json] = {}
        self._control_data = bytearray()
        self._exchange = Exchange(process.channel, process.prints, profile, on_print)
        self._exchange.ended = lambda: self._report is not None or self._exchange.closed(process.control.fileno())
        self._listener: ProxyListener | None = None
        self._decode_s = 0.0
        self._early: Output | None = None  # the result of a call that ended before its function was called
        if observer is not None:
            self._exchange.on_first_descriptor = observer.take

    @property
    def decoded(self) -> Mapping[str, Json] | None:
        return self._exchange.decoded

    async def open(self, boundary: Mapping[str, Json]) -> None:
        """Start the sandbox and have it decode the arguments.

        Raises:
            DidNotStart: no code of the tool ran.
            Refusal: `invalid_arguments`: the tool does not accept the arguments.
        """
        exchange, process, self._boundary = self._exchange, self._process, boundary
        exchange.watch()
        exchange.listen(process.control.fileno(), self._on_control)
        exchange.listen(process.starter, self._on_starter)
        await self._start(boundary)
        if process.handover is not None:
            self._listener = process.handover.receive_listener()
        started = time.monotonic()
        await exchange.decode(self._granted, call_frame(self._profile, self._granted, self._call), self._profile.wall)
        self._decode_s = time.monotonic() - started
        if exchange.waiting:
            return
        limit = min(self._profile.wall, DECODE_SECONDS) if exchange.decoding else self._profile.wall
        profile = replace(self._profile, wall=limit)
        ending = await self._ending(started)
        if exchange.decoding:
            raise undecoded(profile, ending)
        answer = classify_ending(profile, ending, declared=self._call.declared)
        if answer.code is None and self._call.mode == "call":
            raise undecoded(profile, ending)
        self._early = replace(settle(profile, ending, answer, self._granted, exchange), entered=False)

    async def run(self, context: CallContext) -> Output:
        """Have the function called, with what only a recorded attempt gets."""
        if self._early is not None:
            return self._early
        started = time.monotonic() - self._decode_s
        self._exchange.on_print = context.on_print or self._exchange.on_print
        async with (network_access := NetworkAccess(self._listener, self._profile.network, context)):
            await self._exchange.finish(network_access.variables, self._profile.wall)
            ending = await self._ending(started)
        answer = classify_ending(self._profile, ending, declared=self._call.declared)
        output = settle(self._profile, ending, answer, self._granted, self._exchange)
        return with_network_result(output, network_access)

    async def _ending(self, started: float) -> Ending:
        exchange = self._exchange
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await exchange.wait_until(exchange.ended)
        if exchange.stop is not None:
            self._process.kill()
        # What was printed before the end is still in the pipe, and the report of process 1 may be, too.
        await exchange.drain(DRAIN_SECONDS)
        ending = exchange.ending(started, self._report)
        if self._observer is not None:
            self._observer.end(self._boundary, self._granted.layout, ending.answer)
        return ending

    def close(self) -> None:
        self._exchange.unwatch()
        close_files(self._exchange)
        if self._listener is not None:
            self._listener.close()
        if self._observer is not None:
            self._observer.close()

    async def _start(self, boundary: Mapping[str, Json]) -> None:
        exchange = self._exchange
        try:
            async with asyncio.timeout(START_SECONDS):
                await exchange.send(boundary, [])
                await exchange.wait_until(
                    lambda: b"\n" in self._control_data or exchange.closed(self._process.control.fileno())
                )
        except TimeoutError as failure:
            raise DidNotStart(f"it did not start within {START_SECONDS:g} s") from failure
        if not self._control_data.startswith(b"ready\n"):
            self._process.kill()
            await exchange.drain(DRAIN_SECONDS)
            raise DidNotStart(exchange.printed_text)
        # The first moment at which its processes exist and none runs code of the tool.
        self._process.limit(group_memory(self._profile, 1), PROCESSES)

    def _on_control(self) -> None:
        data = self._process.receive()
        self._control_data += data
        if not data:
            self._exchange.close(self._process.control.fileno())
        self._exchange.changed()

    def _on_starter(self) -> None:
        """Bubblewrap ended, after the call or because it was killed. Then the processes in its sandbox must end, too."""
        self._exchange.close(self._process.starter)
        self._process.kill()

    @property
    def _report(self) -> dict[str, Json] | None:
        """How the call ended, as process 1 reported it; None before. The tool cannot write to this pipe."""
        line = bytes(self._control_data).removeprefix(b"ready\n")
        return json.loads(line) if line.endswith(b"\n") else None


@asynccontextmanager
async def open_once(
    profile: Profile,
    runtime: Runtime,
    call: ToolCall,
    *,
    on_print: Callable[[bytes], None] | None = None,
    egress: Egress | None = None,
    observer: Observer | None = None,
) -> AsyncGenerator[OneShotCall]:
    """Decode the arguments of one call in a sandbox of its own. When the context is left, no process and no file is left.

    A sandbox that is killed before it runs anything is started again.

    Args:
        profile: what the call may access, and its limits.
        runtime: what every sandbox sees of this machine.
        call: what the tool has to do.
        on_print: gets what the call prints, while it prints.
        egress: the proxy; None: no network, whatever the profile says.
        observer: records what the call tries to access.

    Raises:
        DidNotStart: no code of the tool ran.
        Refusal: what the call reads or writes cannot be opened as granted, or the tool does not accept the arguments.
    """
    profile = profile.resolved()
    starts = 0
    while True:
        with ExitStack() as stack:
            process, granted, sent_boundary = _start(profile, runtime, call, egress, observer, stack)
            opened = OneShotCall(process, profile, granted, call, on_print, observer)
            stack.callback(opened.close)
            try:
                await opened.open(sent_boundary)
            except DidNotStart as failure:
                starts += 1
                if not failure.silent or starts == _MAX_STARTS:
                    raise
                continue
            yield opened
            return


def _start(
    profile: Profile,
    runtime: Runtime,
    call: ToolCall,
    egress: Egress | None,
    observer: Observer | None,
    stack: ExitStack,
) -> tuple[Process, GrantedFiles, dict[str, Json]]:
    """Start the sandbox once; leaving the stack ends it."""
    granted = GrantedFiles(profile, call.allowed)
    stack.callback(granted.close)
    if (base := make_base(profile)) is not None:
        stack.callback(remove_base, base)
    at = places(profile, runtime, base or "")
    account = account_for(profile, runtime, granted.files)
    process = stack.enter_context(Process(profile, runtime, at, account=account, files=granted.files, egress=egress))
    return process, granted, boundary(profile, runtime, at, network=process.network, observed=observer is not None)


async def perform_once(profile: Profile, runtime: Runtime, call: ToolCall) -> Output:
    """Run one call in a sandbox of its own, without a network and without secrets.

    Raises:
        DidNotStart: no code of the tool ran.
        Refusal: as `open_once`.
    """
    async with open_once(profile, runtime, call) as opened:
        return await opened.run(CallContext())


def close_files(exchange: Received) -> None:
    """Close the received files that nobody took."""
    for descriptor in exchange.files:
        os.close(descriptor)
    exchange.files = []


class Received(Protocol):
    """What was received from the sandbox: files that nobody has taken yet; `entered`: True if the function may have been called."""

    files: list[int]

    @property
    def entered(self) -> bool: ...


def settle(
    profile: Profile, ending: Ending, answer: GuestAnswer, granted: GrantedFiles | None, exchange: Received
) -> Output:
    """The output of the call. Its written files are taken only if the names match the descriptors and all were granted.

    INVARIANT: the names are written by untrusted code, so each must be one of the granted ones, and named once.
    """
    code, message, scratch = answer.code, answer.message, None
    if code is None and granted is not None and profile.writes:
        names, files = answer.files, exchange.files
        granted_names = set(profile.writes)
        if (
            len(names) != len(files)
            or len(set(names)) != len(names)
            or not granted_names.issuperset((*names, *answer.removed))
        ):
            code, message = "invalid_output", "the tool returned other files than the call may write; none was saved"
        else:
            exchange.files = []
            scratch = granted.scratch(dict(zip(names, files, strict=True)), answer.removed)
    stderr = ending.stderr.decode("utf-8", "replace")
    if ending.printed > len(ending.stderr):
        stderr += f"\nremit: {ending.printed - len(ending.stderr)} more bytes were printed and not kept"
    if answer.note:
        stderr += f"\n{answer.note}"
    return Output(
        code=code,
        limit=answer.limit,
        frames=answer.frames,
        value=answer.value if code is None else None,
        error=answer.error,
        retry_after_s=answer.retry_after_s,
        message=message,
        entered=exchange.entered,
        stderr=stderr,
        refused=answer.refused,
        spent=ResourceUsage(
            wall_s=round(ending.wall_s, 6),
            cpu_s=round(ending.cpu_s or answer.cpu_s, 6),
            memory_bytes=ending.memory_bytes or answer.memory_bytes,
            output_bytes=len(ending.answer or b"") + ending.printed,
        ),
        scratch=scratch,
    )
