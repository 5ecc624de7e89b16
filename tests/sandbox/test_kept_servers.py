"""An MCP server in the live sandbox of a run has the decided files of a call while it runs, and gets out by no way it tries."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import Refusal, RunEnded
from remit.sandbox.live.pool import LivePool
from remit.sandbox.live.started import LiveSandbox
from support.live import committed
from support.mcp_kept import KeptServer, text
from support.sandbox import below, command

FLIPS = int(os.environ.get("REMIT_FLIPS", "40"))  # calls under a swap race; `make soak` has 4,000


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[KeptServer]:
    server = KeptServer(base=tmp_path)
    yield server
    await server.sandbox.close()


# -- files -------------------------------------------------------------------------------------------------------------


async def test_a_call_has_the_decided_file_and_nothing_else_exists(kept: KeptServer) -> None:
    kept.file("docs/a.md", "decided")
    kept.file("docs/b.md", "other")
    kept.file("key", "secret")
    assert text(await kept.do("open /work/files/docs/a.md", reads=("docs/a.md",))) == "decided"
    assert text(await kept.do("folder /work", reads=("docs/a.md",))) == '["/work/files/docs/a.md"]'
    for name in (
        "/work/files/docs/b.md",
        "/work/files/key",
        "/inside/all/key",
        "/work/files/../../key",
        f"{kept.root}/key",
    ):
        found = text(await kept.do(f"open {name}", reads=("docs/a.md",)))
        assert found.startswith(("FileNotFoundError", "PermissionError")), (name, found)
    assert text(await kept.do("open /work/files/docs/b.md", reads=("docs/b.md",))) == "other"
    assert kept.sandbox.live[0] == 1


async def test_a_file_is_gone_when_its_call_has_ended(kept: KeptServer) -> None:
    kept.file("a.md", "decided")
    assert text(await kept.do("open /work/files/a.md", reads=("a.md",))) == "decided"
    assert text(await kept.do("open /work/files/a.md")).startswith("FileNotFoundError")


async def test_what_is_written_is_saved_if_it_was_decided_and_nothing_else_is(kept: KeptServer) -> None:
    kept.file("a.md", "before")
    output = await kept.call("write-file", {"path": "/work/files/out/x.md", "text": "new"}, writes=("out/x.md",))
    assert committed(output) == ["out/x.md"]
    assert (kept.root / "out/x.md").read_text() == "new"
    output = await kept.do("stray /work/files/out/stray.md", writes=("out/x.md",))
    assert committed(output) == []
    assert "1 files that this call may not write were not saved" in output.stderr
    for at in ("/work/files/a.md", "/work/files/new", "/work/new", "/tool/new", "/new"):
        assert (await kept.do(f"stray {at}", reads=("a.md",))).code is not None, at
    assert (kept.root / "a.md").read_text() == "before"
    assert sorted(os.listdir(kept.root / "out")) == ["x.md"]


async def test_a_link_that_the_server_puts_where_it_may_write_saves_nothing(kept: KeptServer, tmp_path: Path) -> None:
    kept.file("key", "secret")
    for target in ("/inside/all/key", "/work/files/../../inside/all/key", "/proc/1/root"):
        output = await kept.do(f"link {target} /work/files/x.md", writes=("x.md",))
        assert committed(output) == []
    assert not (kept.root / "x.md").exists()


async def test_a_swapped_file_is_never_read_or_written_outside(kept: KeptServer) -> None:
    """During every call, a thread swaps the decided file, and the one to write, with links to outside."""
    secret = kept.file("../outside/secret", "SECRET")
    kept.file("target", "plain")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for name in ("target", "out"):
                link, file = kept.root / f"{name}.link", kept.root / f"{name}.file"
                link.symlink_to(secret)
                os.rename(link, kept.root / name)
                file.write_text("plain")
                os.rename(file, kept.root / name)

    seen: set[str] = set()
    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        for _ in range(FLIPS):
            seen.add(text(await kept.do("open /work/files/target", reads=("target",))))
            arguments = {"path": "/work/files/out", "text": "written"}
            output = await kept.call("write-file", arguments, writes=("out",))
            assert output.scratch is not None, output
            with suppress(Refusal):  # a link lies at the destination
                output.scratch.commit()
            assert secret.read_text() == "SECRET"
    finally:
        stop.set()
        flipper.join()
    assert "SECRET" not in seen
    assert "plain" in seen
    assert os.listdir(secret.parent) == ["secret"]


# -- ways out ----------------------------------------------------------------------------------------------------------


async def test_a_server_without_hosts_resolves_and_reaches_none(kept: KeptServer) -> None:
    assert text(await kept.do("host example.com")) in ("gaierror", "PermissionError")


@pytest.mark.parametrize("call", ["unshare 268435456", "unshare 131072", "setns 0 131072"])
async def test_a_server_makes_no_namespace_and_no_mount(kept: KeptServer, call: str) -> None:
    assert text(await kept.do(f"system {call}")) == str(errno.EPERM)
    assert text(await kept.do("system sched_yield")) == "0"  # in the same way, a call that it may make


async def test_a_server_has_the_variables_of_its_manifest_and_no_others(
    kept: KeptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary")
    found = json.loads(text(await kept.do("environment", env={"OWN": "given"})))
    assert found["OWN"] == "given"
    assert "canary" not in json.dumps(found)
    assert not [name for name in found if name.startswith(("SOME", "REMIT", "SSH", "XDG"))]


async def test_a_server_that_keeps_a_file_open_has_it_in_its_run_and_in_no_other(kept: KeptServer) -> None:
    """Why everything that it was given counts as known to each later call of the run."""
    kept.file("private", "SECRET")
    assert text(await kept.do("keep /work/files/private", reads=("private",))) == "kept"
    assert text(await kept.do("kept", run="other")) == "nothing"
    assert text(await kept.do("kept")) == "SECRET"
    assert kept.sandbox.live[0] == 2


async def test_the_end_of_a_run_ends_its_server(kept: KeptServer) -> None:
    await kept.do("kept")
    assert servers()
    kept.sandbox.end_run("run")
    assert not servers()


async def test_between_two_calls_nothing_of_the_server_runs(kept: KeptServer) -> None:
    await kept.do("later")
    before = int(text(await kept.do("ticks")))
    await asyncio.sleep(0.5)  # 50 ticks, if it ran
    assert int(text(await kept.do("ticks"))) < before + 25
    await kept.do("sleep 0.5")
    assert int(text(await kept.do("ticks"))) > before + 25


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "given", "code"),
    [
        ("sleep 60", {"wall": 0.5}, "timeout"),
        ("burn", {"cpu": 1.0}, "tool_crashed"),
        ("die", {}, "tool_crashed"),
        ("elicit Which one?", {}, "tool_crashed"),
        (
            'raw {"jsonrpc":"2.0","id":NUMBER,"result":{"resultType":"input_required","requestState":"x"}}',
            {},
            "invalid_output",
        ),
        ("long 300000", {"output": 100_000}, "resource_exhausted"),
        ("print 3000000", {"output": 100_000}, "resource_exhausted"),
        ("raw no json", {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":NUMBER,"result":{"content":[]},"result":{"content":[]}}', {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":12345,"result":{}}', {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":NUMBER,"result":{"content":[{"type":"video"}]}}', {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":NUMBER,"result":[]}', {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":NUMBER}', {}, "invalid_output"),
        ('raw {"jsonrpc":"1.0","id":NUMBER,"result":{}}', {}, "invalid_output"),
        ('raw {"jsonrpc":"2.0","id":NUMBER,"error":{"code":-32000,"message":"broken"}}', {}, "tool_crashed"),
    ],
)
async def test_a_call_that_ends_badly_gets_its_code_and_the_next_one_a_fresh_server(
    kept: KeptServer, what: str, given: dict[str, float], code: str
) -> None:
    assert (await kept.call("count", {}, **given)).value["structured"] == {"calls": 1}
    output = await kept.do(what, **given)
    assert output.code == code, output
    assert output.entered
    following = await kept.call("count", {}, **given)
    assert following.value is not None, following
    assert following.value["structured"] == {"calls": 1}
    assert kept.sandbox.live[0] == 1


async def test_a_sandbox_that_starts_for_a_run_that_has_ended_meanwhile_is_ended(
    kept: KeptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nothing would end it."""
    await kept.do("kept")  # the listing that pins the server is of another run
    started, made = LivePool._started, list[LiveSandbox]()

    async def ends_meanwhile(self: LivePool, *given: Any) -> LiveSandbox:
        made.append(await started(self, *given))
        self.end_run("brief")
        return made[-1]

    monkeypatch.setattr(LivePool, "_started", ends_meanwhile)
    with pytest.raises(RunEnded, match="did not start"):
        await kept.do("kept", run="brief")
    assert [sandbox.process._process.returncode is not None for sandbox in made] == [True] * len(made)
    assert made
    monkeypatch.undo()
    assert text(await kept.do("kept", run="brief")) == "nothing"


async def test_a_cancelled_call_leaves_no_server(kept: KeptServer) -> None:
    await kept.do("kept")
    task = asyncio.create_task(kept.do("sleep 60"))
    await asyncio.sleep(0.3)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not servers()
    assert text(await kept.do("kept")) == "nothing"


async def test_calls_run_one_after_another(kept: KeptServer) -> None:
    counted = await asyncio.gather(*(kept.call("count", {}) for _ in range(5)))
    assert sorted(output.value["structured"]["calls"] for output in counted) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "behaviour",
    [
        {"start": "hello\n"},
        {"start": "{}\n"},
        {"start": '{"jsonrpc":"2.0","id":9,"result":{}}\n'},
        {"version": "1999-01-01"},
    ],
)
async def test_a_server_that_does_not_begin_as_its_protocol_says_runs_no_call(
    kept: KeptServer, behaviour: dict[str, str]
) -> None:
    await kept.do("kept")
    kept.behave(behaviour)
    output = await kept.do("kept")
    assert (output.code, output.entered) == ("tool_crashed", False)
    kept.behave({})
    assert text(await kept.do("kept")) == "nothing"


def servers() -> list[int]:
    return [pid for pid in below(os.getpid()) if b"/tool/server.py" in command(pid)]
