"""What the way to the network costs, beside no proxy and beside a peer's, on this machine and in one run: `make bench-egress`.

One client (httpx), one server on loopback in a process of its own, and everything takes turns. "Keep-alive" is one request of
many on one connection; "new" is a client of its own, with its connection, for one request. The peer is the HTTP proxy of
`@anthropic-ai/sandbox-runtime` alone, without its sandbox and without the relay in it, with a filter that allows everything;
ours is reached from a real sandbox, knows the call by its token, decides, judges the address, and where it looks into TLS it
puts a secret on the wire and strikes it out of the answer.

Bars: on a connection that is kept alive, each of our ways adds at most twice a direct request of the same scheme. And of ten
thousand malformed requests none is passed on and none crashes the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sandbox import CACHE, ROOT, SRT, Row, real_time, srt_line

from remit.sandbox import Profile, Sandbox
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.egress.permissions import Network, parse_credential
from remit.sandbox.warm import Bounds
from support.http_servers import FakeResolver, authority, fuzz, network, trust

CLIENT = """
import os, ssl, sys, time, json
import httpx
TRUST = ssl.create_default_context()
def act(url: str, count: int, fresh: bool) -> list[float]:
    spent = []
    client = None if fresh else httpx.Client(verify=TRUST)
    if client is not None:
        client.get(url).raise_for_status()
    for _ in range(count):
        started = time.perf_counter()
        if client is None:
            with httpx.Client(verify=TRUST) as one:
                one.get(url).raise_for_status()
        else:
            client.get(url).raise_for_status()
        spent.append(time.perf_counter() - started)
    if client is not None:
        client.close()
    return spent
if __name__ == "__main__":
    for line in sys.stdin:
        url, count, fresh = json.loads(line)
        print(json.dumps(act(url, count, fresh)), flush=True)
"""
SERVER = """
import socket, ssl, sys, threading
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
def talk(connection, secure):
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = context.wrap_socket(connection, server_side=True) if secure else connection
        received = b""
        while data := wire.recv(65536):
            received += data
            if received.endswith(b"\\r\\n\\r\\n"):
                wire.sendall(ANSWER)
                received = b""
        wire.close()
    except OSError:
        pass
def serve(listener, secure):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection, secure), daemon=True).start()
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
threading.Thread(target=serve, args=(listeners[0], False), daemon=True).start()
print(*(one.getsockname()[1] for one in listeners), flush=True)
serve(listeners[1], True)
"""
PEER = """
import { createHttpProxyServer } from '%(folder)s/dist/sandbox/http-proxy.js'
import { createMitmCA } from '%(folder)s/dist/sandbox/mitm-ca.js'
import { readFileSync } from 'node:fs'
const ca = await createMitmCA({})
const common = {
  filter: () => true,
  lookupFor: () => (host, options, done) =>
    options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
  proxyAuthToken: 'token',
}
const opaque = createHttpProxyServer(common)
const terminating = createHttpProxyServer({
  ...common, mitmCA: ca, tlsTerminateUpstreamCA: readFileSync('%(roots)s', 'utf8'),
  filterRequest: () => ({ action: 'allow' }),
})
opaque.listen(0, '127.0.0.1', () => terminating.listen(0, '127.0.0.1', () =>
  console.log(JSON.stringify([opaque.address().port, terminating.address().port, ca.certPath]))))
"""
WAYS = ("http", "https, passed unopened", "https, looked into")


class Outside:
    """The client in a process of its own, without a sandbox."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
        kept = {name: value for name, value in os.environ.items() if name.upper() not in proxies}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**kept, **environment},
        )  # fmt: skip

    def ask(self, url: str, count: int, fresh: bool) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([url, count, fresh]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the client ended")
        return [float(one) for one in json.loads(line)]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Confined:
    """The client as a tool in a warm sandbox."""

    def __init__(self, base: Path) -> None:
        for name in ("tool", "work"):
            (base / name).mkdir()
        (base / "tool" / "main.py").write_text(CLIENT)
        self._base = base
        egress = Egress(resolver=FakeResolver(otherwise=["127.0.0.1"]), trust=trust())
        self.sandbox = Sandbox(egress=egress, bounds=Bounds(min_ready=1))

    async def ask(self, allowed: Network, permit: Permit, url: str, count: int, fresh: bool) -> list[float]:
        profile = Profile(
            tool="client", action="act", source="python", code=self._base / "tool", root=self._base / "work",
            wall=120.0, cpu=60.0, network=allowed,
        )  # fmt: skip
        arguments = {"url": url, "count": count, "fresh": fresh}
        output = await self.sandbox.run(profile, arguments, declared={}, permit=permit)
        if output.code is not None:
            raise RuntimeError(f"{output.code}: {output.message} {output.stderr[-500:]}")
        return [float(one) for one in output.value]


def certificate(base: Path) -> Path:
    """The server's own, as `localhost`, with its key."""
    made = authority()
    pem = base / "localhost.pem"
    pem.write_bytes(made.pair("localhost"))
    (base / "roots.pem").write_text(made.certificate)
    return pem


def peer(base: Path, exits: ExitStack) -> tuple[int, int, str] | str:
    """The ports of the peer's two proxies and its authority; why not, where it cannot be had."""
    line = srt_line()
    folder = CACHE / "npm" / "node_modules" / SRT
    if not folder.exists():
        return line if isinstance(line, str) else "it is not where npm puts it"
    script = base / "peer.mjs"
    script.write_text(PEER % {"folder": folder, "roots": base / "roots.pem"})
    process = subprocess.Popen(["node", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    exits.callback(process.communicate)
    exits.callback(process.kill)
    assert process.stdout is not None
    message = process.stdout.readline()
    if not message:
        return "its proxy does not start here"
    opaque, terminating, roots = json.loads(message)
    return opaque, terminating, roots


async def measure(base: Path, rounds: int) -> list[Row]:
    with ExitStack() as exits:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(certificate(base))], stdout=subprocess.PIPE, text=True
        )
        exits.callback(server.communicate)
        exits.callback(server.kill)
        assert server.stdout is not None
        plain, secure = map(int, server.stdout.readline().split())
        urls = dict(zip(WAYS, (f"http://localhost:{plain}/a", *[f"https://localhost:{secure}/a"] * 2), strict=True))
        roots = {"SSL_CERT_FILE": str(base / "roots.pem")}
        direct = Outside(roots)
        exits.callback(direct.close)
        confined = Confined(base)
        found = peer(base, exits)
        through: dict[str, Outside] = {}
        if not isinstance(found, str):
            for way, port in zip(WAYS, (found[0], *found[:2]), strict=True):
                proxy = f"http://srt:token@127.0.0.1:{port}"
                trusted = roots if way != WAYS[2] else {"SSL_CERT_FILE": found[2]}
                through[way] = Outside({"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, **trusted})
                exits.callback(through[way].close)
        credential = parse_credential("key", f"localhost:{secure}", "Authorization", "Bearer {key}")
        permit = Permit(values={"key": "a-secret-of-some-length"})
        allowed = {
            WAYS[0]: network(f"localhost:{plain}"),
            WAYS[1]: network(f"localhost:{secure}"),
            WAYS[2]: network(f"GET localhost:{secure}/**", credentials=(credential,)),
        }
        generous: dict[str, Any] = {"sent": 1 << 30, "received": 1 << 30}
        allowed = {way: one.model_copy(update=generous) for way, one in allowed.items()}
        rows = {
            (who, way, fresh): Row(name=f"{who}, {way}, {'new' if fresh else 'keep-alive'}")
            for fresh in (False, True)
            for way in WAYS
            for who in ("direct", "Remit", SRT)
            if (who, way) != ("direct", WAYS[2])
        }
        for (who, _, _), row in rows.items():
            if who == SRT and isinstance(found, str):
                row.missing = found
        for turn in range(-1, rounds):
            for (who, way, fresh), row in rows.items():
                if row.missing:
                    continue
                count = 10 if fresh else 40
                if who == "Remit":
                    seconds = await confined.ask(allowed[way], permit, urls[way], count, fresh)
                else:
                    asked = direct if who == "direct" else through[way]
                    seconds = await asyncio.to_thread(asked.ask, urls[way], count, fresh)
                row.seconds += seconds if turn >= 0 else []  # the first turn warms everything up
        await confined.sandbox.close()
        return list(rows.values())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=int(os.environ.get("REMIT_BENCH_ROUNDS", "10")))
    options.add_argument("--plain", action="store_true", help="Leave the scheduling class as it is.")
    options.add_argument("--malformed", type=int, default=10_000, help="How many malformed requests are sent.")
    chosen = options.parse_args()
    passed, crashed = asyncio.run(fuzz(chosen.malformed, seed=5))
    scheduling = "the usual class" if chosen.plain else real_time()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as base:
        rows = asyncio.run(measure(Path(base), chosen.rounds))
    by_name = {row.name: row for row in rows}
    print(f"scheduling: {scheduling}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<72}{'p50 ms':>9}{'p99 ms':>9}{'added / direct':>16}{'requests':>10}")
    bars: list[tuple[str, float, float]] = []
    for row in rows:
        if row.missing:
            print(f"{row.name:<72} SKIPPED: {row.missing}")
            continue
        fresh = row.name.rpartition(", ")[2]
        way = WAYS[0] if WAYS[0] + "," in row.name else WAYS[1]
        reference = by_name[f"direct, {way}, {fresh}"]
        added = (row.p50 - reference.p50) / reference.p50
        shown = "" if row is reference else f"{added:.2f}"
        print(f"{row.name:<72}{row.p50 * 1e3:>9.3f}{row.p99 * 1e3:>9.3f}{shown:>16}{len(row.seconds):>10}")
        if row.name.startswith("Remit") and fresh == "keep-alive":
            bars.append((row.name, added, 2.0))
    print()
    missed = 0
    for name, ratio, bar in bars:
        missed += ratio > bar
        print(f"{'held  ' if ratio <= bar else 'MISSED'} {name}: adds {ratio:.2f} of a direct request (bar <= {bar:g})")
    clean = not passed and not crashed
    print(
        f"{'held  ' if clean else 'MISSED'} {chosen.malformed} malformed requests: {len(passed)} passed on, {len(crashed)} crashes"
    )
    (ROOT / ".bench").mkdir(exist_ok=True)
    body = {
        "scheduling": scheduling,
        "rows": [{"name": row.name, "p50_s": row.p50, "p99_s": row.p99, "requests": len(row.seconds), "missing": row.missing} for row in rows],
        "bars": [{"name": name, "added": ratio, "bar": f"<= {bar:g}"} for name, ratio, bar in bars],
        "malformed": {"sent": chosen.malformed, "passed": len(passed), "crashed": len(crashed)},
    }  # fmt: skip
    (ROOT / ".bench" / "egress.json").write_text(json.dumps(body, indent=2).replace("NaN", "null"))
    return 1 if missed or not clean else 0


if __name__ == "__main__":
    sys.exit(main())
