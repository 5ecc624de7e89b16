"""Requests over a socket of this machine: the kernel says which account connects, so they need no credentials."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Scope

from remit.server.http.connections import Protocol

_LOCAL: Final = "account of "  # how the address of such a client begins; no address of a network does


@dataclass(frozen=True, kw_only=True)
class LocalSocket:
    """A socket in the folder of a workspace, which listens. `account` names the account at the other end of a connection.

    It returns "" for one that this machine does not name.
    """

    listener: socket.socket
    tenant: str
    account: Callable[[socket.socket], str]


@dataclass(frozen=True, kw_only=True)
class LocalPeer:
    """Who sends a request over such a socket: an account of this machine, for the workspace of that tenant."""

    account: str
    tenant: str


class LocalProtocol(Protocol):
    """The protocol of one connection, whose client is an account."""

    def __init__(self, local: LocalSocket, **given: Any) -> None:
        super().__init__(**given)
        self._local = local

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        account = self._local.account(transport.get_extra_info("socket"))
        self.client = (f"{_LOCAL}{self._local.tenant}/{account}", 0)
        self.scheme = "http"


def local_peer(scope: Scope) -> LocalPeer | None:
    """The account that sends the request; None for a request over a network."""
    host = str(scope["client"][0]) if scope.get("client") else ""
    if not host.startswith(_LOCAL):
        return None
    tenant, _, account = host.removeprefix(_LOCAL).partition("/")
    return LocalPeer(account=account, tenant=tenant)
