"""Read the events of a run while it happens, in a coroutine."""

import asyncio
from collections import Counter

from remit import AsyncRemit


async def main() -> None:
    """Count the events of one run by their type."""
    async with AsyncRemit.open("my-agents") as client, client.stream("triage", "Checkout is failing") as stream:
        seen = Counter([record.event.type async for record in stream if record.event is not None])
        print(stream.result.outcome, "-", seen["call.decided"], "calls decided,", seen["attempt.begun"], "attempts")


asyncio.run(main())
