"""Network access of a sandbox, on the broker's side: take over its listener, and admit each call at the proxy.

The sandbox has a network namespace of its own, in which this listener is the only thing to connect to. In the tier without
namespaces it is on a free port of this machine, and a process that runs no code of the tool makes the connections.
`guest/outlet.py` makes it and sends its descriptor before any code of the tool runs. A connection proves by its ticket
to which call it belongs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
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
    """What a call gets once its attempt is recorded: its permit at the proxy, and environment variables for it alone.

    `on_print` gets what its function prints; None: what the sandbox has for all calls gets it. `answered` returns what a person has
    answered to a question of its server; None: nobody can be asked.
    """

    permit: Permit = field(default_factory=Permit)
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    on_print: Callable[[bytes], None] | None = None
    answered: Callable[[Json], Json] | None = None


class Handover:
    """The broker's end of the handover.

    The sandbox inherits a socket to send its listener through, and a file of certificates.

    The caller closes it.
    """

    def __init__(self, egress: Egress, network: Network, *, namespaces: bool = True) -> None:
        self._egress = egress
        self._port = PORT if namespaces else 0
        self._roots = os.memfd_create("roots", os.MFD_CLOEXEC)
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        os.write(self._roots, egress.roots(network).encode())
        os.lseek(self._roots, 0, os.SEEK_SET)
        self.numbers = (self._theirs.fileno(), self._roots)  # the descriptors that the sandbox inherits

    @property
    def boundary_part(self) -> dict[str, Json]:
        """The part of the boundary frame that names the inherited descriptors."""
        line, roots = self.numbers
        return {"port": self._port, "line": line, "roots": roots}

    def close_inherited(self) -> None:
        """Close the ends that the sandbox has inherited."""
        self._theirs.close()
        roots, self._roots = self._roots, -1
        if roots >= 0:
            os.close(roots)

    def receive_listener(self) -> ProxyListener:
        """Receive the listener and have the proxy serve it.

        Call this only after the sandbox reported that it is locked down.

        Raises:
            OSError: no descriptor has arrived, or it is not the listener.
        """
        # Not blocking: the sandbox sends the listener before it reports that it is locked down. There is space for more
        # than one descriptor, because each must be closed if there are too many.
        _, descriptors, _, _ = socket.recv_fds(self._ours, 64, 4, socket.MSG_CMSG_CLOEXEC)
        try:
            listener = _listener(descriptors, self._port)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return self._egress.open(listener)

    def close(self) -> None:
        self.close_inherited()
        self._ours.close()


def _listener(descriptors: list[int], port: int) -> socket.socket:
    """The listener, checked: the proxy must not serve any other socket that was put in its place. `port` is 0 for any."""
    if len(descriptors) != 1 or not stat.S_ISSOCK(os.fstat(descriptors[0]).st_mode):
        raise OSError("the sandbox did not send its listener")
    listener = socket.socket(fileno=descriptors[0])
    listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    name = listener.getsockname() if listener.family == socket.AF_INET and listening else None
    if name is None or name != ("127.0.0.1", port or name[1]):
        listener.detach()  # the caller closes the descriptors
        raise OSError("the sandbox sent a socket that is not its listener")
    return listener


class NetworkAccess:
    """One call's session at the proxy, opened on entry and ended on exit. Without a listener it has no network.

    `source` is the address that the call's connections come from, if its sandbox serves several calls. The supervisor
    binds each socket to it, so that a call that learns another call's ticket still cannot use it. `token` is that of a live
    sandbox, which all calls of it use, one after another. After the exit, `connections` and `limit` hold what the call did.
    """

    def __init__(
        self,
        listener: ProxyListener | None,
        network: Network | None,
        context: CallContext,
        *,
        source: str = "",
        token: str = "",
    ) -> None:
        self.connections: Sequence[Connection] = ()
        self.limit: ReachedLimit | None = None
        self._listener = listener
        self._network = network
        self._context = context
        self._source = source
        self._token = token
        self._call_session: CallSession | None = None

    async def __aenter__(self) -> Self:
        if self._listener is not None and self._network is not None:
            self._call_session = self._listener.admit(
                self._network, self._context.permit, source=self._source, token=self._token
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None and self._call_session is not None:
            # Shielded, so that a cancelled call leaves no connection open either.
            self.connections = await asyncio.shield(self._listener.dismiss(self._call_session))
            self.limit = self._call_session.limit

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the call: its own, and those that name the proxy and the ticket."""
        proxy: Mapping[str, str] = {} if self._call_session is None else self._call_session.environment
        return {**self._context.variables, **proxy}


def with_network_result(output: Output, network_access: NetworkAccess) -> Output:
    """The output with the call's connections. A crash after a refused connection gets the code of the refusal."""
    blocked = [item for item in network_access.connections if item.verdict in FINAL]
    refused = tuple(
        dict.fromkeys(
            DeniedAccess(access="use", what=f"{item.host}:{item.port}", allow=f'hosts = ["{_line(item)}"]')
            for item in blocked
            if item.verdict == "not_decided"
        )
    )[:_MOST_REFUSED]
    output = replace(
        output, connections=tuple(network_access.connections), refused=(*output.refused, *refused)[:_MOST_REFUSED]
    )
    # A tool that handled the refusal and answered keeps its answer.
    if output.code != "tool_crashed" or not (blocked or network_access.limit):
        return output
    if network_access.limit is not None:
        message = exhausted(network_access.limit)
        return replace(output, code="resource_exhausted", message=message, limit=network_access.limit)
    return replace(output, code="sandbox_violation", message=f"{BLOCKED}: {blocked[-1].why}")


def _line(connection: Connection) -> str:
    """The narrowest line of `hosts` that would allow the connection."""
    host = f"{connection.host}:{connection.port}"
    is_seen = connection.method not in (
        "",
        "CONNECT",
    )  # of a tunnel that was refused, the requests inside are not known
    return f"{connection.method} {host}{connection.path}" if is_seen else host
