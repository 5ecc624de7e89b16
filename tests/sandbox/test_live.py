"""Live sandboxes: one for each run; a call has exactly the decided files for as long as it runs; nothing crosses runs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import Refusal
from remit.sandbox import Output, argv, find_bwrap, process
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.live import LiveBounds
from remit.sandbox.live.selfcheck import live_note
from remit.sandbox.profile import runtime
from support.http_servers import FakeResolver, Response, Server, network, trust
from support.live import LiveHarness, committed
from support.sandbox import below, command, sandboxed

FLIPS = int(os.environ.get("REMIT_FLIPS", "40"))  # calls under a swap race; `make soak` has 4,000


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveHarness]:
    harness = LiveHarness(base=tmp_path)
    yield harness
    await harness.sandbox.close()


def value(output: Output) -> str:
    assert output.code is None, output
    assert isinstance(output.value, str)
    return output.value


# -- what a call has ---------------------------------------------------------------------------------------------------


async def test_a_call_has_the_decided_file_and_nothing_else_exists(live: LiveHarness) -> None:
    live.file("docs/a.md", "decided")
    live.file("docs/b.md", "other")
    live.file("key", "secret")
    assert value(await live.sh("cat docs/a.md; ls . docs", reads=("docs/a.md",))) == "decided.:\ndocs\n\ndocs:\na.md\n"
    for name in ("docs/b.md", "key", "../key", "/inside/all/key", f"{live.root}/key"):
        output = await live.sh(f"cat {name}", reads=("docs/a.md",))
        assert output.code == "tool_crashed", output
        assert "secret" not in output.stderr
        assert "No such file" in output.stderr or "Permission denied" in output.stderr
    assert value(await live.sh("cat docs/b.md", reads=("docs/b.md",))) == "other"


async def test_a_decided_folder_has_its_files_and_a_listed_one_only_their_names(live: LiveHarness) -> None:
    live.file("docs/a.md", "a")
    live.file("docs/in/b.md", "b")
    assert value(await live.sh("cat docs/a.md docs/in/b.md", reads=("docs/**",))) == "ab"
    assert value(await live.sh("ls docs", reads=("docs",))) == "a.md\nin\n"
    output = await live.sh("cat docs/a.md", reads=("docs",))
    assert "No such file" in output.stderr


async def test_what_is_a_link_or_no_file_is_not_there(live: LiveHarness) -> None:
    secret = live.file("../outside", "secret")
    (live.root / "link").symlink_to(secret)
    (live.root / "folder").symlink_to(secret.parent)
    live.file("hidden/secret", "secret")
    (live.root / "alias").symlink_to("hidden")
    os.mkfifo(live.root / "pipe")
    for name in ("link", "folder/outside", "alias/secret", "pipe", "missing"):
        output = await live.sh(f"cat {name}", reads=(name,))
        assert output.code == "tool_crashed", output
        assert "No such file" in output.stderr


async def test_a_read_file_cannot_be_changed_and_a_written_one_is_committed_alone(live: LiveHarness) -> None:
    live.file("a.md", "before")
    for change in ("echo x > a.md", "rm a.md", "mv a.md b.md", "ln a.md b.md", "echo x > new.md", "mkdir new"):
        output = await live.sh(change, reads=("a.md",))
        assert output.code is not None, (change, output)
    script = "cat a.md > out/x.md; echo more >> out/x.md; echo stray > out/stray.md; echo stray > stray.md"
    output = await live.sh(script, reads=("a.md",), writes=("out/x.md",))
    assert "2 files that this call may not write were not saved" in output.stderr
    assert committed(output) == ["out/x.md"]
    assert (live.root / "out/x.md").read_text() == "beforemore\n"
    assert sorted(os.listdir(live.root)) == ["a.md", "out"]
    assert os.listdir(live.root / "out") == ["x.md"]
    output = await live.sh("cat out/stray.md", reads=("out/stray.md",))
    assert "No such file" in output.stderr


async def test_a_file_that_is_read_and_written_is_a_copy_until_the_commit(live: LiveHarness) -> None:
    live.file("edit.md", "one\n")
    live.file("gone.md", "gone")
    names = ("edit.md", "gone.md")
    output = await live.sh("echo two >> edit.md; rm gone.md", reads=names, writes=names)
    assert (live.root / "edit.md").read_text() == "one\n"
    assert committed(output) == ["edit.md", "gone.md"]
    assert (live.root / "edit.md").read_text() == "one\ntwo\n"
    assert not (live.root / "gone.md").exists()


async def test_the_process_of_a_call_can_mount_unmount_and_enter_nothing(live: LiveHarness) -> None:
    """The filter has no call that makes a namespace or a mount; the same script runs what it may."""
    script = "{}; echo $?"
    for attempt in ("unshare -U true", "unshare -m true", "umount /work", "mount -t tmpfs none /work", "kill -9 1"):
        assert value(await live.sh(f"{script.format(attempt)} 2>&1")).strip().splitlines()[-1] != "0", attempt
    assert value(await live.sh("ls /proc /inside; true")) == ""
    assert value(await live.sh("echo still here")) == "still here\n"


async def test_a_swapped_file_is_never_read_or_written_outside(live: LiveHarness) -> None:
    """During every call, a thread swaps the decided file, the folder above another and the one to write with links to outside."""
    secret = live.file("../outside/secret", "SECRET")
    live.file("plain", "plain")
    live.file("folder/secret", "plain")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for name in ("target", "out"):
                link, file = live.root / f"{name}.link", live.root / f"{name}.file"
                link.symlink_to(secret)
                os.rename(link, live.root / name)
                file.write_text("plain")
                os.rename(file, live.root / name)
            os.rename(live.root / "folder", live.root / "kept")
            (live.root / "folder").symlink_to(secret.parent)
            os.unlink(live.root / "folder")
            os.rename(live.root / "kept", live.root / "folder")

    seen: set[str] = set()
    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        for _ in range(FLIPS):
            script = "head -c 20 target folder/secret 2>/dev/null; echo written > out"
            output = await live.sh(script, reads=("target", "folder/secret"), writes=("out",))
            assert output.code is None, output
            seen.add(value(output))
            assert output.scratch is not None
            with suppress(Refusal):  # a link lies at the destination
                output.scratch.commit()
            assert secret.read_text() == "SECRET"
    finally:
        stop.set()
        flipper.join()
    assert not [text for text in seen if "SECRET" in text]
    assert any("plain" in text for text in seen)
    assert os.listdir(secret.parent) == ["secret"]


# -- one run, one sandbox ----------------------------------------------------------------------------------------------


async def test_the_calls_of_a_run_share_a_sandbox_and_its_temporary_files(live: LiveHarness) -> None:
    await live.sh("echo kept > /tmp/kept")
    assert value(await live.sh("cat /tmp/kept")) == "kept\n"
    assert live.sandbox.live == (1, 0)


async def test_another_run_sees_no_file_process_or_variable_of_a_run(live: LiveHarness) -> None:
    live.file("private", "SECRET")
    keep = "exec 3<private; echo left > /tmp/left; (setsid sh -c 'sleep 20; cat <&3' >/dev/null 2>&1 &)"
    value(await live.sh(keep, reads=("private",), env={"OF_RUN": "first"}))
    look = "cat /tmp/left /work/private <&3 2>&1; env; ls -a /tmp; true"
    looked = value(await live.sh(look, run="other", env={"OF_RUN": "other"}))
    assert "SECRET" not in looked
    assert "OF_RUN=other" in looked
    assert "first" not in looked
    assert "left\n" not in looked
    assert value(await live.sh("cat /tmp/left", env={"OF_RUN": "first"})) == "left\n"
    assert live.sandbox.live[0] == 2


async def test_what_a_call_leaves_running_sees_nothing_of_later_calls(live: LiveHarness) -> None:
    live.file("later", "SECRET")
    watch = "while [ ! -e /tmp/stop ]; do cat /work/later >> /tmp/seen 2>/dev/null; done; echo over > /tmp/over"
    await live.sh(f"(setsid sh -c '{watch}' >/dev/null 2>&1 &)")
    for _ in range(5):
        assert value(await live.sh("cat later; sleep 0.05", reads=("later",))) == "SECRET"
    ended = "echo > /tmp/stop; while [ ! -e /tmp/over ]; do sleep 0.01; done; cat /tmp/over /tmp/seen"
    assert value(await live.sh(ended)) == "over\n"


async def test_a_file_that_a_call_keeps_open_is_known_in_its_sandbox_and_gone_for_new_openings(
    live: LiveHarness,
) -> None:
    """Why everything that a sandbox was given counts as known to its later calls."""
    live.file("private", "SECRET")
    keep = "(exec 3<private; setsid sh -c 'while [ ! -e /tmp/go ]; do sleep 0.01; done; cat <&3 > /tmp/kept; echo > /tmp/done' &)"
    value(await live.sh(f"{keep} >/dev/null 2>&1", reads=("private",)))
    got = value(
        await live.sh("cat private; echo > /tmp/go; while [ ! -e /tmp/done ]; do sleep 0.01; done; cat /tmp/kept")
    )
    assert got == "SECRET"


async def test_a_file_cannot_be_opened_any_more_once_its_call_has_ended(live: LiveHarness) -> None:
    live.file("private", "SECRET")
    again = "sleep 0.3; cat /work/private > /tmp/again 2>/dev/null; echo > /tmp/over"
    value(await live.sh(f"(setsid sh -c '{again}' >/dev/null 2>&1 &)", reads=("private",)))
    await asyncio.sleep(0.6)
    assert value(await live.sh("while [ ! -e /tmp/over ]; do sleep 0.01; done; cat /tmp/again")) == ""


async def test_the_end_of_a_run_ends_its_processes_and_no_others(live: LiveHarness) -> None:
    for name in ("one", "two"):
        await live.sh("(setsid sleep 60 >/dev/null 2>&1 &)", run=name)
    live.sandbox.end_run("one")
    assert live.sandbox.live[0] == 1
    for _ in range(100):  # setsid becomes sleep a moment later
        left = [pid for pid in below(os.getpid()) if command(pid).startswith(b"sleep\0")]
        if len(left) == 1:
            break
        await asyncio.sleep(0.1)
    assert len(left) == 1
    live.sandbox.end_run("two")
    assert not [pid for pid in below(os.getpid()) if command(pid).startswith(b"sleep\0")]


async def test_a_tool_with_life_call_and_one_that_writes_a_store_have_a_sandbox_for_each_call(
    live: LiveHarness,
) -> None:
    await live.sandbox.run(live.profile("sh", "-c", "true", stores=("kept",)), {})
    untrusted = live.profile("sh", "-c", "true", trust="none")
    assert not untrusted.stays_live
    await live.sandbox.run(untrusted, {})
    assert live.sandbox.live == (0, 0)


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_calls_with_other_files_wait_and_equal_ones_run_together(live: LiveHarness) -> None:
    live.file("a", "a")
    live.file("b", "b")
    meet = "echo > /tmp/{0}; while [ ! -e /tmp/{1} ]; do sleep 0.01; done; cat a"
    both = await asyncio.gather(
        live.sh(meet.format("x", "y"), reads=("a",)), live.sh(meet.format("y", "x"), reads=("a",))
    )
    assert [value(output) for output in both] == ["a", "a"]
    apart = "[ -e /tmp/busy ] && echo met; echo > /tmp/busy; sleep 0.2; rm /tmp/busy; cat {0}"
    both = await asyncio.gather(live.sh(apart.format("a"), reads=("a",)), live.sh(apart.format("b"), reads=("b",)))
    assert [value(output) for output in both] == ["a", "b"]


async def test_calls_that_write_never_run_together(live: LiveHarness) -> None:
    script = "[ -e /tmp/busy ] && echo met; echo > /tmp/busy; sleep 0.1; rm /tmp/busy; echo x > out"
    outputs = await asyncio.gather(*(live.sh(script, writes=("out",)) for _ in range(3)))
    assert [value(output) for output in outputs] == ["", "", ""]
    assert [committed(output) for output in outputs] == [["out"]] * 3


async def test_a_call_that_gives_up_while_it_waits_lets_the_others_go_on(live: LiveHarness) -> None:
    live.file("a", "a")
    first = asyncio.create_task(live.sh("sleep 0.3"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(live.sh("cat a", reads=("a",)))
    third = asyncio.create_task(live.sh("echo third"))
    await asyncio.sleep(0)
    second.cancel()
    assert value(await third) == "third\n"
    assert value(await first) == ""
    with pytest.raises(asyncio.CancelledError):
        await second


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "given", "code"),
    [
        pytest.param("sleep 60", {"wall": 0.3}, "timeout", id="no end"),
        pytest.param("while true; do echo yes; done", {}, "resource_exhausted", id="flood"),
        pytest.param("exit 3", {}, "tool_crashed", id="an undeclared status"),
        pytest.param("kill -9 $PPID; sleep 5", {}, "tool_crashed", id="kills the process of its call"),
    ],
)
async def test_a_call_that_ends_badly_gets_its_code_and_the_next_one_a_fresh_sandbox(
    live: LiveHarness, script: str, given: dict[str, float], code: str
) -> None:
    await live.sh("echo kept > /tmp/kept")
    output = await live.sh(script, **given)
    assert output.code == code, output
    assert value(await live.sh("ls /tmp")) == ""
    assert live.sandbox.live == (1, 0)


async def test_a_sandbox_that_is_killed_during_a_call_is_a_crash_and_the_next_call_goes_on(live: LiveHarness) -> None:
    await live.sh("true")
    task = asyncio.create_task(live.sh("sleep 60"))
    while not [pid for pid in below(os.getpid()) if command(pid).startswith(b"sleep\0")]:
        await asyncio.sleep(0.01)
    for pid in sandboxed():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    output = await task
    assert output.code == "tool_crashed", output
    assert value(await live.sh("echo again")) == "again\n"


async def test_a_cancelled_call_leaves_no_process(live: LiveHarness) -> None:
    task = asyncio.create_task(live.sh("setsid sleep 60"))
    while not [pid for pid in below(os.getpid()) if command(pid).startswith(b"sleep\0")]:
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not [pid for pid in below(os.getpid()) if command(pid).startswith(b"sleep\0")]


async def test_the_pool_is_bounded_and_what_is_idle_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.sandbox.live.pool._TICK_SECONDS", 0.05)
    live = LiveHarness(base=tmp_path, bounds=LiveBounds(most=2, most_unused=1, unused_s=0.5, idle_s=0.5))
    try:
        for number in range(5):
            assert value(await live.sh("echo here", run=f"run {number}")) == "here\n"
            assert live.sandbox.live[0] <= 2
        await until(lambda: live.sandbox.live[1] == 1)
        started = time.monotonic()
        value(await live.sh("echo here", run="with a started one"))
        await until(lambda: live.keepers() == 0)
        assert time.monotonic() - started < 20
        await until(lambda: not sandboxed())
    finally:
        await live.sandbox.close()


async def test_more_calls_at_once_than_live_sandboxes_get_sandboxes_of_their_own(tmp_path: Path) -> None:
    live = LiveHarness(base=tmp_path, bounds=LiveBounds(most=1))
    try:
        outputs = await asyncio.gather(*(live.sh("sleep 0.3; echo here", run=f"run {number}") for number in range(3)))
        assert [value(output) for output in outputs] == ["here\n"] * 3
        assert live.sandbox.live[0] == 1
    finally:
        await live.sandbox.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


async def test_where_nothing_can_be_mounted_each_call_has_a_sandbox_of_its_own_and_the_doctor_has_the_line(
    live: LiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under Ubuntu's AppArmor profile, which takes the capabilities from what bubblewrap starts."""
    monkeypatch.setattr(process, "argv", without_capabilities)
    live.file("a.md", "decided")
    assert value(await live.sh("cat a.md; echo > /tmp/kept", reads=("a.md",))) == "decided"
    assert value(await live.sh("ls /tmp; cat a.md", reads=("a.md",))) == "decided"
    assert live.sandbox.live == (0, 0)
    note = live_note(runtime(find_bwrap()))
    assert "each call of a command tool starts a sandbox of its own" in note
    assert f"profile bwrap {find_bwrap()} flags=(unconfined) {{ userns, }}" in note
    monkeypatch.undo()
    assert live_note(runtime(find_bwrap())) == ""


def without_capabilities(*given: Any, **more: Any) -> list[str]:
    line = argv(*given, **more)
    return [word for at, word in enumerate(line) if "--cap-add" not in (word, line[at - 1])]


# -- /proc -------------------------------------------------------------------------------------------------------------


async def test_only_a_tool_that_asks_for_it_has_a_proc_of_its_own_sandbox(live: LiveHarness) -> None:
    assert "No such file" in value(await live.sh("cat /proc/self/status 2>&1; true"))
    script = "cat /proc/self/status | head -n 1; ls /proc | head -c 2; cat /proc/1/environ /proc/1/maps; echo x > /proc/sys/kernel/hostname; true"
    output = await live.sh(script, proc=True)
    assert value(output).startswith("Name:\tcat\n1\n")
    assert output.stderr.count("Permission denied") + output.stderr.count("Read-only") >= 2
    assert value(await live.sh(f"[ -e /proc/{os.getpid()}/exe ] && echo seen; true", proc=True)) == ""


# -- the network -------------------------------------------------------------------------------------------------------

PYTHON = runtime(None).python
GET = """
import sys, os, urllib.request
def get(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError as failure:
        return str(failure)
print(*(get(url) for url in sys.argv[1:]), sep="|")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the full tier")
async def test_the_token_of_a_sandbox_reaches_what_the_running_call_may_reach_and_nothing_between_calls(
    tmp_path: Path,
) -> None:
    resolver = FakeResolver()
    resolver.answers = {"one.test": [["127.0.0.1"]], "two.test": [["127.0.0.1"]]}
    live = LiveHarness(base=tmp_path, egress=Egress(resolver=resolver, trust=trust(), idle=20), programs=(PYTHON, "sh"))
    try:
        with Server(lambda _: Response(body=b"one")) as one, Server(lambda _: Response(body=b"two")) as two:
            urls = (f"http://one.test:{one.port}/", f"http://two.test:{two.port}/")
            first, second = network(f"one.test:{one.port}"), network(f"two.test:{two.port}")
            outputs = await asyncio.gather(
                live.run(PYTHON, "-c", GET, *urls, network=first, permit=Permit()),
                live.run(PYTHON, "-c", GET, *urls, network=second, permit=Permit()),
            )
            got = [value(output) for output in outputs]
            assert [text.split("|")[0].strip() == "one" for text in got] == [True, False], got
            assert [text.split("|")[1].strip() == "two" for text in got] == [False, True], got
            assert [[item.host for item in output.connections if item.verdict == "allowed"] for output in outputs] == [
                ["one.test"],
                ["two.test"],
            ]
            same = await asyncio.gather(
                *(live.run(PYTHON, "-c", GET, urls[0], network=first, permit=Permit()) for _ in range(2))
            )
            assert [value(output) for output in same] == ["one\n", "one\n"]
            assert sum(len(output.connections) for output in same) == 2
    finally:
        await live.sandbox.close()
