"""One call to a server that runs elsewhere: its session at the proxy, its time, its result."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from remit.core import Json, Refusal
from remit.outgoing import AsyncClient, Bounds, open_client
from remit.sandbox.egress import Egress
from remit.sandbox.live.answering import answer_of, ending_of, with_reply, within
from remit.sandbox.live.speaker import Reply, Speaker
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.one_shot import settle
from remit.sandbox.outcome import Output, refused
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import ToolCall
from remit.sandbox.remote.http_lines import HttpLines
from remit.sandbox.remote.sessions import RemoteServer, RemoteServers

CONNECT_SECONDS: Final = 10.0
_AT_ONCE: Final = 4  # connections of one call: an answer that arrives, and what is sent meanwhile


class RemoteCall:
    """One call. Nothing is sent before `run`."""

    decoded: Mapping[str, Json] | None = None

    def __init__(self, egress: Egress, profile: Profile, speaker: Speaker, server: RemoteServer) -> None:
        self._egress = egress
        self._profile = profile
        self._speaker = speaker
        self._server = server
        self.files: list[int] = []  # it never gets one
        self.entered = False

    async def run(self, context: CallContext) -> Output:
        """Speak with the server, with what only a recorded attempt gets. Calls of a run to it run one after another."""
        async with self._server.lock:
            started = time.monotonic()
            async with self._client(context) as (client, access):
                lines = HttpLines(
                    client, self._profile.url, self._server, keeps=self._profile.output, on_print=context.on_print
                )
                try:
                    output = await self._output(lines, started, context)
                finally:
                    await lines.close()
        return with_network_result(output, access)  # what it connected to is complete once its session has ended

    @asynccontextmanager
    async def _client(self, context: CallContext) -> AsyncGenerator[tuple[AsyncClient, NetworkAccess]]:
        """A client whose only way is the session of this call at the proxy."""
        network, token = self._profile.network, secrets.token_hex(16)
        assert network is not None  # the manifest names its host
        listener = socket.create_server(("127.0.0.1", 0))  # INVARIANT: only the token of this call opens the proxy
        port = listener.getsockname()[1]
        proxy = self._egress.open(listener)
        bounds = Bounds(connect=CONNECT_SECONDS, silence=self._profile.wall, environment=False)
        try:
            async with (
                NetworkAccess(proxy, network, context, token=token) as access,
                open_client(
                    bounds,
                    authorities=ssl.create_default_context(cadata=self._egress.roots(network)),
                    proxy=f"http://call:{token}@127.0.0.1:{port}",
                    connections=_AT_ONCE,
                ) as client,
            ):
                yield client, access
        finally:
            proxy.close()

    async def _output(self, lines: HttpLines, started: float, context: CallContext) -> Output:
        try:
            reply, stop = await within(self._profile.wall, self._speak(lines, context))
        except Refusal as refusal:
            return replace(refused(refusal), entered=False)
        ending = ending_of(lines, started, stop)
        answer = answer_of(self._profile, ending, reply)
        return with_reply(settle(self._profile, ending, answer, None, self), reply)

    async def _speak(self, lines: HttpLines, context: CallContext) -> Reply:
        await self._speaker.greet(lines)
        self.entered = True  # from here on, its effect may happen
        return await self._speaker.call(lines, context.answered)


@asynccontextmanager
async def open_remote(
    egress: Egress, servers: RemoteServers, profile: Profile, call: ToolCall
) -> AsyncGenerator[RemoteCall]:
    """One call to a server that runs elsewhere. Nothing has happened until it runs."""
    assert call.speaker is not None
    yield RemoteCall(egress, profile, call.speaker, servers.server(profile))
