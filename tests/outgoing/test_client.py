"""Requests of the trusted side have bounds, and go to no other address than the one that was named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest

from remit.outgoing import FAILURES, Bounds, TooLarge, download, open_client, read_body

QUICK: Final = Bounds(connect=2.0, silence=0.5, environment=False)
LONG: Final = 100_000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place = self.path
        if place.startswith("/again/"):
            left = int(place.rpartition("/")[2])
            self._answer(302, b"", location=f"/again/{left - 1}" if left else "/short")
        elif place == "/silent":
            self.server.quiet.wait(5)  # type: ignore[attr-defined]
        else:
            self._answer(200, b"x" * LONG if place == "/long" else b"short")

    def _answer(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("location", location)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as opened:
        opened.quiet = threading.Event()  # type: ignore[attr-defined]
        opened.daemon_threads = True
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{opened.server_port}"
        opened.quiet.set()  # type: ignore[attr-defined]
        opened.shutdown()
        thread.join()


async def body_of(url: str, most: int = LONG, bounds: Bounds = QUICK) -> tuple[int, bytes]:
    async with open_client(bounds) as client, client.stream("GET", url) as answer:
        return answer.status_code, await read_body(answer, most)


async def test_an_answer_is_read_up_to_its_bound_and_no_further(server: str) -> None:
    assert await body_of(f"{server}/long") == (200, b"x" * LONG)
    with pytest.raises(TooLarge, match=f"{LONG - 1} bytes"):
        await body_of(f"{server}/long", LONG - 1)


async def test_a_redirect_is_an_answer_and_is_not_followed(server: str) -> None:
    assert await body_of(f"{server}/again/0") == (302, b"")


async def test_a_server_that_says_nothing_is_waited_for_within_the_bound(server: str) -> None:
    async with asyncio.timeout(4):
        with pytest.raises(FAILURES):
            await body_of(f"{server}/silent")


async def test_a_proxy_of_the_environment_is_used_only_where_the_bounds_say_so(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await body_of(f"{server}/short"))[0] == 200
    with pytest.raises(FAILURES):
        await body_of(f"{server}/short", bounds=Bounds(connect=2.0, silence=0.5))


def test_a_download_follows_some_redirects_and_is_bounded(server: str) -> None:
    assert download(f"{server}/again/3", most=10, seconds=2.0) == b"short"
    with pytest.raises(FAILURES):
        download(f"{server}/again/9", most=10, seconds=2.0)
    with pytest.raises(TooLarge):
        download(f"{server}/long", most=LONG - 1, seconds=2.0)
