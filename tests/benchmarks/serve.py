"""What the service costs, beside bare Starlette and the peers behind the same server in one run: `make bench-serve`.

Each server is a process of its own with uvicorn and httptools, and gets the same requests from one keep-alive client. Figures are
processor time of the server's process for one request, and its memory; wall times are printed as ratios to bare Starlette.

* Decisions are asked with a token of an identity provider: with one that was verified before, and with a new one each. The provider is in
  the process of the service, without network: its keys are cached in any case.
* Every server is asked the same question. Remit answers it again for up to a second, so it is also asked another question each time.
* Start, memory, calls, listeners and `remit call` are those of `remit serve` itself, with an API key.

Peers are in the dependency group `bench`; one that is not installed is reported and skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.client import create_key
from remit.core import KeyScope
from remit.workspace import open_session
from remit.workspace.template import write_starter
from support.principals import principal
from support.service_process import ServiceProcess, remit_serve, token_service
from support.tokens import AUDIENCE, ISSUER

DECISION_US: Final = 200.0  # processor time of one decision, with a token that was verified before
NEW_TOKEN_US: Final = 350.0  # with a token that was not
TIMES_BARE: Final = 3.0  # the p99 of a decision, beside bare Starlette's
START_S: Final = 1.5
IDLE_MIB: Final = 90.0
AFTER_RUNS_MIB: Final = 180.0
LISTENING_MS: Final = 300.0  # from an event to its listeners, p95
CALL_S: Final = 0.15  # wall time of `remit call` while a service runs
REQUESTS: Final = int(os.environ.get("REMIT_BENCH_REQUESTS", "2000"))
WARM: Final = 100
CALLS: Final = 50
LISTENERS: Final = 300
ASKED: Final[dict[str, Any]] = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/a.md"}}
HEAD: Final = (
    b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
NOTE: Final = "runbooks/payments-pool.md"
SETTINGS: Final = f"""
[serve]
address = "127.0.0.1:0"

[issuers.corp]
kind = "oidc"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
"""
LISTEN: Final = (
    b"GET /v1/runs/%s/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
    b"Accept: text/event-stream\r\nConnection: close\r\n\r\n"
)
SENT: Final = re.compile(rb'"at":"([0-9T:.-]+Z)"')
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
    "agent-os-kernel": (
        "agent_os",
        """
from agent_os.policies import PolicyAction, PolicyCondition, PolicyDocument, PolicyEvaluator, PolicyOperator, PolicyRule
from agent_os.policies.schema import PolicyDefaults
condition = PolicyCondition(field="key", operator=PolicyOperator.MATCHES, value="^triage.files.read$")
rule = PolicyRule(name="r", condition=condition, action=PolicyAction.ALLOW, priority=0)
document = PolicyDocument(name="p", rules=[rule], defaults=PolicyDefaults(action=PolicyAction.DENY))
evaluator = PolicyEvaluator(policies=[document])
def decide(asked):
    return bool(evaluator.evaluate({"key": asked["agent"] + "|" + asked["action"]}).allowed)
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


def ask(connection: socket.socket, token: str, asked: dict[str, Any] = ASKED) -> None:
    """One request in one packet, and its answer: a client that sends head and body apart measures the delayed ACK of TCP."""
    body = json.dumps(asked).encode()
    connection.sendall(HEAD % (token.encode(), len(body)) + body)
    received = b""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received[:500]
    (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(rest) < length:
        rest += connection.recv(65536)


def measured(
    name: str, url: str, pid: int, tokens: list[str] | None = None, *, other_questions: bool = False
) -> dict[str, Any]:
    """Ask so many decisions, one after the other, with each of the tokens in turn; with `other_questions` each about another file."""
    given = tokens or [""]

    def asked(number: int) -> dict[str, Any]:
        return {**ASKED, "arguments": {"path": f"runbooks/{number}.md"}} if other_questions else ASKED

    took: list[float] = []
    idle = memory_mib(pid)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(WARM):  # until everything is imported and cached
            ask(connection, given[number % len(given)], asked(number))
        before = processor_s(pid)
        for number in range(WARM, WARM + REQUESTS):
            begun = time.perf_counter()
            ask(connection, given[number % len(given)], asked(number))
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
    with prepared() as (workspace, key):
        for name, count in (("Remit", 1), ("Remit, other questions", 1), ("Remit, new tokens", WARM + REQUESTS)):
            with token_service(workspace, count) as (service, tokens):
                other = name == "Remit, other questions"
                yield measured(name, service.url, service.process.pid, tokens, other_questions=other)
        yield own_service(workspace, key)


@contextmanager
def prepared() -> Iterator[tuple[Path, str]]:
    """A starter workspace with an identity provider and a service, and the API key of that service."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        write_starter(workspace)
        rules, marker = workspace / "policies" / "remit.csv", workspace / "remit.toml"
        rules.write_text(
            rules.read_text()
            + "\ng, user:ann, role:runner\ng, user:admin, role:reviewer\np, service:bench, *, **, True, allow\n"
        )
        text = marker.read_text().replace("users = [", 'users = ["user:ann", "user:admin", "service:bench", ')
        marker.write_text(text + SETTINGS)
        scope = KeyScope(actions=("remit.run", "remit.read"), agents=("triage",))
        session = open_session(workspace)
        with session.journal:
            key = create_key(session, "service:bench", scope, by=principal("admin")).text
        yield workspace, key


def own_service(workspace: Path, key: str) -> dict[str, Any]:
    """Start and memory of `remit serve`, its listeners, and the commands that use it."""
    begun = time.perf_counter()
    with remit_serve(workspace) as service:
        started = time.perf_counter() - begun
        idle = memory_mib(service.process.pid)
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
            for _ in range(CALLS):
                client.post("/v1/calls", json={**ASKED, "arguments": {"path": NOTE}}).raise_for_status()
        delays = sorted(listened(service, key))
        after = memory_mib(service.process.pid)
        commands = sorted(command_s(workspace) for _ in range(10))
        return {
            "server": "remit serve",
            "start_s": round(started, 2),
            "idle_mib": round(idle, 1),
            "after_runs_mib": round(after, 1),
            "listeners": LISTENERS,
            "delays": len(delays),
            "listening_p95_ms": round(delays[int(len(delays) * 0.95)] * 1e3, 1),
            "call_s": round(commands[len(commands) // 2], 3),
        }


def listened(service: ServiceProcess, key: str) -> list[float]:
    """How long after its time each event of a run reached each listener that was there before it, in seconds."""
    headers = {"authorization": f"Bearer {key}"}
    task = {"agent": "triage", "task": "Checkout is failing: find out why"}
    started = httpx.post(f"{service.url}/v1/runs", json=task, headers=headers, timeout=60).raise_for_status().json()
    asked = LISTEN % (started["value"]["run"].encode(), key.encode())

    async def everyone() -> list[list[tuple[float, bytes]]]:
        return await asyncio.gather(*(listen(service.port, asked) for _ in range(LISTENERS)))

    # The texts are read afterwards, so that the client does not make its own listeners wait.
    return [
        at - sent.timestamp()
        for received in asyncio.run(everyone())
        for at, data in received
        for sent in (datetime.fromisoformat(text.decode()) for text in SENT.findall(data))
        if sent.timestamp() > received[0][0]
    ]


async def listen(port: int, asked: bytes) -> list[tuple[float, bytes]]:
    """What one listener received, and when (Unix seconds)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asked)
    received = []
    while data := await reader.read(65536):
        received.append((time.time(), data))
    writer.close()
    return received


def command_s(workspace: Path) -> float:
    """The wall time of one `remit call`, which the service executes."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "remit", "call", "files.read", json.dumps({"path": NOTE}), "--agent", "triage"]
    subprocess.run(command, cwd=workspace, capture_output=True, check=True)
    return time.perf_counter() - begun


def bars(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Each bar, and whether it is met."""
    remit, new, own, bare = (found[name] for name in ("Remit", "Remit, new tokens", "remit serve", "Starlette"))
    times = remit["p99_ms"] / bare["p99_ms"]
    for text, value, most in (
        ("µs of processor time for a decision", remit["cpu_us"], DECISION_US),
        ("µs of processor time for a decision with a new token", new["cpu_us"], NEW_TOKEN_US),
        ("times bare Starlette's p99", round(times, 1), TIMES_BARE),
        ("s until the service has started", own["start_s"], START_S),
        ("MiB when idle", own["idle_mib"], IDLE_MIB),
        (f"MiB after {CALLS} calls and a run", own["after_runs_mib"], AFTER_RUNS_MIB),
        (f"ms from an event to {LISTENERS} listeners (p95)", own["listening_p95_ms"], LISTENING_MS),
        ("s for `remit call` while a service runs", own["call_s"], CALL_S),
    ):
        yield f"{value} {text} (at most {most:g})", value <= most


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
