"""Warm tools: no call finds what another left, no change of a tool or a folder is missed, and no process is left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import textwrap
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversarial.attack_list import abuse
from remit.sandbox import Output, Sandbox
from remit.sandbox.cgroups import Cgroup, delegated
from remit.sandbox.warm import Bounds
from support.sandbox import ToolHarness, below, close_sandboxes, command, kill_sandboxes, sandboxed

CALLS = int(os.environ.get("REMIT_SOAK_CALLS", "150"))  # `make soak` has 10,000


# -- state between calls -----------------------------------------------------------------------------------------------

STATE = """
import ctypes, mmap, os, sys, tempfile
seen = []
shared = None
def act() -> dict:
    found = {"global": list(seen), "environ": "LEFT" in os.environ, "module": "left" in sys.modules}
    for name, path in {"own": os.environ["TMPDIR"], "root of temporary": os.path.dirname(os.environ["TMPDIR"])}.items():
        try:
            found[name] = os.listdir(path)
        except OSError as failure:
            found[name] = type(failure).__name__
    seen.append(1)
    os.environ["LEFT"] = "x"
    sys.modules["left"] = sys
    with open(os.environ["TMPDIR"] + "/left", "w") as file:
        file.write("left")
    for name, attempt in {
        "write beside": lambda: open(os.path.dirname(os.environ["TMPDIR"]) + "/beside", "w"),
        "shared memory": lambda: mmap.mmap(-1, 4096),
        "shared zeroes": lambda: mmap.mmap(os.open("/dev/zero", os.O_RDWR), 4096),
        "memfd": lambda: os.memfd_create("left"),
    }.items():
        try:
            attempt()
            found[name] = "reached"
        except OSError as failure:
            found[name] = type(failure).__name__
    found["number"] = os.getpid()
    found["random"] = __import__("random").random()
    found["temporary"] = tempfile.gettempdir() == os.environ["TMPDIR"]
    return found
"""


@abuse(1, 2, 3, 4, 5, 6, 8, 9, 11)
async def test_nothing_of_one_call_is_found_by_the_next(harness: ToolHarness) -> None:
    """Globals, variables, modules, files, shared memory. The tool was imported once for all calls."""
    values = [(await harness.run(STATE)).value for _ in range(3)]
    numbers = {value.pop("number") for value in values}
    assert len({value.pop("random") for value in values}) == len(numbers) == 3
    assert values == [values[0]] * 3
    assert values[0] == {
        "global": [],
        "environ": False,
        "module": False,
        "own": [],
        "root of temporary": "PermissionError",
        "write beside": "PermissionError",
        "shared memory": "PermissionError",
        "shared zeroes": "PermissionError",
        "memfd": "PermissionError",
        "temporary": True,
    }


async def test_a_tool_is_imported_once_for_many_calls(harness: ToolHarness) -> None:
    """The twin: every call has what the import made."""
    code = "import os\nimported = os.getpid()\ndef act() -> list:\n    return [imported, os.getpid()]\n"
    values = [(await harness.run(code)).value for _ in range(4)]
    assert len({imported for imported, _ in values}) == 1
    assert len({own for _, own in values}) == 4


@abuse(12, 13, 14, 16, 17)
async def test_calls_of_one_tool_cannot_touch_each_other(harness: ToolHarness) -> None:
    """Neither by signals, nor by tracing, nor through the scratch folders, while both run."""
    code = """
    import ctypes, os, time
    def act(victim: bool) -> dict:
        if victim:
            open("stores/meet/pid", "w").write(str(os.getpid()))
            open(os.environ["TMPDIR"] + "/secret", "w").write("secret")
            time.sleep(1)
            return {"alive": True}
        while not os.path.exists("stores/meet/pid") or not open("stores/meet/pid").read():
            time.sleep(0.005)
        pid = int(open("stores/meet/pid").read())
        tries = {
            # Signal 0 only checks the permission: an attempt that succeeds does no damage.
            "kill": lambda: os.kill(pid, 0),
            "thread": lambda: call("tgkill", pid, pid, 0),
            "parent": lambda: os.kill(os.getppid(), 0),
            "all": lambda: os.kill(-1, 0),
            "trace": lambda: call("ptrace", 16, pid, 0, 0),
            "memory": lambda: call("process_vm_readv", pid, 0, 0, 0, 0, 0),
            "folder": lambda: os.listdir(os.path.dirname(os.environ["TMPDIR"])),
        }
        held = {}
        for name, attempt in tries.items():
            try:
                held[name] = repr(attempt())
            except OSError as failure:
                held[name] = "held"
        return held
    def call(name, *arguments):
        library = ctypes.CDLL(None, use_errno=True)
        if getattr(library, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    """
    victim = asyncio.create_task(harness.run(code, {"victim": True}, stores=("meet",)))
    attacker = await harness.run(code, {"victim": False}, stores=("meet",))
    assert set(attacker.value.values()) == {"held"}
    assert (await victim).value == {"alive": True}


# -- which calls a zygote may serve ------------------------------------------------------------------------------------


async def test_a_changed_tool_is_never_served_by_the_old_one(harness: ToolHarness) -> None:
    """Other code of the same length, a new module next to it, a changed module."""
    first = (await harness.run("def act() -> int:\n    return 1\n")).value
    second = (await harness.run("def act() -> int:\n    return 2\n")).value
    (harness.base / "tool" / "part.py").write_text("N = 3\n")
    third = (await harness.run("from part import N\ndef act() -> int:\n    return N\n")).value
    (harness.base / "tool" / "part.py").write_text("N = 4\n")
    fourth = (await harness.run("from part import N\ndef act() -> int:\n    return N\n")).value
    assert [first, second, third, fourth] == [1, 2, 3, 4]


@abuse(60)
async def test_a_folder_that_replaces_another_is_the_one_that_is_read(harness: ToolHarness) -> None:
    """Between two calls, first a granted folder and then the whole working folder is replaced."""
    code = "def act() -> str:\n    return open('docs/a.md').read()\n"
    harness.file("docs/a.md", "first")
    assert (await harness.run(code, reads=("docs/a.md",))).value == "first"
    (harness.root / "docs").rename(harness.root / "old")
    harness.file("docs/a.md", "second")
    assert (await harness.run(code, reads=("docs/a.md",))).value == "second"
    harness.root.rename(harness.base / "elsewhere")
    harness.file("docs/a.md", "third")
    assert (await harness.run(code, reads=("docs/a.md",))).value == "third"


@abuse(27)
async def test_an_import_that_starts_a_thread_is_not_forked(harness: ToolHarness) -> None:
    """Each call imports the tool itself, so its thread runs."""
    code = """
    import os, threading, time
    imported = os.getpid()
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    def act() -> list:
        return [threading.active_count(), imported == os.getpid()]
    """
    assert (await harness.run(code)).value == [2, True]
    assert (await harness.run(code)).value == [2, True]


@abuse(28)
async def test_an_import_that_starts_a_process_runs_nowhere(harness: ToolHarness) -> None:
    """A daemon in a session of its own: it is not started, and the call fails."""
    code = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    def act() -> None: ...
    """
    earlier = set(sandboxed())  # of tests before, in event loops that have ended
    output = await harness.run(code)
    assert output.code == "sandbox_violation", output
    await close_sandboxes()
    assert set(sandboxed()) <= earlier


@abuse(29)
async def test_an_import_that_replaces_functions_of_the_sandbox_gains_no_access(harness: ToolHarness) -> None:
    """It replaces every function that narrows a call. The rights that were dropped before its import stay dropped."""
    harness.file("../secret", "secret")
    code = """
    import os, socket, subprocess, sys, gc
    for module in [one for one in gc.get_objects() if type(one) is type(sys)]:
        for name in ("install", "close_others", "die_with_parent"):
            if hasattr(module, name):
                setattr(module, name, lambda *a, **k: None)
    for kind in [one for one in gc.get_objects() if isinstance(one, type) and one.__name__ == "Ruleset"]:
        kind.enforce = kind.allow = lambda *a, **k: None
    def act(outside: str) -> dict:
        held = {}
        for name, attempt in {
            "read": lambda: open(outside).read(),
            "write": lambda: open(outside, "w"),
            "system": lambda: open("/etc/passwd").read(),
            "program": lambda: subprocess.run(["/bin/true"]),
            "socket": lambda: socket.socket(),
            "signal": lambda: os.kill(broker, 0),
        }.items():
            try:
                held[name] = repr(attempt())
            except OSError:
                held[name] = "held"
        return held
    broker = BROKER
    """.replace("BROKER", str(os.getpid()))
    output = await harness.run(code, {"outside": str(harness.base / "secret")})
    assert output.code is None, output
    assert set(output.value.values()) == {"held"}
    broken = code.replace(
        '"install"', '"prepare", "narrow"'
    )  # then its processes die, and it gets a sandbox of its own
    assert set((await harness.run(broken, {"outside": str(harness.base / "secret")})).value.values()) == {"held"}


async def test_a_tool_without_trust_has_nothing_but_the_decided_files(harness: ToolHarness) -> None:
    """Its import cannot open other files, or find them in the tier with mounts, and no two of its calls share a process."""
    harness.file("docs/a.md", "decided")
    harness.file("docs/b.md", "secret")
    code = """
    import os
    imported = os.getpid()
    there = [name for name in ("docs/a.md", "docs/b.md") if os.path.exists("SEEN/" + name)]
    opened = []
    for name in ("docs/a.md", "docs/b.md"):
        try:
            opened.append(open("SEEN/" + name).read())
        except OSError:
            pass
    def act() -> list:
        with open("out.md", "w") as file:
            file.write("written")
        return [there, opened, os.getpid() == imported, sorted(os.listdir("docs"))]
    """.replace("SEEN", harness.seen)
    output = await harness.run(code, reads=("docs/a.md",), writes=("out.md",), trust="none")
    there = (
        ["docs/a.md"] if harness.tier == "full" else ["docs/a.md", "docs/b.md"]
    )  # in the landlock tier, `stat` shows which names exist
    assert output.value == [there, ["decided"], True, ["a.md"]]
    assert output.scratch is not None
    assert [change.resource for change in output.scratch.commit()] == ["file:out.md"]
    assert (harness.root / "out.md").read_text() == "written"
    everything = await harness.run(code, reads=("docs/**",), writes=("out.md",), trust="none")
    assert everything.value == [["docs/a.md", "docs/b.md"], ["decided", "secret"], True, ["a.md", "b.md"]]
    assert everything.scratch is not None
    everything.scratch.discard()


# -- life --------------------------------------------------------------------------------------------------------------


async def until(holds: Any) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


@abuse(87)
async def test_a_call_whose_zygote_is_killed_ends_at_once_with_a_code(harness: ToolHarness) -> None:
    """The call is not run again, because it may have had an effect. The next call gets a new zygote."""
    code = "import time\ndef act(wait: bool) -> str:\n    if wait:\n        open('stores/s/on', 'w')\n        time.sleep(600)\n    return 'done'\n"
    await close_sandboxes()
    under_way = asyncio.create_task(harness.run(code, {"wait": True}, stores=("s",)))
    await until((harness.root / "stores" / "s" / "on").exists)
    kill_sandboxes()
    output = await under_way
    assert (output.code, output.message) == ("tool_crashed", "the sandbox ended without a result")
    assert (await harness.run(code, {"wait": False}, stores=("s",))).value == "done"


@abuse(89)
async def test_the_thread_that_made_the_first_call_may_end(harness: ToolHarness) -> None:
    """Bubblewrap dies with the thread that started it, so it is never started in a caller's thread."""
    code = "import os\ndef act() -> int:\n    return os.getppid()\n"
    own = Sandbox(accept=(harness.tier,), bounds=Bounds(min_ready=1))
    values: list[Any] = []

    profile = harness.profile()
    (profile.code / "main.py").write_text(code)

    async def call() -> None:
        values.append((await own.run(profile, {}, declared={})).value)

    thread = threading.Thread(target=lambda: asyncio.run(call()))
    thread.start()
    thread.join()
    before = sandboxed()
    await call()
    assert set(before) & set(sandboxed())
    assert values[0] == values[1]
    await own.close()


async def test_a_closed_sandbox_leaves_no_process_and_can_be_used_again(harness: ToolHarness) -> None:
    await close_sandboxes()
    own = Sandbox(accept=(harness.tier,))
    profile = harness.profile()
    (profile.code / "main.py").write_text("def act() -> int:\n    return 1\n")
    for _ in range(2):
        assert (await own.run(profile, {}, declared={})).value == 1
        assert sandboxed()
        await own.close()
        assert sandboxed() == []


async def test_an_unused_warm_tool_is_ended(full: ToolHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    await close_sandboxes()
    monkeypatch.setattr("remit.sandbox.warm.pool._TICK_SECONDS", 0.05)
    async with Sandbox(accept=("full",), bounds=Bounds(min_ready=1, idle_s=0.1)) as own:
        profile = full.profile()
        (profile.code / "main.py").write_text("def act() -> int:\n    return 1\n")
        assert (await own.run(profile, {}, declared={})).value == 1
        await until(lambda: sandboxed() == [])
        assert (await own.run(profile, {}, declared={})).value == 1


async def test_runs_that_call_in_turns_each_find_an_idle_process(full: ToolHarness) -> None:
    """A process is made for one working folder. None is ended unused because a run in another folder has called meanwhile."""
    (full.profile().code / "main.py").write_text("import os\ndef act() -> int:\n    return os.getpid()\n")
    profiles = []
    for name in "abc":
        (full.root / name).mkdir()
        profiles.append(replace(full.profile(workspace=os.fspath(full.base)), root=full.root / name))
    made: list[Any] = []  # the numbers of the processes, which count up in the sandbox
    async with Sandbox(accept=("full",)) as own:
        for profile in profiles * 6:
            made.append((await own.run(profile, {}, declared={})).value)
            await asyncio.sleep(0.05)
    assert made[-1] - made[0] <= 2 * len(made), made


async def test_the_number_of_idle_processes_is_limited(tmp_path: Path) -> None:
    """With many tools, the least recently used are ended, and each has few idle children."""
    await close_sandboxes()
    harnesses = [ToolHarness(base=tmp_path / str(number), tier="full") for number in range(5)]
    async with Sandbox(
        accept=("full",), bounds=Bounds(min_ready=1, max_ready=2, max_ready_total=3, max_tools=2)
    ) as own:
        for one in harnesses:
            one.base.mkdir()
            profile = one.profile()
            (profile.code / "main.py").write_text("import time\ndef act() -> None:\n    time.sleep(0.01)\n")
            outputs = await asyncio.gather(*(own.run(profile, {}, declared={}) for _ in range(6)))
            assert {output.code for output in outputs} == {None}
        await until(lambda: len([pid for pid in sandboxed() if b"bwrap" in command(pid).split(b"\0")[0]]) <= 2 * 2)


@abuse(31, 33)
@pytest.mark.parametrize(
    "body",
    [
        "while True: open(os.environ['TMPDIR'] + '/' + str(time.time_ns()), 'w').close()",
        "for n in range(10_000): open(os.environ['TMPDIR'] + f'/{n}', 'wb').write(b'x' * (1 << 20))",
    ],
    ids=["many files", "big files"],
)
async def test_a_call_that_fills_the_temporary_folder_hurts_no_other(full: ToolHarness, body: str) -> None:
    code = f"import os, time\ndef act(bad: bool) -> str:\n    if bad:\n        {body}\n    open(os.environ['TMPDIR'] + '/x', 'wb').write(b'x' * (8 << 20))\n    return 'fine'\n"
    bad = await full.run(code, {"bad": True}, cpu=1.0, wall=20.0)
    assert bad.code == "resource_exhausted", bad
    good = [await full.run(code, {"bad": False}, cpu=1.0, wall=20.0) for _ in range(2)]
    assert [output.value for output in good] == ["fine", "fine"]


async def test_a_zygote_is_replaced_after_a_limit_was_hit(full: ToolHarness) -> None:
    code = "import os, time\nborn = time.monotonic_ns()\ndef act(bad: bool) -> int:\n    if bad:\n        x = bytearray(4 << 30)\n    return born\n"
    first = (await full.run(code, {"bad": False})).value
    assert (await full.run(code, {"bad": False})).value == first
    assert (await full.run(code, {"bad": True})).code == "resource_exhausted"
    assert (await full.run(code, {"bad": False})).value != first


async def test_ten_thousand_calls_with_random_kills_are_each_answered_once(harness: ToolHarness) -> None:
    """Eight at a time, with zygotes killed at random: each call gets a result or a code, and nothing is left."""
    code = """
    import os
    def act(number: int) -> list:
        with open(f"out-{number}", "w") as file:
            file.write(open("in.md").read() + str(number))
        return [number, os.getpid()]
    """
    harness.file("in.md", "text ")
    profile = harness.profile(reads=("in.md",))
    (profile.code / "main.py").write_text(textwrap.dedent(code))
    await close_sandboxes()
    others = set(below(os.getpid()))
    own = Sandbox(accept=(harness.tier,))
    answers: dict[int, Output] = {}
    gate = asyncio.Semaphore(8)
    chance = random.Random(7)
    kills: list[int] = []

    async def one(number: int) -> None:
        async with gate:
            called = harness.profile(reads=("in.md",), writes=(f"out-{number}",))
            output = await own.run(called, {"number": number}, declared={})
            assert number not in answers
            answers[number] = output
            # By the count of answers and not by the clock: on a busy machine a zygote would never come to its first
            # one.
            if chance.random() < 1 / 12 and (alive := sandboxed()):
                kills.append(chance.choice(alive))
                with suppress(ProcessLookupError):
                    os.kill(kills[-1], signal.SIGKILL)
            if output.scratch is not None:
                assert [change.resource for change in output.scratch.commit()] == [f"file:out-{number}"]

    descriptors = len(os.listdir("/proc/self/fd"))
    memory: list[int] = []
    part = max(1, CALLS // 10)
    for start in range(0, CALLS, part):
        await asyncio.gather(*(one(number) for number in range(start, min(start + part, CALLS))))
        memory.append(resident())
    assert len(kills) > CALLS / 24
    assert sorted(answers) == list(range(CALLS))
    assert {output.code for output in answers.values()} <= {None, "tool_crashed", "timeout", "invalid_arguments"}
    killed_while_decoding = [output for output in answers.values() if output.code == "invalid_arguments"]
    assert not any(output.entered for output in killed_while_decoding)
    served = [output.value for output in answers.values() if output.code is None]
    assert len(served) > 0.8 * CALLS
    assert all((harness.root / f"out-{number}").read_text() == f"text {number}" for number, _ in served)
    await own.close()
    assert set(below(os.getpid())) - others == set()  # also no zombie
    await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 3)  # the loop's own helper thread
    assert not [name for name in os.listdir(harness.root) if name.startswith(".remit-")]
    assert memory[-1] <= memory[1] + (24 << 20)


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- control groups ----------------------------------------------------------------------------------------------------


def test_a_delegated_control_group_is_used_and_none_other(tmp_path: Path) -> None:
    """With ordinary files instead of a cgroup file system, because most machines delegate no group."""
    own = tmp_path / "cgroup"
    own.write_text("12:cpu:/x\n0::/user/app\n")
    mount = tmp_path / "fs"
    for group in (mount / "user" / "app", mount / "user"):
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").touch()
        (group / "cgroup.subtree_control").write_text("cpu\n")
    assert delegated(mount, own) is None
    (mount / "user" / "cgroup.subtree_control").write_text("cpu memory pids\n")
    delegated.cache_clear()
    assert delegated(mount, own) == mount / "user"
    delegated.cache_clear()
    group = Cgroup(mount / "user", "remit-1", memory=1 << 20, processes=9)
    group.add(123)
    made = mount / "user" / "remit-1"
    assert [(made / name).read_text() for name in ("memory.max", "pids.max", "cgroup.procs")] == ["1048576", "9", "123"]
    group.close()
    assert (made / "cgroup.kill").read_text() == "1"
