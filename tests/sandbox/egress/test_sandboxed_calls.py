"""The network of a real sandbox: what a call reaches, what is refused, and what the record shows."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from adversarial.attack_list import abuse
from remit.core.attempts import DeniedAccess
from remit.guardrails.encodings import spellings
from remit.sandbox.egress import Egress, Permit, proxy
from remit.sandbox.egress.permissions import parse_credential
from support.http_servers import NetworkHarness, Response, Server, connects, network


@pytest.fixture(scope="module", params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkHarness]:
    confined = NetworkHarness(tmp_path_factory.mktemp("egress"), request.param)
    yield confined
    asyncio.run(confined.sandbox.close())


GET = """
with httpx.Client() as client:
    answer = client.get({url!r})
result = [answer.status_code, answer.text, answer.headers.get("proxy-status", "")]
"""


async def test_a_decided_host_is_reached_from_the_sandbox_and_another_is_not(harness: NetworkHarness) -> None:
    """Plain HTTP and opened TLS, with an HTTP library that finds the proxy by the usual variables."""
    with Server() as plain, Server(name="api.test") as secure:
        harness.names.answers = {"api.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
        lines = (f"api.test:{plain.port}", f"GET api.test:{secure.port}/v1/**")
        seen = connects()
        before = len(seen)
        for url, status in (
            (f"http://api.test:{plain.port}/a?b=1", 200),
            (f"https://api.test:{secure.port}/v1/a", 200),
            (f"https://api.test:{secure.port}/v2/a", 403),
            (f"http://other.test:{plain.port}/", 403),
        ):
            output = await harness.run(GET.format(url=url), network(*lines))
            assert output.code is None, output
            assert output.value[0] == status, output.value
        assert seen[before:] == [("127.0.0.1", plain.port), ("127.0.0.1", secure.port)]
    assert [received.target for received in plain.requests] == ["/a?b=1"]
    assert [(received.target, received.name) for received in secure.requests] == [("/v1/a", "api.test")]


async def test_a_refusal_says_not_to_retry_and_names_no_address(harness: NetworkHarness) -> None:
    """A tool that crashes because of it ends as a violation. The record has the connection, its class and the line that would allow it."""
    harness.names.answers = {"inside.test": [["10.1.2.3"]]}
    code = "result = httpx.get({!r}).raise_for_status().text"
    denied = await harness.run(code.format("https://other.test/"), network("inside.test:443"))
    inside = await harness.run(code.format("https://inside.test/"), network("inside.test:443", ranges=()))
    assert (denied.code, inside.code) == ("sandbox_violation",) * 2
    assert denied.message == "blocked by policy, do not retry: the host 'other.test' is not allowed for this call"
    assert inside.message == "blocked by policy, do not retry: 'inside.test' is a private host"
    assert DeniedAccess(access="use", what="other.test:443", allow='hosts = ["other.test:443"]') in denied.refused
    assert "10.1.2.3" not in f"{inside}"
    (connection,) = inside.connections
    assert (connection.host, connection.address, connection.verdict) == ("inside.test", "private", "not_public")


NETWORK_ABUSE = """
def connection(*address, protocol=0):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as one:
        one.settimeout(2)
        one.connect(address)
    return address
def fast_open():
    with socket.socket() as one:
        one.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", {port}))
def listening(bind=True):
    one = socket.socket()
    if bind:
        one.bind(("127.0.0.1", 0))
    one.listen()
proxy = int(os.environ["HTTP_PROXY"].rpartition(":")[2])
families = [number for number in range(64) if number not in (socket.AF_INET,)]
result = {{
    "proxy": tried(lambda: connection("127.0.0.1", proxy)),
    **{{f"family {{number}}": tried(lambda: socket.socket(number, socket.SOCK_STREAM)) for number in families}},
    "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW)),
    "icmp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)),
    "mptcp": tried(lambda: connection("127.0.0.1", proxy, protocol=262)),
    "sctp": tried(lambda: connection("127.0.0.1", proxy, protocol=132)),
    "fast open": tried(fast_open),
    "other port": tried(lambda: connection("127.0.0.1", {port})),
    "metadata": tried(lambda: connection("169.254.169.254", 80)),
    "public": tried(lambda: connection("93.184.215.14", 80)),
    "host": tried(lambda: connection("{address}", {port})),
    "listen": tried(listening),
    "listen anywhere": tried(lambda: listening(bind=False)),
    "dns": tried(lambda: socket.getaddrinfo("example.com", 443)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "io_uring": tried(lambda: os.close(__import__("ctypes").CDLL(None, use_errno=True).syscall(425, 8, 0))),
}}
"""


@abuse(69, 70, 71, 72, 73, 74, 75)
async def test_the_proxy_is_the_only_thing_that_a_tool_can_connect_to(harness: NetworkHarness) -> None:
    """69 to 75, B6: no other family, protocol, port or address, no listening, no look-up of names. Allowed: the proxy."""
    with Server() as server:
        code = NETWORK_ABUSE.format(port=server.port, address="127.0.0.1")
        output = await harness.run(code, network("api.test:80"))
        assert output.code is None, output
        results = {name: one.get("held", "reached") for name, one in output.value.items()}
        assert results.pop("proxy") == "reached"
        assert {name: one for name, one in results.items() if one == "reached"} == {}
        filtered = {name for name, one in results.items() if one in ("EPERM", "EACCES")}
        assert {"udp", "raw", "icmp", "mptcp", "sctp", "fast open", "other port", "listen", "unix"} <= filtered
        assert all(f"family {number}" in filtered for number in range(64) if number != 2)
        assert server.accepted == 0


async def test_a_tool_without_hosts_has_no_socket_and_no_variable_of_the_proxy(harness: NetworkHarness) -> None:
    """70, 73: like the test above, with the narrower boundary of a tool that has no network."""
    code = "result = [tried(lambda: socket.socket()), sorted(name for name in os.environ if 'proxy' in name.lower() or 'SSL' in name)]"
    code = code.replace("import httpx", "")
    output = await harness.run(code, None, code=harness.bare)
    assert (output.code, output.value) == (None, [{"held": "EPERM"}, []])


async def test_a_call_cannot_use_the_session_of_another_call(harness: NetworkHarness) -> None:
    """The listener belongs to a tool, the token to a call. An old token, a guessed one or none opens nothing."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
        url = f"http://api.test:{server.port}/"
        first = await harness.run("result = os.environ['HTTP_PROXY']", network(f"api.test:{server.port}"))
        none = (
            "port = os.environ['HTTP_PROXY'].rpartition(':')[2]\n"
            f"with httpx.Client(proxy=f'http://127.0.0.1:{{port}}') as client:\n    result = client.get({url!r}).status_code"
        )
        guessed = none.replace("//127", f"//call:{'0' * 32}@127")
        kept = none.replace("//127", f"//{urlsplit(first.value).netloc.partition('@')[0]}@127")
        for code in (kept, none, guessed):
            assert (await harness.run(code, network(f"other.test:{server.port}"))).value == 407
        assert (await harness.run(GET.format(url=url), network(f"api.test:{server.port}"))).value[0] == 200
    assert len(server.requests) == 1


async def test_many_calls_at_once_each_reach_their_own_host(harness: NetworkHarness) -> None:
    with Server() as server:
        harness.names.answers = {f"h{number}.test": [["127.0.0.1"]] for number in range(6)}
        own = [f"http://h{number}.test:{server.port}/{number}" for number in range(6)]
        code = "result = [httpx.get(url).status_code for url in {!r}]"
        outputs = await asyncio.gather(
            *(harness.run(code.format(own), network(f"h{number}.test:{server.port}")) for number in range(6))
        )
    assert [output.value for output in outputs] == [
        [200 if number == mine else 403 for number in range(6)] for mine in range(6)
    ]
    assert sorted(received.target for received in server.requests) == [f"/{number}" for number in range(6)]


@abuse(84, 86)
async def test_a_tool_that_uses_a_secret_never_has_its_value(harness: NetworkHarness) -> None:
    """H1: not in memory, variables, scratch files, result or output, although the server echoes it."""
    secret = "canary:" + "Zx9" * 12
    with Server(lambda received: Response(body=repr(received.headers).encode()), name="api.test") as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        place = f"api.test:{server.port}"
        credential = parse_credential("jira", place, "Authorization", "Basic {base64(jira)}", "JIRA_TOKEN")
        decided = network(place, credentials=(credential,))
        code = f"""
import gc
with httpx.Client() as client:
    answer = client.get("https://{place}/echo", headers={{"Authorization": "Basic " + os.environ["JIRA_TOKEN"]}})
found = []
for held in gc.get_objects():
    if isinstance(held, (dict, list, tuple, set)):
        found += [one for one in (held.values() if isinstance(held, dict) else held) if isinstance(one, (str, bytes, bytearray))]
print(answer.text)
open(os.environ["TMPDIR"] + "/kept", "w").write(answer.text)
text = "".join(one if isinstance(one, str) else bytes(one).decode("latin-1") for one in found)
result = {{"answer": answer.text, "memory": text[-200000:], "variables": dict(os.environ)}}
"""
        output = await harness.run(code, decided, Permit(values={"jira": secret}), output=1 << 20)
        assert output.code is None, output
    assert server.requests[0].headers["authorization"] == credential.render(secret)
    assert "authorization" in output.value["answer"]
    assert output.value["variables"]["JIRA_TOKEN"] == "remit-secret-jira"
    everything = f"{output}"
    assert [text for text in spellings(secret) if text in everything] == []


async def test_an_exposed_secret_is_visible_to_one_call_only(harness: NetworkHarness) -> None:
    """The process that stays warm never has it."""
    variables = {"DB": "the password itself"}
    profile_code = "result = os.environ.get('DB')"
    held = await harness.run(profile_code, network("api.test:80"), variables=variables)
    after = await harness.run(profile_code, network("api.test:80"))
    assert (held.value, after.value) == ("the password itself", None)


async def test_a_call_without_its_proxy_has_no_network_and_does_not_hang(harness: NetworkHarness) -> None:
    """B11: the proxy ends while a call uses it. The next call gets a new one."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        url, decided = f"http://api.test:{server.port}/", network(f"api.test:{server.port}")
        gone = asyncio.create_task(
            harness.run(
                "print('up', flush=True)\nimport time\nfor _ in range(1000):\n    time.sleep(0.01)\n"
                f"    try:\n        httpx.get({url!r})\n    except httpx.HTTPError as failure:\n"
                "        result = type(failure).__name__\n        break",
                decided,
            )
        )
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(harness.egress.close)
        output = await gone
        assert output.value in ("ConnectError", "ReadError", "RemoteProtocolError"), output
        again = await harness.run(GET.format(url=url), decided)
        assert (again.code, again.value[0]) == (None, 200), again


async def test_a_blocked_proxy_delays_a_call_at_most_until_its_time_limit(harness: NetworkHarness) -> None:
    """A call that needs the proxy ends at its own limit; one that does not need it succeeds."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        url, decided = f"http://api.test:{server.port}/", network(f"api.test:{server.port}")
        assert (await harness.run(GET.format(url=url), decided)).value[0] == 200
        loop = harness.egress._loop  # pyright: ignore[reportPrivateUsage] - the only way to block the proxy alone
        assert loop is not None
        release = threading.Event()
        loop.call_soon_threadsafe(release.wait, 30)
        try:
            async with asyncio.timeout(20):
                output = await harness.run(GET.format(url=url), decided, wall=0.5)
                other = await harness.run("result = 1", decided)
        finally:
            release.set()
    assert (output.code, other.value) == ("timeout", 1)


CROWD = """
import select, time
crowd, reset = [], 0
for _ in range(200):
    try:
        crowd.append(socket.create_connection(("127.0.0.1", int(os.environ["HTTP_PROXY"].rpartition(":")[2]))))
    except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError):  # closed before this process ran again
        reset += 1
until = time.monotonic() + 20
while True:
    closed = reset + len(select.select(crowd, [], [], 0.05)[0])
    if closed >= 200 - {most} or time.monotonic() > until:
        break
result = closed
"""


async def test_connections_without_a_token_are_bounded_and_the_next_call_is_served(
    harness: NetworkHarness,
) -> None:
    """Those beyond the limit are closed at once, the others with their call."""
    with Server() as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        url, decided = f"http://api.test:{server.port}/", network(f"api.test:{server.port}")
        output = await harness.run(CROWD.format(most=proxy.MOST_UNIDENTIFIED), decided)
        assert (output.code, output.value) == (None, 200 - proxy.MOST_UNIDENTIFIED), output.stderr
        after = await harness.run(GET.format(url=url), decided)
    assert (after.code, after.value[0]) == (None, 200), after


async def test_a_cancelled_call_leaves_no_connection(harness: NetworkHarness) -> None:
    """Not even to a server that has not responded yet."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"api.test:{silent.getsockname()[1]}"
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        task = asyncio.create_task(harness.run(f"httpx.get('http://{place}/', timeout=None)", network(place)))
        end, _ = await asyncio.to_thread(silent.accept)
        with end:
            end.settimeout(10)
            assert (await asyncio.to_thread(end.recv, 4096)).startswith(b"GET / HTTP/1.1")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            try:
                left = await asyncio.to_thread(end.recv, 1)
            except TimeoutError:
                left = b"open"
            assert left == b""


def test_a_listener_that_closes_just_before_its_proxy_is_released() -> None:
    for _ in range(50):
        egress = Egress()
        listener = socket.create_server(("127.0.0.1", 0))
        egress.open(listener).close()
        egress.close()
        assert listener.fileno() == -1
