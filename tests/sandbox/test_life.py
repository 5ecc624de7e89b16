"""What is left after a call: the written files that were granted and committed, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from adversarial.attack_list import abuse
from remit.core.attempts import Change
from remit.core.errors import Refusal
from remit.sandbox import Output, Scratch, Tier, argv, expand, find_bwrap, process
from support.sandbox import ToolHarness, below, close_sandboxes, command, sandbox


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToolHarness:
    """With a separate folder for temporary files, so that a test sees what is left in it."""
    tier: Tier = request.param
    sandbox(tier)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return ToolHarness(base=tmp_path, tier=tier)


def scratch_of(output: Output) -> Scratch:
    assert output.code is None, output
    assert output.scratch is not None
    return output.scratch


def change(name: str, text: str) -> Change:
    return Change(resource=f"file:{name}", digest=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", size=len(text))


async def left_over(harness: ToolHarness) -> list[str]:
    """The temporary files that are left after every warm tool has ended."""
    await close_sandboxes()
    await until(lambda: not any(name.startswith("remit-") for name in os.listdir(harness.base / "tmp")))
    return os.listdir(harness.base / "tmp")


# -- files -------------------------------------------------------------------------------------------------------------


async def test_a_written_file_is_in_place_after_the_commit_and_not_before(harness: ToolHarness) -> None:
    code = """
    import os
    def act() -> None:
        with open("reports/new/x.md.tmp", "w") as file:
            file.write("report")
        os.replace("reports/new/x.md.tmp", "reports/new/x.md")
        open("stray.md", "w")
        open("reports/other.md", "w")
    """
    harness.root.mkdir()
    output = await harness.run(code, writes=("reports/new/x.md",))
    assert os.listdir(harness.root) == []
    assert scratch_of(output).commit() == (change("reports/new/x.md", "report"),)
    assert (harness.root / "reports/new/x.md").read_text() == "report"
    assert sorted(os.listdir(harness.root)) == ["reports"]
    assert sorted(os.listdir(harness.root / "reports")) == ["new"]
    assert "2 files that this call may not write were not saved" in output.stderr
    assert await left_over(harness) == []


async def test_discarded_files_change_nothing(harness: ToolHarness) -> None:
    harness.file("x.md", "before")
    output = await harness.run("def act() -> None:\n    open('x.md', 'w').write('after')\n", writes=("x.md",))
    scratch_of(output).discard()
    scratch_of(output).discard()
    failed = await harness.run(
        "def act() -> None:\n    open('x.md', 'w').write('after')\n    raise ValueError\n", writes=("x.md",)
    )
    assert failed.scratch is None
    assert (harness.root / "x.md").read_text() == "before"
    assert (os.listdir(harness.root), await left_over(harness)) == (["x.md"], [])


async def test_a_file_that_is_read_and_written_is_edited_in_scratch(harness: ToolHarness) -> None:
    """An unchanged file is not committed, a removed one is removed, and modes are kept."""
    harness.file("edit.md", "one\n").chmod(0o640)
    harness.file("same.md", "same")
    harness.file("gone.md", "gone")
    harness.file("read.md", "two\n")
    code = """
    import os
    def act() -> None:
        with open("edit.md", "a") as file:
            file.write(open("read.md").read())
        os.remove("gone.md")
    """
    names = ("edit.md", "same.md", "gone.md")
    output = await harness.run(code, reads=(*names, "read.md"), writes=names)
    assert (harness.root / "gone.md").exists()
    assert scratch_of(output).commit() == (
        change("edit.md", "one\ntwo\n"),
        Change(resource="file:gone.md", digest="", size=0),
    )
    assert sorted(os.listdir(harness.root)) == ["edit.md", "read.md", "same.md"]
    assert (harness.root / "edit.md").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((harness.root / "edit.md").stat().st_mode) == 0o640


async def test_a_link_planted_at_the_destination_is_not_followed(harness: ToolHarness) -> None:
    """A3, A5, A8: a symlink at the name, a symlink on the path, and a hard link to a file outside."""
    secret = harness.file("../outside/secret", "secret")
    harness.file("plain/keep", "")
    names = ("out.md", "folder/out.md", "hard.md", "plain/out.md")

    async def written(name: str) -> Scratch:
        return scratch_of(
            await harness.run(f"def act() -> None:\n    open({name!r}, 'w').write('new')\n", writes=(name,))
        )

    for name, plant in zip(
        names,
        (
            lambda: (harness.root / "out.md").symlink_to(secret),
            lambda: (harness.root / "folder").symlink_to(secret.parent),
            lambda: os.link(secret, harness.root / "hard.md"),
            lambda: None,
        ),
        strict=True,
    ):
        scratch = await written(name)
        plant()
        if name in ("out.md", "folder/out.md"):
            with pytest.raises(Refusal) as refused:
                scratch.commit()
            assert refused.value.code == "sandbox_violation"
        else:
            assert scratch.commit() == (change(name, "new"),)
    assert secret.read_text() == "secret"
    assert os.listdir(secret.parent) == ["secret"]
    assert (harness.root / "hard.md").read_text() == (harness.root / "plain/out.md").read_text() == "new"
    assert not [name for _, _, files in os.walk(harness.root) for name in files if name.startswith(".remit-")]


async def test_of_several_files_all_are_put_in_place_or_none(harness: ToolHarness) -> None:
    output = await harness.run(
        "def act() -> None:\n    for name in ('a.md', 'b.md'):\n        open(name, 'w').write(name)\n",
        writes=("a.md", "b.md"),
    )
    (harness.root / "b.md").mkdir()
    with pytest.raises(Refusal):
        scratch_of(output).commit()
    assert os.listdir(harness.root) == ["b.md"]
    again = await harness.run(
        "def act() -> None:\n    for name in ('a.md', 'c.md'):\n        open(name, 'w').write(name)\n",
        writes=("a.md", "c.md"),
    )
    assert scratch_of(again).commit() == (change("a.md", "a.md"), change("c.md", "c.md"))


async def test_a_symlink_that_the_tool_writes_is_no_result(harness: ToolHarness) -> None:
    output = await harness.run(
        "import os\ndef act() -> None:\n    os.symlink('/etc/passwd', 'out.md')\n", writes=("out.md",)
    )
    assert output.code is not None
    assert output.scratch is None
    assert os.listdir(harness.root) == []


async def test_a_folder_that_is_read_lists_its_names_and_opens_no_file(harness: ToolHarness) -> None:
    harness.file("docs/a.md")
    harness.file("docs/sub/b.md")
    code = """
    import os
    def act() -> list:
        opened = []
        for name in ("docs/a.md", "docs/sub/b.md"):
            try:
                opened.append(open(name).read())
            except OSError:
                pass
        try:
            opened.append(os.listdir("docs/sub"))
        except OSError:
            pass
        return [sorted(os.listdir("docs")), os.path.isdir("docs/sub"), opened]
    """
    assert (await harness.run(code, reads=("docs",))).value == [["a.md", "sub"], True, []]


def test_a_set_holds_its_files_and_follows_no_link(tmp_path: Path) -> None:
    for name in ("docs/b.md", "docs/.hidden", "docs/sub/a.md", "other/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "docs/link.md").symlink_to("b.md")
    (tmp_path / "docs/up").symlink_to("../other")
    (tmp_path / "docs/line\nbreak").touch()
    os.mkfifo(tmp_path / "docs/fifo")
    expansion = expand(tmp_path, "docs/**", lambda name: name != "docs/b.md")
    assert expansion.files == ("docs/.hidden", "docs/sub/a.md")
    assert expansion.folders == ("docs", "docs/sub")
    assert (expansion.denied, expansion.odd) == (1, 4)
    assert expand(tmp_path, "**", lambda _: True).files == ("docs/.hidden", "docs/b.md", "docs/sub/a.md", "other/x")
    assert expand(tmp_path, "absent/**", lambda _: True).files == ()
    assert expand(tmp_path, "docs/up/**", lambda _: True).files == ()


async def test_a_set_of_many_files_opens_and_one_of_too_many_is_refused(harness: ToolHarness) -> None:
    """More descriptors than fit into one message, and more than the broker may have open."""
    harness.root.mkdir()
    for number in range(1_200):
        (harness.root / f"{number}.md").write_text("x")
    code = "import os\ndef act() -> int:\n    return sum(len(open(name).read()) for name in os.listdir('.'))\n"
    assert (await harness.run(code, reads=("**",))).value == 1_200
    for number in range(1_200, 2_001):
        (harness.root / f"{number}.md").touch()
    output = await harness.run(code, reads=("**",))
    assert output.code == "resource_exhausted"


# -- processes ---------------------------------------------------------------------------------------------------------

BWRAP = os.fsencode(find_bwrap() or "bwrap")
WAITS = """
import os, time
def act() -> None:
    open("stores/life/started", "w")
    time.sleep(600)
"""


class Watched:
    """Processes by their handles, so that their ends are noticed even if their numbers are reused."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.commands = {pid: command(pid) for pid in pids}
        self.handles = {pid: os.pidfd_open(pid) for pid in self.commands}

    def any_ended(self) -> bool:
        poll = select.poll()
        for handle in self.handles.values():
            poll.register(handle, select.POLLIN)
        return bool(poll.poll(0))

    def left(self) -> list[tuple[int, bytes]]:
        """The number and command line of each that is still running, after 20 seconds for each."""
        found = []
        for pid, handle in self.handles.items():
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(20_000):
                found.append((pid, self.commands[pid]))
            os.close(handle)
        return found


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until `holds` returns True, for at most 20 seconds."""
    pause = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


async def until(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, holds)


def started(others: set[int]) -> set[int]:
    """The descendants of this process, without `others`, which existed before."""
    return set(below(os.getpid())) - others


async def descriptors() -> int:
    """The number of open descriptors without warm tools, including those that the event loop opens for threads."""
    await close_sandboxes()
    return held_descriptors()


def held_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def no_more_descriptors(before: int) -> None:
    """Wait until no more than `before` are open: a thread that removes files of a call has some open meanwhile."""
    await close_sandboxes()
    await until(lambda: held_descriptors() <= before)


async def test_a_cancelled_call_leaves_no_process_and_no_file(harness: ToolHarness) -> None:
    before, others = await descriptors(), started(set())
    call = asyncio.create_task(harness.run(WAITS, stores=("life",), writes=("out.md",)))
    await until((harness.root / "stores/life/started").exists)
    watched = Watched(started(others))
    assert len(watched.handles) >= 2
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(watched.any_ended)  # its own process; the warm tool does not belong to the call
    await close_sandboxes()
    assert watched.left() == []
    assert (sorted(os.listdir(harness.root)), await left_over(harness)) == (["stores"], [])
    await no_more_descriptors(before)


async def test_a_call_cancelled_before_the_tool_runs_leaves_nothing(harness: ToolHarness) -> None:
    before, others = await descriptors(), started(set())
    call = asyncio.create_task(harness.run(WAITS, stores=("life",)))
    await until(lambda: bool(started(others)))
    watched = Watched(started(others))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await close_sandboxes()
    assert watched.left() == []
    assert await left_over(harness) == []
    await no_more_descriptors(before)


@pytest.mark.parametrize("trust", ["pinned", "none"])
async def test_a_sandbox_does_not_outlive_the_process_that_started_it(
    tmp_path: Path, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bubblewrap is killed before it has tied the sandbox to itself.

    That moment is too short to hit, so here it never does.
    """
    await close_sandboxes()
    others = started(set())
    harness = ToolHarness(base=tmp_path, tier="full")
    monkeypatch.setattr(
        process, "argv", lambda *given, **more: [word for word in argv(*given, **more) if word != "--die-with-parent"]
    )
    call = asyncio.create_task(harness.run(WAITS, stores=("life",), trust=trust))
    await until((harness.root / "stores/life/started").exists)
    watched = Watched(started(others))
    starters = [pid for pid, line in watched.commands.items() if line.startswith(BWRAP)]
    assert len(starters) == 1
    os.kill(starters[0], signal.SIGKILL)
    output = await call
    assert (output.code, output.message) == ("tool_crashed", "the sandbox ended without a result")
    assert watched.left() == []


async def test_many_calls_at_once_share_no_state(harness: ToolHarness) -> None:
    """Each call has its own state, files and answer."""
    for number in range(8):
        harness.file(f"{number}.md", str(number))
    code = """
    import os
    seen = []
    def act(name: str) -> list:
        seen.append(open(name).read())
        try:
            seen.append(open(f"{(int(name[0]) + 1) % 8}.md").read())
        except OSError:
            pass
        with open(os.environ["TMPDIR"] + "/once", "x") as file:
            file.write(name)
        open("out-" + name, "w").write(name)
        return seen
    """
    before = await descriptors()
    names = [f"{number}.md" for number in range(8)]
    outputs = await asyncio.gather(
        *(harness.run(code, {"name": name}, reads=(name,), writes=(f"out-{name}",)) for name in names)
    )
    assert [output.value for output in outputs] == [[name[0]] for name in names]
    assert [scratch_of(output).commit() for output in outputs] == [(change(f"out-{name}", name),) for name in names]
    assert await left_over(harness) == []
    await no_more_descriptors(before)


@abuse(23, 24)
async def test_a_daemon_of_a_program_ends_with_the_call(tmp_path: Path) -> None:
    """A process that a program leaves in the background, even in a session of its own, is gone."""
    harness = ToolHarness(base=tmp_path, tier="full")
    code = """
    import subprocess
    def act() -> None:
        subprocess.Popen(["sleep", "612.25"], start_new_session=True)
        subprocess.run(["sh", "-c", "sleep 612.25 & sleep 612.25 &"])
    """
    output = await harness.run(code, programs=("sleep", "sh"))
    assert output.code is None, output
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and b"612.25" in command(int(pid))]


BROKER = """
import asyncio, sys
from pathlib import Path
from remit.sandbox import Profile, Sandbox
base, tier, trust, without = Path(sys.argv[1]), *sys.argv[2:]
if without:  # for `make ablate`: this process must run without the protection, too
    import pytest
    from adversarial import mutation
    mutation.take_away(without, pytest.MonkeyPatch())
profile = Profile(tool="t", action="act", source="python", code=base / "tool", root=base / "work", stores=("life",), wall=600.0, tier=tier, trust=trust)
asyncio.run(Sandbox(accept=(tier,)).run(profile, {}, declared={}))
"""


@abuse(88)
@pytest.mark.parametrize("trust", ["pinned", "none"])
def test_a_killed_broker_leaves_no_process(harness: ToolHarness, trust: str, request: pytest.FixtureRequest) -> None:
    """SIGKILL, so that the broker cannot clean up. Its temporary files are removed, too."""
    harness.root.mkdir()
    (harness.base / "tool").mkdir()
    (harness.base / "tool" / "main.py").write_text(WAITS)
    environment = os.environ | {"TMPDIR": str(harness.base / "tmp")}
    given = [str(harness.base), harness.tier, trust, request.config.getoption("--without", "")]
    with subprocess.Popen([sys.executable, "-c", BROKER, *given], env=environment) as broker:
        try:
            wait_for((harness.root / "stores/life/started").exists)
            watched = Watched(below(broker.pid))
            assert len(watched.handles) >= 2
        finally:
            broker.kill()
    assert watched.left() == []
    wait_for(lambda: os.listdir(harness.base / "tmp") == [])
