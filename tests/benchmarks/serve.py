"""What the service costs, beside bare Starlette and the peers behind the same server in one run: `make bench-serve`.

Each server is a process of its own with uvicorn and httptools, and gets the same requests from one keep-alive client. Figures are
processor time of the server's process for one request, and its memory; wall times are printed as ratios to bare Starlette. Who asks is
named in a header (`support.served`), which stands for a token that was verified before: verifying tokens is not measured here.
Peers are in the dependency group `bench`; one that is not installed is reported and skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.workspace.template import write_starter
from support.service_process import service_process

DECISION_US: Final = 200.0  # processor time of one decision, with a token that was verified before
TIMES_BARE: Final = 3.0  # the p99 of a decision, beside bare Starlette's
START_S: Final = 1.5
IDLE_MIB: Final = 90.0
REQUESTS: Final = 2_000
ASKED: Final[dict[str, Any]] = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/a.md"}}
HEAD: Final = (
    b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer operator\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
TICKS: Final = os.sysconf("SC_CLK_TCK")

PEERS: Final = {
    "Starlette": ("starlette", "decide = lambda asked: True"),
    "cedarpy": (
        "cedarpy",
        """
from cedarpy import PolicySet, is_authorized, Entities
POLICY = 'permit(principal == Agent::"triage", action == Action::"files.read", resource);'
def decide(asked):
    request = {"principal": 'Agent::"triage"', "action": 'Action::"files.read"', "resource": 'File::"a"', "context": {}}
    return is_authorized(request, POLICY, []).allowed
""",
    ),
    "regopy": (
        "regopy",
        """
from regopy import Interpreter
rego = Interpreter()
rego.add_module("p", 'package p\\nallow { input.agent == "triage"; input.action == "files.read" }')
def decide(asked):
    rego.set_input(asked)
    return "true" in str(rego.query("data.p.allow"))
""",
    ),
}
SERVER: Final = """
import json, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
{decide}
async def answer(request):
    return JSONResponse({{"ok": True, "value": decide(json.loads(await request.body()))}})
app = Starlette(routes=[Route("/v1/decisions", answer, methods=["POST"])])
bound = socket.create_server(("127.0.0.1", 0))
print(json.dumps({{"listening": f"http://127.0.0.1:{{bound.getsockname()[1]}}"}}), flush=True)
uvicorn.Server(uvicorn.Config(app, http="httptools", access_log=False, log_config=None)).run(sockets=[bound])
"""


def processor_s(pid: int) -> float:
    """Processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> float:
    """Its resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def ask(connection: socket.socket) -> None:
    """One request in one packet, and its answer: a client that sends head and body apart measures the delayed ACK of TCP."""
    body = json.dumps(ASKED).encode()
    connection.sendall(HEAD % len(body) + body)
    received = b""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received[:500]
    (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(rest) < length:
        rest += connection.recv(65536)


def measured(name: str, url: str, pid: int) -> dict[str, Any]:
    """Ask so many decisions, one after the other."""
    took: list[float] = []
    idle = memory_mib(pid)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(100):  # until everything is imported and cached
            ask(connection)
        before = processor_s(pid)
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            ask(connection)
            took.append(time.perf_counter() - begun)
        used = processor_s(pid) - before
    took.sort()
    return {
        "server": name,
        "cpu_us": round(used / REQUESTS * 1e6, 1),
        "p50_ms": round(took[len(took) // 2] * 1e3, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1e3, 2),
        "idle_mib": round(idle, 1),
    }


@contextmanager
def peer_server(decide: str) -> Iterator[tuple[str, int]]:
    """A server of a peer: its URL and process."""
    process = subprocess.Popen([sys.executable, "-c", SERVER.format(decide=decide)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["listening"], process.pid
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def figures() -> Iterator[dict[str, Any]]:
    for name, (module, decide) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{name} is not installed: skipped")
            continue
        with peer_server(decide) as (url, pid):
            yield measured(name, url, pid)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        write_starter(workspace)
        begun = time.perf_counter()
        with service_process(workspace) as service:
            started = time.perf_counter() - begun
            yield {**measured("Remit", service.url, service.process.pid), "start_s": round(started, 2)}


def bars(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Each bar, and whether it is met."""
    remit, bare = found["Remit"], found["Starlette"]
    times = remit["p99_ms"] / bare["p99_ms"]
    yield (
        f"a decision takes {remit['cpu_us']} µs of processor time (at most {DECISION_US:g})",
        remit["cpu_us"] <= DECISION_US,
    )
    yield f"its p99 is {times:.1f} times bare Starlette's (at most {TIMES_BARE:g})", times <= TIMES_BARE
    yield f"the service starts in {remit['start_s']} s (at most {START_S:g})", remit["start_s"] <= START_S
    yield f"idle it has {remit['idle_mib']} MiB (at most {IDLE_MIB:g})", remit["idle_mib"] <= IDLE_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for figure in figures():
        found[figure["server"]] = figure
        print("  ".join(f"{name} {value}" for name, value in figure.items()), flush=True)
    met = list(bars(found))
    for text, good in met:
        print(f"{'met   ' if good else 'MISSED'} {text}")
    if options.json:
        options.json.write_text(json.dumps({"figures": list(found.values()), "met": all(good for _, good in met)}))
    return 0 if all(good for _, good in met) else 1


if __name__ == "__main__":
    sys.exit(main())
