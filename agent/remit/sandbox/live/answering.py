"""What a server says in the time of one call, and the output that it becomes: of one in a live sandbox, and of one that runs elsewhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Protocol

from remit.sandbox.live.lines import Flood, LineTooLong, ServerEnded
from remit.sandbox.live.speaker import Reply, SessionLost
from remit.sandbox.outcome import Ending, GuestAnswer, Output, Stop, classify_ending
from remit.sandbox.profile import Profile


class _Printed(Protocol):
    printed: int

    @property
    def stderr(self) -> bytearray: ...


async def within(wall: float, reply: Awaitable[Reply]) -> tuple[Reply, Stop | None]:
    """The reply, and why the call was stopped: its time was over, or it wrote too much."""
    try:
        async with asyncio.timeout(wall):
            return await reply, None
    except TimeoutError:
        return Reply(), "wall"
    except Flood:
        return Reply(), "flood"
    except LineTooLong:
        return Reply(), "output"
    except (ServerEnded, SessionLost) as failure:
        why = str(failure) or "the server of the tool ended before it answered"
        return Reply(code="tool_crashed", message=why), None


def ending_of(lines: _Printed, started: float, stop: Stop | None, cpu_s: float = 0.0) -> Ending:
    """How a call ended that began at `started`, by the monotonic clock."""
    return Ending(
        answer=b"",
        extra=False,
        status=None,
        stop=stop,
        stderr=bytes(lines.stderr),
        printed=lines.printed,
        wall_s=time.monotonic() - started,
        cpu_s=cpu_s,
        memory_bytes=0,
    )


def answer_of(
    profile: Profile,
    ending: Ending,
    reply: Reply,
    *,
    files: Sequence[str] = (),
    removed: Sequence[str] = (),
    note: str = "",
) -> GuestAnswer:
    """The answer of the server, with the files that it wrote and removed; a failure if it is larger than the call may return."""
    size = len(json.dumps(reply.value, ensure_ascii=False, separators=(",", ":")).encode())
    if ending.stop is None and reply.code is None and size > profile.output:
        ending = replace(ending, stop="output")
    if ending.stop is not None:
        return classify_ending(profile, ending, declared={})
    return GuestAnswer(
        value=reply.value,
        code=reply.code,
        error=reply.error,
        message=reply.message,
        files=tuple(files),
        removed=tuple(removed),
        note=note,
    )


def with_reply(output: Output, reply: Reply) -> Output:
    """The output with what only the messages of a server have: bytes beside its value, and a question."""
    return replace(output, objects=reply.objects, question=reply.question)
