"""What a call of a command tool takes in the live sandbox of its run, beside one sandbox for each call: `make bench-live`.

The program reads one decided file and prints it. "bare" starts the same program unconfined, from a process as small as the one that
starts it in the sandbox, and waits for its end. Everything takes turns, in one real-time class where the account may have one.

Bars: a call in a started live sandbox adds at most 3 ms to the program's own time; the first call of a run at most 150 ms, also if
no sandbox is started in advance. The memory of one sandbox is printed.
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

from remit.sandbox.live import LiveBounds
from support.live import LiveHarness
from support.sandbox import sandboxed

PROGRAM: Final = ("cat", "decided")
ROOT: Final = Path(__file__).parents[2]
BAR_MS, FIRST_BAR_MS = 3.0, 150.0
SPACE_S: Final = 0.02
BARE: Final = """
import json, subprocess, sys, time
for _ in sys.stdin:
    started = time.perf_counter()
    process = subprocess.Popen(["cat", "decided"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    process.stdout.read()
    process.wait()
    print(time.perf_counter() - started, flush=True)
"""


async def measure(base: Path, rounds: int) -> dict[str, Any]:
    base.chmod(0o755)
    live = LiveHarness(base=base, bounds=LiveBounds(most_unused=0))
    ahead = LiveHarness(base=base)
    live.file("decided", "x" * 80)
    bare = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=live.root
    )
    assert bare.stdin is not None
    assert bare.stdout is not None
    times: dict[str, list[float]] = {
        name: [] for name in ("bare", "live", "one sandbox a call", "first", "first, started ahead")
    }

    async def call(name: str, harness: LiveHarness, **given: Any) -> None:
        await asyncio.sleep(SPACE_S)
        profile = harness.profile(*PROGRAM, reads=("decided",), **given)
        started = time.perf_counter()
        output = await harness.sandbox.run(profile, {})
        if name:
            times[name].append(time.perf_counter() - started)
        assert output.value == "x" * 80, output

    for number in range(3):  # also finds the tier, and lets a sandbox stand by from the second run on
        await call("", live)
        await call("", ahead, run=f"before {number}")
        ahead.sandbox.end_run(f"before {number}")
    memory = resident()
    for number in range(rounds):
        await asyncio.sleep(SPACE_S)
        bare.stdin.write(b"\n")
        bare.stdin.flush()
        times["bare"].append(float(bare.stdout.readline()))
        await call("live", live)
        await call("one sandbox a call", live, life="call")
        if number % 5 == 0:
            await call("first", live, run=f"run {number}")
            live.sandbox.end_run(f"run {number}")
            await asyncio.sleep(0.3)
            await call("first, started ahead", ahead, run=f"run {number}")
            ahead.sandbox.end_run(f"run {number}")
    bare.stdin.close()
    bare.wait()
    await live.sandbox.close()
    await ahead.sandbox.close()
    own = median(times["bare"])
    return {
        "ms": {name: [1e3 * median(seen), 1e3 * sorted(seen)[int(len(seen) * 0.99)]] for name, seen in times.items()},
        "own": own,
        "kib": memory,
    }


def resident() -> list[tuple[int, int]]:
    """RSS and PSS in KiB of the first process of each live sandbox."""
    found: list[tuple[int, int]] = []
    for pid in sandboxed():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        found.append((sizes["Rss"], sizes["Pss"]))
    return found


def real_time() -> str:
    """Put this process and all that it starts into one real-time class, where the account may."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    except OSError:
        return "the usual class: a busy machine shows"
    return "SCHED_RR for all"


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
    print(f"\nmemory of a live sandbox that is not in a call: RSS, PSS in KiB: {seen['kib']}\n")
    own = seen["ms"]["bare"][0]
    bars = [
        ("a call adds", seen["ms"]["live"][0] - own, BAR_MS),
        ("the first call of a run adds", seen["ms"]["first"][0] - own, FIRST_BAR_MS),
    ]
    for name, added, bar in bars:
        print(
            f"{'held  ' if added <= bar else 'MISSED'} {name} {added:.2f} ms to the program's own time (bar <= {bar:g})"
        )
    (ROOT / ".bench").mkdir(exist_ok=True)
    (ROOT / ".bench" / "live.json").write_text(json.dumps({"scheduling": scheduling, **seen}, indent=1))
    return int(any(added > bar for _, added, bar in bars))


if __name__ == "__main__":
    sys.exit(main())
