"""One client over standard input and output: the account of this process is who asks, and the connection is one conversation."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, Final

import anyio
import anyio.to_thread
from mcp.shared._context_streams import create_context_streams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from remit.client import AsyncRemit
from remit.runtime import new_run_id
from remit.server.driven import DrivenRuns
from remit.server.mcp.calls import Served
from remit.server.mcp.changes import ToolChanges
from remit.server.mcp.conversation import Conversation
from remit.server.mcp.messages import INVALID_REQUEST, Refused, checked, refused
from remit.server.mcp.protocol import build_server

LONGEST: Final = 1024 * 1024  # bytes of one message
_ENDS_S: Final = 10.0


async def serve_stdio(client: AsyncRemit, agent: str) -> None:
    """Serve the client at the other end of standard input and output, until it closes its end."""
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
        one = anyio.Lock()

        async def write(text: str) -> None:
            async with one:
                await anyio.to_thread.run_sync(_write, taken, text)

        async def read() -> None:
            async with to_server:
                while line := await anyio.to_thread.run_sync(_line, given, abandon_on_cancel=True):
                    message = _message(line)
                    if isinstance(message, Refused):
                        await write(json.dumps(message.body))
                    elif message is not None:
                        await to_server.send(message)

        async def pass_on() -> None:
            async with from_server:
                async for message in from_server:
                    await write(message.message.model_dump_json(by_alias=True, exclude_unset=True))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(pass_on)
            group.start_soon(changes.watch)
            await server.run(from_client, to_client, server.create_initialization_options())
            group.cancel_scope.cancel()
    await conversation.end()
    await driven.end(_ENDS_S)
    await client.close()


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


def _line(given: BinaryIO) -> bytes:
    """The next line, b"" at the end. Of one that is too long only the beginning is kept."""
    line = given.readline(LONGEST + 1)
    rest = line
    while len(rest) > LONGEST and not rest.endswith(b"\n"):
        rest = given.readline(LONGEST + 1)
    return line


def _write(taken: BinaryIO, text: str) -> None:
    taken.write(text.encode() + b"\n")
    taken.flush()


@contextmanager
def _standard_streams() -> Generator[tuple[BinaryIO, BinaryIO]]:
    """Standard input and output as they are, for the protocol alone.

    INVARIANT: nothing that this process or a child of it prints becomes a part of the protocol: meanwhile descriptor 1 is standard error.
    """
    with os.fdopen(os.dup(0), "rb") as given, os.fdopen(os.dup(1), "wb") as taken:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        yield given, taken
