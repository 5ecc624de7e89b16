"""Listens until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import uvicorn

from remit.core import UsageError
from remit.server.http.application import build_app
from remit.server.http.connections import Protocol
from remit.server.http.local import LocalProtocol, LocalSocket
from remit.server.routes import ROUTES
from remit.server.service import Service

_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
KEEP_ALIVE_S: Final = 30  # how long a connection may be idle
_LONGEST_HEADERS: Final = 64 * 1024  # bytes


class _Server(uvicorn.Server):
    """uvicorn, whose signals are handled by `serve`: uvicorn would raise them again, and the exit code would not be 0."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], local: Sequence[LocalSocket]) -> None:
        super().__init__(config)
        self._started = started
        self._local = local

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for item in self._local:
            made = partial(
                LocalProtocol,
                item,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            self.servers.append(await loop.create_server(made, sock=item.listener))
        self._started()


async def serve(
    service: Service,
    *,
    sockets: list[socket.socket] | None = None,
    listening: Callable[[str], None] = lambda _: None,
    local: Sequence[LocalSocket] = (),
) -> None:
    """Answer requests until SIGTERM or SIGINT, until `service.ending` is set, or until it is cancelled; then let runs pause, and close the journals.

    `sockets` are bound already, for programs that choose them; None: the address of the settings. `listening` gets the URL of each
    socket once requests are answered. On the `local` ones, accounts of this machine ask without credentials.

    Raises:
        UsageError: the address is in use, or the TLS files cannot be read.
    """
    config = _config(service)
    bound = [_bound(service)] if sockets is None else sockets
    for item in bound:
        _answer_at_once(item)

    def started() -> None:
        service.address = _address(bound, service)
        for item in bound:
            listening(_url(item, service))

    server = _Server(config, started, local)
    # What is loaded now stays: the collector must not look at it again during requests.
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    for number in _ENDS:
        loop.add_signal_handler(number, service.ending.set)
    serving = asyncio.create_task(server.serve(bound))
    ending = asyncio.create_task(service.ending.wait())
    try:
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    finally:  # also if this is cancelled: what was begun ends in order
        service.ending.set()
        server.should_exit = True
        try:
            await asyncio.gather(serving, ending)
        finally:
            for number in _ENDS:
                loop.remove_signal_handler(number)
            for item in bound:
                item.close()


def _answer_at_once(item: socket.socket) -> None:
    """Let accepted connections, which get the option of their listener, send the body of an answer right after its head (RFC 1122, 4.2.3.4).

    asyncio sets it on sockets only that were made with the number of TCP. Without it, a body waits until the client has acknowledged the head:
    40 ms on Linux.
    """
    if item.family != socket.AF_UNIX:
        item.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _url(item: socket.socket, service: Service) -> str:
    name: Any = item.getsockname()
    if item.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if item.family == socket.AF_INET6 else name[0]
    return f"{'https' if service.settings.certificate else 'http'}://{host}:{name[1]}"


def _address(bound: Sequence[socket.socket], service: Service) -> str:
    """How browsers reach the service: by its name behind a proxy, and otherwise where it listens."""
    named = next(iter(service.settings.hosts), "")
    if service.settings.behind_proxy and named:
        return f"https://{named}"
    return next((_url(item, service) for item in bound if item.family != socket.AF_UNIX), "")


def _bound(service: Service) -> socket.socket:
    settings = service.settings
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=1024)
    except OSError as failure:
        raise UsageError(
            f"cannot listen on {settings.host}:{settings.port}: {failure.strerror or failure}; name another address in [serve]"
        ) from None


def _config(service: Service) -> uvicorn.Config:
    settings = service.settings
    config = uvicorn.Config(
        build_app(service, ROUTES),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.shutdown)),
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.key or None,
        h11_max_incomplete_event_size=_LONGEST_HEADERS,
    )
    try:
        config.load()
    except OSError as failure:  # also an error of ssl
        raise UsageError(f"the TLS files of [serve] cannot be read: {failure.strerror or failure}") from None
    return config
