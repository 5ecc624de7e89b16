"""A sandbox's only way out, on the broker's side: its listener taken over, and each call let through it.

Nothing of the tool has run when the listener is handed out; whose call a connection is, its ticket says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

from remit.core import Connection, DeniedAccess, Json, ReachedLimit
from remit.sandbox.egress import BLOCKED, FINAL, PORT, CallSession, Egress, Permit, ProxyListener
from remit.sandbox.egress.permissions import Network
from remit.sandbox.outcome import Output, exhausted

_MOST_REFUSED: Final = 20


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """What a call brings along from outside of its sandbox: the proxy, what it shows there, and its own variables."""

    egress: Egress
    permit: Permit
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class Handover:
    """What a sandbox inherits to hand its listener out, before anything of the tool runs. Closed by whoever made it."""

    def __init__(self, egress: Egress, network: Network) -> None:
        self._egress = egress
        self._roots = os.memfd_create("roots", os.MFD_CLOEXEC)
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        os.write(self._roots, egress.roots(network).encode())
        os.lseek(self._roots, 0, os.SEEK_SET)
        self.numbers = (self._theirs.fileno(), self._roots)  # the descriptors that the sandbox inherits

    @property
    def boundary_part(self) -> dict[str, Json]:
        """What the sandbox is told of them."""
        line, roots = self.numbers
        return {"port": PORT, "line": line, "roots": roots}

    def close_inherited(self) -> None:
        """The sandbox has its ends."""
        self._theirs.close()
        roots, self._roots = self._roots, -1
        if roots >= 0:
            os.close(roots)

    def receive_listener(self) -> ProxyListener:
        """Have the proxy serve the listener, which must be there by now.

        Raises:
            OSError: it is not there, or is none.
        """
        _, descriptors, _, _ = socket.recv_fds(self._ours, 64, 4, socket.MSG_CMSG_CLOEXEC)
        try:
            listener = _listener(descriptors)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return self._egress.open(listener)

    def close(self) -> None:
        self.close_inherited()
        self._ours.close()


def _listener(descriptors: list[int]) -> socket.socket:
    if len(descriptors) != 1 or not stat.S_ISSOCK(os.fstat(descriptors[0]).st_mode):
        raise OSError("the sandbox did not hand its listener out")
    listener = socket.socket(fileno=descriptors[0])
    listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.family != socket.AF_INET or not listening or listener.getsockname() != ("127.0.0.1", PORT):
        listener.detach()
        raise OSError("what the sandbox handed out is not its listener")
    return listener


class NetworkAccess:
    """One call's time at the door of its sandbox. Without a door there is no network, and nothing to tell of it.

    `source`: the address that its connections come from, where its sandbox serves several calls and says which is whose.
    """

    def __init__(
        self, listener: ProxyListener | None, network: Network | None, context: CallContext | None, source: str = ""
    ) -> None:
        self.connections: Sequence[Connection] = ()
        self.limit: ReachedLimit | None = None
        self._listener = listener
        self._network = network
        self._context = context
        self._source = source
        self._call_session: CallSession | None = None

    async def __aenter__(self) -> Self:
        if self._listener is not None and self._network is not None and self._context is not None:
            self._call_session = self._listener.admit(self._network, self._context.permit, self._source)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None and self._call_session is not None:
            # Shielded: a call that is cancelled leaves nothing open either.
            self.connections = await asyncio.shield(self._listener.dismiss(self._call_session))
            self.limit = self._call_session.limit

    def with_variables(self, call: Mapping[str, Json]) -> dict[str, Json]:
        """The call's frame, with the variables by which its process finds the way out."""
        own: Mapping[str, str] = {} if self._context is None else self._context.variables
        ways: Mapping[str, str] = {} if self._call_session is None else self._call_session.environment
        return {**call, "env": {**call["env"], **own, **ways}}


def with_network_result(output: Output, network_access: NetworkAccess) -> Output:
    """The output with what went over the network; a tool that fell over a refusal has reached for what was not decided."""
    blocked = [one for one in network_access.connections if one.verdict in FINAL]
    refused = tuple(
        dict.fromkeys(
            DeniedAccess(access="use", what=f"{one.host}:{one.port}", allow=f'hosts = ["{one.host}:{one.port}"]')
            for one in blocked
            if one.verdict == "not_decided"
        )
    )[:_MOST_REFUSED]
    output = replace(
        output, connections=tuple(network_access.connections), refused=(*output.refused, *refused)[:_MOST_REFUSED]
    )
    if output.code != "tool_crashed" or not (blocked or network_access.limit):
        return output
    if network_access.limit is not None:
        message = exhausted(network_access.limit)
        return replace(output, code="resource_exhausted", message=message, limit=network_access.limit)
    return replace(output, code="sandbox_violation", message=f"{BLOCKED}: {blocked[-1].why}")
