"""One client over standard input and output: the account of this process is who asks, and the connection is one conversation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import chain
from typing import BinaryIO, Final

import anyio
import anyio.to_thread
from mcp.shared._context_streams import ContextReceiveStream, ContextSendStream, create_context_streams
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse, RequestId, jsonrpc_message_adapter
from pydantic import ValidationError

from remit.client import AsyncRemit
from remit.runtime import new_run_id
from remit.server.driven import DrivenRuns
from remit.server.mcp.changes import ToolChanges
from remit.server.mcp.conversation import Conversation
from remit.server.mcp.messages import INVALID_REQUEST, Refused, checked, refused
from remit.server.mcp.protocol import build_server
from remit.server.mcp.served import Served

LONGEST: Final = 1024 * 1024  # bytes of one message
_ENDS_S: Final = 10.0
_ANSWERS_S: Final = 1.0  # after the end of the input


async def serve_stdio(client: AsyncRemit, agent: str) -> None:
    """Serve the client at the other end of standard input and output, until it closes its end, or until SIGTERM or SIGINT."""
    client.session.workspace.agent(agent)
    driven = DrivenRuns(2)
    conversation = Conversation(agent, new_run_id(), driven, named=True)
    served = Served(client=client, conversation=conversation, longest_wait=3600.0)
    changes = ToolChanges()
    server = build_server(
        lambda _: served, changes.bus, lambda ctx: changes.listed(client, conversation.id, ctx.session)
    )
    with _standard_streams() as (given, taken):
        to_server, from_client = create_context_streams[SessionMessage | Exception](0)
        to_client, from_server = create_context_streams[SessionMessage](0)
        wire = _Wire(_read_beside(given), taken)
        async with anyio.create_task_group() as group:
            # A client ends a server by closing its input, or by these signals; then it kills it, within half a second.
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, group.cancel_scope.cancel)
            group.start_soon(wire.read, to_server)
            group.start_soon(wire.pass_on, from_server)
            group.start_soon(changes.watch)
            await server.run(from_client, to_client, server.create_initialization_options())
            group.cancel_scope.cancel()
    await conversation.end()
    await driven.end(_ENDS_S)
    await client.close()


class _Wire:
    """The messages of the client, checked, and those to it."""

    def __init__(self, lines: asyncio.Queue[bytes | None], taken: BinaryIO) -> None:
        self._lines, self._taken = lines, taken
        self._one = anyio.Lock()
        self._asked: set[RequestId] = set()  # requests without an answer
        self._answered = asyncio.Event()

    async def read(self, to_server: ContextSendStream[SessionMessage | Exception]) -> None:
        """Pass on what the client sends, until its end. A client that then still reads gets the answers of quick requests."""
        async with to_server:
            while (line := await self._lines.get()) is not None:
                message = _message(line)
                if isinstance(message, Refused):
                    await self._write(json.dumps(message.body))
                elif message is not None:
                    if isinstance(message.message, JSONRPCRequest):
                        self._asked.add(message.message.id)
                    await to_server.send(message)
            with anyio.move_on_after(_ANSWERS_S):
                while self._asked:
                    self._answered.clear()
                    await self._answered.wait()

    async def pass_on(self, from_server: ContextReceiveStream[SessionMessage]) -> None:
        """Write what the server sends."""
        async with from_server:
            async for sent in from_server:
                await self._write(sent.message.model_dump_json(by_alias=True, exclude_unset=True))
                if isinstance(sent.message, JSONRPCResponse | JSONRPCError) and sent.message.id is not None:
                    self._asked.discard(sent.message.id)
                    self._answered.set()

    async def _write(self, text: str) -> None:
        async with self._one:
            await anyio.to_thread.run_sync(_write, self._taken, text)


def _message(line: bytes) -> SessionMessage | Refused | None:
    """The message of one line; None for an empty line."""
    if len(line) > LONGEST:
        return refused(INVALID_REQUEST, f"the message has more than {LONGEST} bytes")
    if not line.strip():
        return None
    message = checked(line)
    if isinstance(message, Refused):
        return message
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False))
    except ValidationError:
        return refused(INVALID_REQUEST, "the message is no message of JSON-RPC 2.0")


def _read_beside(given: int) -> asyncio.Queue[bytes | None]:
    """The lines that come, then None. A thread that the process does not wait for reads them: a client may leave its end open."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes | None](1)

    def read() -> None:
        with suppress(RuntimeError, CancelledError):  # the loop ends, or has ended
            for line in chain(_lines(given), [None]):
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    threading.Thread(target=read, daemon=True).start()
    return lines


def _lines(descriptor: int) -> Generator[bytes]:
    """The lines. Of one that is too long only the beginning is kept."""
    line = bytearray()
    while part := os.read(descriptor, 1 << 16):
        *ends, rest = part.split(b"\n")
        for end in ends:
            yield bytes(line + end[: LONGEST + 1 - len(line)])
            line.clear()
        line += rest[: LONGEST + 1 - len(line)]
    if line:
        yield bytes(line)


def _write(taken: BinaryIO, text: str) -> None:
    taken.write(text.encode() + b"\n")
    taken.flush()


@contextmanager
def _standard_streams() -> Generator[tuple[int, BinaryIO]]:
    """Standard input and output as they are, for the protocol alone.

    INVARIANT: nothing that this process or a child of it prints becomes a part of the protocol: meanwhile descriptor 1 is standard error.
    """
    given = os.dup(0)  # not closed: a thread may read from it until the process ends
    with os.fdopen(os.dup(1), "wb") as taken:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        yield given, taken
