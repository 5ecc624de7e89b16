"""What a service does with connections and with the time of a request, whatever it answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.server import ServerState

from remit.server import Service
from remit.server.http.answers import answered
from remit.server.http.application import build_app
from remit.server.http.connections import Protocol
from remit.server.http.in_time import in_time
from remit.server.http.route import Route
from remit.workspace import open_session
from support.served import PEOPLE

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Wire:
    """The transport of one connection, which keeps what is sent in each system call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "the answer is cut off"
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _: str) -> None:
        return None

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Parts:
    """An application that answers with these parts, and waits for `more` before each part but the first."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.more = asyncio.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]}
        await send(head)
        for number, part in enumerate(self.parts):
            if number:
                await self.more.acquire()
            await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(self.parts)})


async def connected(app: Any) -> tuple[Protocol, Wire]:
    """A connection to the application, over which one request has come."""
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    protocol, wire = Protocol(config=config, server_state=ServerState(), app_state={}), Wire()
    protocol.connection_made(cast("asyncio.Transport", wire))
    protocol.data_received(GET)
    await settled()
    return protocol, wire


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def closed(protocol: Protocol) -> None:
    protocol.connection_lost(None)
    protocol.timeout_keep_alive_task and protocol.timeout_keep_alive_task.cancel()
    await settled()


async def test_head_and_body_of_an_answer_are_sent_in_one_system_call() -> None:
    protocol, wire = await connected(Response("the answer"))
    (whole,) = wire.sent
    assert whole.startswith(b"HTTP/1.1 200 OK")
    assert whole.endswith(b"\r\n\r\nthe answer")
    await closed(protocol)


async def test_each_part_of_a_stream_is_sent_although_nothing_follows_it() -> None:
    """A listener to events waits for each of them."""
    app = Parts(b"first", b"second", b"third")
    protocol, wire = await connected(app)
    assert [b"first" in part for part in wire.sent] == [True]
    for count, text in ((2, b"second"), (3, b"third")):
        app.more.release()
        await settled()
        assert len(wire.sent) == count
        assert text in wire.sent[-1]
    await closed(protocol)


@pytest.mark.parametrize("size", [1, 64 * 1024, 64 * 1024 + 1, 1 << 20])
async def test_an_answer_of_any_size_arrives_whole_and_before_the_connection_ends(size: int) -> None:
    protocol, wire = await connected(Response(b"x" * size, headers={"connection": "close"}))
    assert b"".join(wire.sent).partition(b"\r\n\r\n")[2] == b"x" * size
    assert wire.closed
    await closed(protocol)


async def test_what_waits_when_a_client_has_gone_is_dropped() -> None:
    app = Parts(b"first", b"second")
    protocol, wire = await connected(app)
    protocol.transport.write(b"late")
    wire.closed = True
    await settled()
    assert all(b"late" not in part for part in wire.sent)
    app.more.release()
    await closed(protocol)


# ── the longest time of a request ────────────────────────────────────────────────────────────────────────────────────────


async def at_once(value: int) -> int:
    return value


async def later(value: int) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return value


async def never() -> int:
    return await asyncio.get_running_loop().create_future()


async def failing(*, waits: bool) -> int:
    if waits:
        await asyncio.sleep(0.001)
    raise KeyError("what failed")


async def test_work_has_its_result_or_its_failure_whether_it_waits_or_not() -> None:
    assert [await in_time(at_once(1), 5), await in_time(later(2), 5), await in_time(later(3), None)] == [1, 2, 3]
    for waits in (False, True):
        with pytest.raises(KeyError, match="what failed"):
            await in_time(failing(waits=waits), 5)


async def test_work_that_never_waits_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timers: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *given, **named: (set_timers.append(when), call_at(when, *given, **named))[1]
    )
    await in_time(at_once(1), 5)
    assert set_timers == []
    await in_time(later(1), 5)
    assert set_timers != []


async def test_work_that_waits_too_long_is_cancelled_and_cleans_up() -> None:
    cleaned: list[str] = []

    async def work() -> int:
        try:
            return await never()
        except asyncio.CancelledError:
            cleaned.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            cleaned.append("cleaned")

    with pytest.raises(TimeoutError):
        await in_time(work(), 0.01)
    assert cleaned == ["cancelled", "cleaned"]


async def test_a_request_that_is_cancelled_is_no_request_that_took_too_long() -> None:
    task = asyncio.create_task(in_time(never(), 60))  # type: ignore[arg-type]
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_that_waits_too_long_gets_its_code_and_the_next_one_is_answered(session: Path) -> None:
    marker = session / "remit.toml"
    marker.write_text(marker.read_text() + '\n[serve]\ntimeout = "250ms"\n')

    async def slow(_: Service, request: Request) -> Response:
        if "wait" in request.url.query:
            await asyncio.Event().wait()
        return answered("done")

    import httpx

    service = Service([open_session(session)], PEOPLE)
    app = build_app(service, [Route(method="GET", path="/slow", summary="", public=slow, answer=str)])
    try:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client, asyncio.timeout(20):
            late, prompt = await client.get("/slow?wait"), await client.get("/slow")
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        assert prompt.json() == {"ok": True, "value": "done"}
    finally:
        await service.end()
