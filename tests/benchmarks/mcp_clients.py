"""Ten MCP clients of one service beside one client alone: `make bench-mcp_clients`.

The service is one process, and the clients are another one. Each client is a user with a conversation of their own, and calls a tool in a sandbox
once a second on average, as an agent whose model thinks between its calls; times count once every client is connected and has called. The bar: the
p95 of ten clients is under twice that of one client, measured in the same run before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from remit.workspace.template import write_starter
from support.mcp_clients import READ
from support.service_process import ServiceProcess, service_process

CLIENTS: Final = 10
CALLS: Final = 28  # with the first one within the steps of a run
THINKS_S: Final = 1.0
TIMES: Final = 2.0


@asynccontextmanager
async def connected(service: ServiceProcess, name: str) -> AsyncIterator[Client]:
    """A client in its own conversation, which has made its first call."""
    async with (
        create_mcp_http_client(headers={"authorization": "Bearer operator"}) as http,
        Client(streamable_http_client(f"{service.url}/mcp/triage/{name}", http_client=http)) as client,
    ):
        await client.call_tool(*READ)
        yield client


async def call_times(client: Client, calls: int, dice: random.Random) -> list[float]:
    """The wall times of so many calls of one client, in milliseconds."""
    found: list[float] = []
    for _ in range(calls):
        await asyncio.sleep(dice.uniform(0, 2 * THINKS_S))
        began = time.perf_counter()
        result = await client.call_tool(*READ)
        found.append((time.perf_counter() - began) * 1000)
        assert not result.is_error, result
    return found


async def measure(folder: Path, calls: int) -> bool:
    dice = random.Random(20261130)
    with service_process(folder) as service:
        async with AsyncExitStack() as stack:
            names = ("before", "after", *(f"c{number}" for number in range(CLIENTS)))
            before, after, *clients = [await stack.enter_async_context(connected(service, name)) for name in names]
            alone = await call_times(before, calls, dice)
            many = await asyncio.gather(*(call_times(client, calls, dice) for client in clients))
            alone += await call_times(after, calls, dice)
    together = [one for each in many for one in each]
    for label, times in (("1 client", alone), (f"{CLIENTS} clients", together)):
        print(f"{label:12} p50 {statistics.median(times):6.1f} ms  p95 {p95(times):6.1f} ms  {len(times)} calls")
    ratio = p95(together) / p95(alone)
    print(f"p95 of {CLIENTS} clients: {ratio:.2f} times that of one; the bar is {TIMES:g}")
    return ratio < TIMES


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="Calls of each client")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        write_starter(workspace)
        return 0 if asyncio.run(measure(workspace, parser.parse_args().calls)) else 1


if __name__ == "__main__":
    sys.exit(main())
