"""What a call of an MCP server takes in the live sandbox of its run, beside the same server unconfined: `make bench-mcp`.

The server is that of the tests, of the standard library: it reads one file. "bare" is the same program with the same interpreter,
used over its pipes. Both take turns, in one real-time class where the account may have one.

Bars: a call in a started live sandbox adds at most 3 ms to the server's own time; the first call of a run at most 150 ms to the start
of the server. The memory of one server, confined and bare, is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from benchmarks.live import real_time

from remit.sandbox.packages import base_python
from support.mcp_kept import KeptServer, text
from support.sandbox import below, command

ROOT: Final = Path(__file__).parents[2]
BAR_MS, FIRST_BAR_MS = 3.0, 150.0
SPACE_S: Final = 0.02


class Bare:
    """The same server, unconfined."""

    def __init__(self, folder: Path) -> None:
        line = [base_python(), "-S", "-B", str(folder / "server.py")]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self.number = 0
        started = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
        self.ask("server/discover", {})
        self.ask("initialize", started)
        self.ask("tools/list", {})

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


async def measure(base: Path, rounds: int) -> dict[str, Any]:
    base.chmod(0o755)
    kept = KeptServer(base=base)
    at = kept.file("a.md", "x" * 80)
    bare = Bare(base / "tool")
    times: dict[str, list[float]] = {name: [] for name in ("bare", "kept", "bare, started", "kept, first of a run")}

    def bare_call(server: Bare) -> None:
        found = server.ask("tools/call", {"name": "read-file", "arguments": {"path": str(at)}})
        assert found["result"]["content"][0]["text"] == "x" * 80

    async def call(name: str, **given: Any) -> None:
        started = time.perf_counter()
        output = await kept.call("read-file", {"path": "/work/files/a.md"}, reads=("a.md",), **given)
        if name:
            times[name].append(time.perf_counter() - started)
        assert text(output) == "x" * 80

    await call("")
    await call("")
    for number in range(rounds):
        await asyncio.sleep(SPACE_S)
        started = time.perf_counter()
        bare_call(bare)
        times["bare"].append(time.perf_counter() - started)
        await call("kept")
        if number % 10 == 0:
            started = time.perf_counter()
            other = Bare(base / "tool")
            bare_call(other)
            times["bare, started"].append(time.perf_counter() - started)
            other.close()
            await call("kept, first of a run", run=f"run {number}")
            kept.sandbox.end_run(f"run {number}")
    memory = {
        "kept": rss(pid for pid in below(os.getpid()) if b"/tool/server.py" in command(pid) and pid != bare.process.pid)
    }
    memory["bare"] = rss([bare.process.pid])
    bare.close()
    await kept.sandbox.close()
    ms = {name: [1e3 * median(seen), 1e3 * sorted(seen)[int(len(seen) * 0.99)]] for name, seen in times.items()}
    return {"ms": ms, "kib": memory}


def rss(pids: Any) -> list[int]:
    """RSS in KiB of each process."""
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 for pid in pids]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=int(os.environ.get("REMIT_BENCH_ROUNDS", "200")))
    chosen = options.parse_args()
    scheduling = real_time()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as base:
        seen = asyncio.run(measure(Path(base), chosen.rounds))
    print(f"scheduling: {scheduling}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<28}{'p50 ms':>9}{'p99 ms':>9}")
    for name, (p50, p99) in seen["ms"].items():
        print(f"{name:<28}{p50:>9.2f}{p99:>9.2f}")
    print(f"\nRSS of the server in KiB: {seen['kib']}\n")
    bars = [
        ("a call adds", seen["ms"]["kept"][0] - seen["ms"]["bare"][0], BAR_MS),
        (
            "the first call of a run adds",
            seen["ms"]["kept, first of a run"][0] - seen["ms"]["bare, started"][0],
            FIRST_BAR_MS,
        ),
    ]
    for name, added, bar in bars:
        print(
            f"{'held  ' if added <= bar else 'MISSED'} {name} {added:.2f} ms to the server's own time (bar <= {bar:g})"
        )
    (ROOT / ".bench").mkdir(exist_ok=True)
    (ROOT / ".bench" / "mcp_servers.json").write_text(json.dumps({"scheduling": scheduling, **seen}, indent=1))
    return int(any(added > bar for _, added, bar in bars))


if __name__ == "__main__":
    sys.exit(main())
