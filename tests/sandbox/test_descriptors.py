"""The broker accepts at most one descriptor for each file that the call may write, whatever the call sends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from remit.sandbox import Tier
from support.sandbox import ToolHarness, close_sandboxes

MOST_SPARE = 40  # descriptors that a running broker opens and closes by itself

SENDS = """
import os, socket, stat, time
def line() -> socket.socket:
    for number in range(3, 60):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            pass
    raise OSError("there is no line to the broker")
def act(how: str) -> str:
    with open("a.txt", "w") as file:
        file.write("written")
    if how == "honest":
        return "done"
    held = os.open("a.txt", os.O_RDONLY)
    channel = line()
    head = (60_000).to_bytes(4, "big") + b" " * 400
    try:
        if how == "flood":
            for byte in head:
                socket.send_fds(channel, [bytes([byte])], [held] * 200)
        elif how == "one by one":
            for byte in head:
                socket.send_fds(channel, [bytes([byte])], [held])
        elif how == "one more":
            socket.send_fds(channel, [head], [held, held])
    except OSError:
        pass
    time.sleep(20)
    return "came back"
"""


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ToolHarness:
    tier: Tier = request.param
    return ToolHarness(base=tmp_path, tier=tier)


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("trust", ["pinned", "none"])
@pytest.mark.parametrize("how", ["flood", "one by one", "one more"])
async def test_a_call_that_hands_over_more_files_than_it_may_write_is_ended(
    harness: ToolHarness, how: str, trust: str
) -> None:
    """In one message or in many. The broker never has more of them open than the call may write files."""
    assert (await harness.run(SENDS, {"how": "honest"}, writes=("a.txt",), trust=trust)).code is None
    before = held()
    call = asyncio.create_task(harness.run(SENDS, {"how": how}, writes=("a.txt",), trust=trust))
    most = 0
    while not call.done():
        most = max(most, held())
        await asyncio.sleep(0.01)
    output = await call
    assert output.code == "invalid_output", output
    assert "more than 1 files" in output.message
    assert output.scratch is None
    assert most <= before + MOST_SPARE
    await close_sandboxes()


async def test_a_call_that_writes_nothing_hands_nothing_over(harness: ToolHarness) -> None:
    """If no file may be written, the first descriptor ends the call."""
    output = await harness.run(SENDS.replace('open("a.txt", "w")', 'open(os.environ["TMPDIR"] + "/a", "w")').replace(
        'os.open("a.txt", os.O_RDONLY)', "os.dup(0)"
    ), {"how": "one more"})  # fmt: skip
    assert output.code == "invalid_output", output


async def test_a_call_hands_over_every_file_that_it_may_write(harness: ToolHarness) -> None:
    """The twin: all granted files arrive and are saved."""
    names = tuple(f"out/{number}.md" for number in range(64))
    code = """
    def act(names: list[str]) -> int:
        for name in names:
            with open(name, "w") as file:
                file.write(name)
        return len(names)
    """
    output = await harness.run(code, {"names": list(names)}, writes=names)
    assert output.value == 64, output
    assert output.scratch is not None
    assert len(output.scratch.commit()) == 64
    assert (harness.root / "out/63.md").read_text() == "out/63.md"
