"""One call to the server that a live sandbox keeps for a run: its files are mounted, the server is asked, what it wrote is collected.

The server is started, and greeted, before the first call: it has no file then, and no permit at the proxy. `guest/served.py` is the
other side; a `Speaker` says what the lines mean.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, cast

from remit.core import Json, Refusal
from remit.sandbox.account import account_for
from remit.sandbox.egress import PORT, proxy_variables
from remit.sandbox.file_grants import GrantedFiles
from remit.sandbox.live.answering import answer_of, ending_of, with_reply, within
from remit.sandbox.live.lines import Flood, LineTooLong, ServerEnded, ServerLines
from remit.sandbox.live.pool import LivePool, Place
from remit.sandbox.live.speaker import Reply, Speaker
from remit.sandbox.live.started import LiveSandbox
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.one_shot import close_files, settle
from remit.sandbox.outcome import Output
from remit.sandbox.process import DRAIN_SECONDS, START_SECONDS, DidNotStart
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import ToolCall
from remit.sandbox.warm.call import key_of
from remit.sandbox.warm.zygote_handle import Cold, child_folder

_MOST_FRAME: Final = 1 << 20
_SHOWN: Final = 600  # characters of what a server printed before it ended


@dataclass(kw_only=True)
class _Collected:
    """What the first process of the sandbox sent for the call."""

    frame: Mapping[str, Json] = field(default_factory=dict[str, Json])
    files: list[int] = field(default_factory=list[int])
    entered: bool = False


class ServedCall:
    """One call that has its turn at the server of its run."""

    decoded: Mapping[str, Json] | None = None

    def __init__(
        self, sandbox: LiveSandbox, granted: GrantedFiles, profile: Profile, speaker: Speaker, started: float
    ) -> None:
        self._sandbox = sandbox
        self._granted = granted
        self._profile = profile
        self._speaker = speaker
        self._opened = started
        self._channel: socket.socket | None = None
        self._ended_well = True

    async def run(self, context: CallContext) -> Output:
        """Have the server run the call, with what only a recorded attempt gets."""
        profile, started, received = self._profile, time.monotonic(), _Collected()
        lines = self._lines
        lines.begin(profile.output, context.on_print)
        self._ended_well = False  # until the end is known
        try:
            access = NetworkAccess(self._sandbox.listener, profile.network, context, token=self._sandbox.token)
            async with access:
                used, failed = await self._mount()
                if failed:
                    reply, stop = Reply(code="tool_crashed", message=f"its files are not there: {failed}"), None
                else:
                    received.entered = True
                    reply, stop = await within(profile.wall, self._speaker.call(lines, context.answered))
                if stop is None and not failed:
                    await self._collect(received)
            lines.read_prints()
            frame = received.frame
            ending = ending_of(lines, started, stop, max(0.0, float(frame.get("cpu", used)) - used))
            answer = answer_of(
                profile,
                ending,
                reply,
                files=cast("list[str]", frame.get("files", [])),
                removed=cast("list[str]", frame.get("removed", [])),
                note=str(frame.get("note", "")),
            )
            output = settle(profile, ending, answer, self._granted, received)
            output = with_reply(with_network_result(output, access), reply)
        finally:
            close_files(received)
        # INVARIANT: a server whose call did not end as its tool meant gets no other one. The output decides: an answer that the protocol
        # allows can still be larger than the call may return, or name files that it may not write.
        self._ended_well = output.code in (None, "tool_failed")
        return output

    @property
    def _lines(self) -> ServerLines:
        assert self._sandbox.lines is not None  # `_greeted` has started it
        return self._sandbox.lines

    async def _mount(self) -> tuple[float, str]:
        """Have the files of the call mounted; what the server has used of the processor so far, and why they are not there."""
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        folder = child_folder(self._profile)
        tree = {**self._granted.tree, "folder": [folder.path, folder.device, folder.inode]}
        try:
            self._sandbox.order({"call": 1, "tree": tree, "cpu": self._profile.cpu}, [theirs.fileno()])
        finally:
            theirs.close()
        frame, _ = await _frame(self._channel, 0)
        failed = int(frame.get("failed", 1))
        return float(frame.get("cpu", 0.0)), os.strerror(failed) if failed else ""

    async def _collect(self, received: _Collected) -> None:
        """Have the server stopped, and receive what it wrote."""
        assert self._channel is not None
        written = list(self._profile.writes)
        tree = self._granted.tree
        links = [*self._granted.files, *tree["listed"]]
        layout: dict[str, Json] = {"writes": written, "links": links, "stores": tree["stores"]}
        self._sandbox.order({"collect": layout}, [])
        received.frame, received.files = await _frame(self._channel, len(written))

    def close(self) -> None:
        """Take the files of the call out. A server that has not ended the call ends with its sandbox."""
        if self._channel is not None:
            self._channel.close()
        try:
            if self._ended_well:
                self._sandbox.order({"clear": True}, [])
                return
        except OSError:
            pass
        self._sandbox.kill()


@asynccontextmanager
async def open_served(
    pool: LivePool, profile: Profile, call: ToolCall, *, on_print: Callable[[bytes], None] | None
) -> AsyncGenerator[ServedCall]:
    """Wait for the turn of one call at the server of its run, and start the server if there is none.

    Raises:
        DidNotStart: the sandbox did not start; no part of the call ran.
        Refusal: there are too many live sandboxes, or nothing can be mounted in one; what the call reads or writes cannot be opened as
            granted; or the server did not start, or is not the pinned one.
    """
    assert call.speaker is not None
    profile, started = profile.resolved(), time.monotonic()
    granted = GrantedFiles(profile, call.allowed)
    try:
        account = account_for(profile, pool.runtime, granted.files)
        key = (account, profile.proc, profile.argv, key_of(replace(profile, run="")))
        place = pool.place(profile.run, key)
        async with place.turn(None):  # one at a time
            sandbox = await _sandbox(pool, place, key, profile, account)
            sandbox.held = True
            try:
                await _greeted(sandbox, profile, call.speaker, on_print)
                opened = ServedCall(sandbox, granted, profile, call.speaker, started)
                try:
                    yield opened
                finally:
                    opened.close()
            finally:
                sandbox.used, sandbox.held = time.monotonic(), False
                if not sandbox.alive:
                    sandbox.close()
    finally:
        granted.close()


async def _sandbox(pool: LivePool, place: Place, key: Hashable, profile: Profile, account: int | None) -> LiveSandbox:
    """The sandbox of the run. Without one there is no server: it would serve calls of which it knows what others were given."""
    try:
        if not profile.stays_live:
            raise Cold("it needs a sandbox for its run, in the full tier, and gets no store to write")
        return await pool.sandbox(place, key, profile, account)
    except Cold as cold:
        raise Refusal(
            "resource_exhausted",
            f"the server of tool {profile.tool!r} is not started: {cold}",
            next_step="continue without this tool, and tell the user to run `remit doctor`",
        ) from cold


async def _greeted(
    sandbox: LiveSandbox, profile: Profile, speaker: Speaker, on_print: Callable[[bytes], None] | None
) -> None:
    """Start the server if it does not run yet, and have the speaker begin with it."""
    if sandbox.lines is None:
        network = profile.network
        proxy = {} if network is None else proxy_variables(network, sandbox.token, PORT)
        sandbox.lines = _started(sandbox, profile, {**profile.env, **proxy})
    lines = sandbox.lines
    lines.begin(profile.output, on_print)
    try:
        async with asyncio.timeout(START_SECONDS):
            await speaker.greet(lines)
    except (TimeoutError, ServerEnded, LineTooLong, Flood) as failure:
        sandbox.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await lines.at_end()
        printed = lines.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
        why = f"did not answer within {START_SECONDS:g} s" if isinstance(failure, TimeoutError) else "did not start"
        raise Refusal(
            "tool_crashed",
            f"the server of tool {profile.tool!r} {why}{': ' if printed else ''}{printed}",
            next_step="continue without this tool, and tell the user that its server does not start",
        ) from failure
    except BaseException:
        if lines.greeted is None:  # nothing is known of it, so no other call may use it
            sandbox.kill()
        else:
            sandbox.order({"clear": True}, [])  # it may have been woken
        raise


def _started(sandbox: LiveSandbox, profile: Profile, environment: Mapping[str, str]) -> ServerLines:
    (stdin, ours), (out, stdout), (prints, stderr) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
    try:
        sandbox.order({"server": {"argv": list(profile.argv), "env": dict(environment)}}, [stdin, stdout, stderr])
    finally:
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
    return ServerLines(ours, out, prints, lambda: sandbox.order({"wake": profile.cpu}, []))


async def _frame(channel: socket.socket, files: int) -> tuple[Mapping[str, Json], list[int]]:
    """The next frame of the first process, with at most so many descriptors. It runs no code of the tool.

    Raises:
        DidNotStart: the sandbox has ended.
    """
    loop, data, received = asyncio.get_running_loop(), bytearray(), list[int]()
    readable = asyncio.Event()
    loop.add_reader(channel, readable.set)
    try:
        async with asyncio.timeout(START_SECONDS):
            while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
                await readable.wait()
                readable.clear()
                missing = 4 - len(data) if len(data) < 4 else 4 + int.from_bytes(data[:4], "big") - len(data)
                part, more, _, _ = socket.recv_fds(channel, missing, files - len(received), socket.MSG_CMSG_CLOEXEC)
                received += more
                data += part
                if not part or int.from_bytes(data[:4].ljust(4, b"\0"), "big") > _MOST_FRAME:
                    raise DidNotStart("the sandbox ended")
    except (OSError, TimeoutError, DidNotStart) as failure:
        for descriptor in received:
            os.close(descriptor)
        raise failure if isinstance(failure, DidNotStart) else DidNotStart("the sandbox ended") from failure
    finally:
        loop.remove_reader(channel)
    return cast("Mapping[str, Json]", json.loads(data[4:])), received
