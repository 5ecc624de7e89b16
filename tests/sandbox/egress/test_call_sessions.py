"""The token of a call session works on the connections of that call only, even if another call knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from remit.sandbox.egress import CallSession, proxy
from remit.sandbox.egress.permissions import Network, UrlPermission
from support.http_servers import LOOPBACK, NetworkHarness, Server


@pytest.fixture(scope="module", params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkHarness]:
    confined = NetworkHarness(tmp_path_factory.mktemp("sessions"), request.param)
    yield confined
    asyncio.run(confined.sandbox.close())


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[CallSession]:
    """Every call session, in the order of their calls."""
    opened: list[CallSession] = []
    earlier = proxy.ProxyListener.admit

    def admit(self: proxy.ProxyListener, *given: Any, **named: Any) -> CallSession:
        opened.append(earlier(self, *given, **named))
        return opened[-1]

    monkeypatch.setattr(proxy.ProxyListener, "admit", admit)
    return opened


def asking(name: str, port: int) -> Network:
    """The network of one call: one URL."""
    url = UrlPermission(scheme="http", name=name, port=port, path="/", methods=("GET", "POST"))
    return Network(urls=(url,), ranges=LOOPBACK)


THEFT = """
def status(proxy):
    with httpx.Client(proxy=proxy) as client:
        return client.post({url!r}, content="private data").status_code
stolen = {proxy!r}
result = [status(stolen), status(os.environ["HTTP_PROXY"])]
"""


async def test_the_stolen_token_of_a_running_call_opens_nothing(
    harness: NetworkHarness, sessions: list[CallSession]
) -> None:
    """As HTTP libraries send it, in a tunnel, and on a connection that was opened with the thief's own token."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
        url = f"http://api.test:{server.port}/"
        victim = asyncio.create_task(
            harness.run("import time; time.sleep(4); result = 'idle'", asking("api.test", server.port))
        )
        while not sessions:
            await asyncio.sleep(0.01)
        proxies = sessions[0].environment["HTTP_PROXY"]
        thief = await harness.run(THEFT.format(url=url, proxy=proxies), asking("other.test", server.port))
        tunnel = f"""
import socket, base64
port = int(os.environ["HTTP_PROXY"].rpartition(":")[2])
def answer(*lines):
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall("\\r\\n".join((*lines, "", "")).encode())
        return line.recv(100).split(b" ")[1].decode()
basic = "Proxy-Authorization: Basic " + base64.b64encode(b"call:{sessions[0].token}").decode()
result = [answer("CONNECT api.test:{server.port} HTTP/1.1", "Host: api.test:{server.port}", basic),
          answer("GET {url} HTTP/1.1", "Host: api.test:{server.port}", basic)]
"""
        second = await harness.run(tunnel, asking("other.test", server.port))
        idle = await victim
    assert thief.value == [407, 403], thief
    assert second.value == ["407", "407"], second
    assert (idle.value, idle.connections) == ("idle", ())
    assert server.requests == []


async def test_two_calls_at_once_each_use_their_own_session(
    harness: NetworkHarness, sessions: list[CallSession]
) -> None:
    """The allowed counterpart, with a blocking and a non-blocking client."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
        sync = "result = httpx.get({!r}).status_code"
        wait = (
            "import asyncio\nasync def go():\n    async with httpx.AsyncClient() as client:\n"
            "        return (await client.get({!r})).status_code\nresult = asyncio.run(go())"
        )
        outputs = await asyncio.gather(
            *(
                harness.run(code.format(f"http://{name}:{server.port}/"), asking(name, server.port))
                for code in (sync, wait)
                for name in ("api.test", "other.test")
            )
        )
    assert [output.value for output in outputs] == [200] * 4, outputs
    assert len({call_session.source for call_session in sessions}) == 4


@pytest.mark.parametrize("how", ["another address", "another port", "before its call", "a listener of its own"])
async def test_a_tool_can_connect_to_the_proxy_only(harness: NetworkHarness, how: str) -> None:
    """It cannot choose another address or port, and not the address that its connections come from."""
    code = {
        "another address": 'one.connect(("127.0.0.2", port))',
        "another port": 'one.connect(("127.0.0.1", port + 1))',
        "before its call": 'one.bind(("127.1.0.9", 0)); one.connect(("127.0.0.1", port))',
        "a listener of its own": 'one.bind(("127.0.0.1", 0)); one.listen()',
    }[how]
    program = f"import socket\nport = int(os.environ['HTTP_PROXY'].rpartition(':')[2])\none = socket.socket()\ntry:\n    {code}\n    result = 'reached'\nexcept OSError:\n    result = 'held'"
    assert (await harness.run(program, asking("api.test", 80))).value == "held"
