"""Runs one call in a sandbox of its own: start it, send the call, read the answer, end it.

How the call ended is read from what the tool cannot forge: the exit status that process 1 reports, the bytes on the
pipes, the clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from remit.core import Json, ResourceUsage
from remit.sandbox.account import account_for
from remit.sandbox.file_grants import GrantedFiles
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.outcome import Ending, GuestAnswer, Output, classify_ending
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
from remit.sandbox.protocol import Exchange, ToolCall
from remit.sandbox.syscall_observer import Observer

_MAX_STARTS: Final = 3  # of a sandbox that is killed before it runs anything


def call_frame(profile: Profile, granted: GrantedFiles, call: ToolCall) -> dict[str, Json]:
    """The frame that the process of one call gets."""
    return {
        "mode": "command" if profile.source == "command" else call.mode,
        "function": profile.action.rpartition(".")[2],
        "argv": list(profile.argv),
        "arguments": dict(call.arguments),
        "declared": dict(call.declared),
        "layout": granted.layout,
        "env": dict(profile.env),
    }


class GuestConversation:
    """The exchange with one sandbox for one call: send the boundary, send the call, read the report of process 1."""

    def __init__(
        self, process: Process, profile: Profile, on_print: Callable[[bytes], None] | None, observer: Observer | None
    ) -> None:
        self._process = process
        self._profile = profile
        self._control_data = bytearray()
        self.exchange = Exchange(process.channel, process.prints, profile, on_print)
        self.network_access: NetworkAccess | None = None
        if observer is not None:
            self.exchange.on_first_descriptor = observer.take

    async def run(
        self, boundary: Mapping[str, Json], granted: GrantedFiles, call: Mapping[str, Json], context: CallContext | None
    ) -> Ending:
        """Run the whole exchange.

        Raises:
            DidNotStart: no code of the tool ran.
        """
        exchange, process = self.exchange, self._process
        exchange.watch()
        exchange.listen(process.control.fileno(), self._on_control)
        exchange.listen(process.starter, self._on_starter)
        try:
            await self._start(boundary)
            if context is None:
                return await self._work(granted, call)
            listener = process.handover.receive_listener() if process.handover is not None else None
            self.network_access = network_access = NetworkAccess(listener, self._profile.network, context)
            try:
                async with network_access:
                    return await self._work(granted, network_access.with_variables(call))
            finally:
                if listener is not None:
                    listener.close()
        finally:
            exchange.unwatch()

    async def _work(self, granted: GrantedFiles, call: Mapping[str, Json]) -> Ending:
        exchange, process = self.exchange, self._process
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._profile.wall):
                await exchange.send_call(granted, call)
                await exchange.wait_until(lambda: self._report is not None or exchange.closed(process.control.fileno()))
        except TimeoutError:
            exchange.stop = exchange.stop or "wall"
        if exchange.stop is not None:
            process.kill()
        # What was printed before the end is still in the pipe, and the report of process 1 may be, too.
        await exchange.drain(DRAIN_SECONDS)
        return exchange.ending(started, self._report)

    async def _start(self, boundary: Mapping[str, Json]) -> None:
        exchange = self.exchange
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
            self.exchange.close(self._process.control.fileno())
        self.exchange.changed()

    def _on_starter(self) -> None:
        """Bubblewrap ended, after the call or because it was killed. Then the processes in its sandbox must end, too."""
        self.exchange.close(self._process.starter)
        self._process.kill()

    @property
    def _report(self) -> dict[str, Json] | None:
        """How the call ended, as process 1 reported it; None before. The tool cannot write to this pipe."""
        line = bytes(self._control_data).removeprefix(b"ready\n")
        return json.loads(line) if line.endswith(b"\n") else None


async def perform_once(
    profile: Profile,
    runtime: Runtime,
    call: ToolCall,
    *,
    on_print: Callable[[bytes], None] | None = None,
    context: CallContext | None = None,
    observer: Observer | None = None,
) -> Output:
    """Run one call in a sandbox of its own. If it is cancelled, it leaves no process and no file.

    A sandbox that is killed before it runs anything is started again.

    Args:
        profile: what the call may access, and its limits.
        runtime: what every sandbox sees of this machine.
        call: what the tool has to do.
        on_print: gets what the call prints, while it prints.
        context: the proxy and the variables; None: no network, whatever the profile says.
        observer: records what the call tries to access.

    Raises:
        DidNotStart: no code of the tool ran.
        Refusal: what the call reads or writes cannot be opened as granted.
    """
    profile = profile.resolved()
    starts = 0
    while True:
        try:
            return await _perform(profile, runtime, call, on_print, context, observer)
        except DidNotStart as failure:
            starts += 1
            if not failure.silent or starts == _MAX_STARTS:
                raise


async def _perform(
    profile: Profile,
    runtime: Runtime,
    call: ToolCall,
    on_print: Callable[[bytes], None] | None,
    context: CallContext | None,
    observer: Observer | None,
) -> Output:
    """Start the sandbox once and run the call in it."""
    granted = GrantedFiles(profile, call.allowed)
    base = make_base(profile)
    try:
        at = places(profile, runtime, base or "")
        frame = call_frame(profile, granted, call)
        account = account_for(profile, runtime, granted.files)
        egress = None if context is None else context.egress
        with Process(profile, runtime, at, account=account, files=granted.files, egress=egress) as process:
            conversation = GuestConversation(process, profile, on_print, observer)
            try:
                sent_boundary = boundary(profile, runtime, at, network=process.network, observed=observer is not None)
                ending = await conversation.run(sent_boundary, granted, frame, context)
                if observer is not None:
                    observer.end(sent_boundary, granted.layout, ending.answer)
                answer = classify_ending(profile, ending, declared=call.declared)
                output = settle(profile, ending, answer, granted, conversation.exchange)
                return (
                    output
                    if conversation.network_access is None
                    else with_network_result(output, conversation.network_access)
                )
            finally:
                close_files(conversation.exchange)
                if observer is not None:
                    observer.close()
    finally:
        granted.close()
        if base is not None:
            remove_base(base)


def close_files(exchange: Exchange) -> None:
    """Close the received files that nobody took."""
    for descriptor in exchange.files:
        os.close(descriptor)
    exchange.files = []


def settle(profile: Profile, ending: Ending, answer: GuestAnswer, granted: GrantedFiles, exchange: Exchange) -> Output:
    """The output of the call. Its written files are taken only if the names match the descriptors and all were granted.

    INVARIANT: the names are written by untrusted code, so each must be one of the granted ones, and named once.
    """
    code, message, scratch = answer.code, answer.message, None
    if code is None and profile.writes:
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
        value=answer.value if code is None else None,
        error=answer.error,
        retry_after_s=answer.retry_after_s,
        message=message,
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
