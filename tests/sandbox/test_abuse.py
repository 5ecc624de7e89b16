"""The rest of the abuse list: bombs, limits, files of the kernel, planted links, races, a tool that joins paths."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from adversarial.attack_list import LINES, abuse, tried
from remit.core.errors import Refusal
from remit.sandbox import find_bwrap
from remit.sandbox.profile import runtime
from support import CORPORA
from support.sandbox import ToolHarness, below, close_sandboxes, command

CORPUS = CORPORA / "directory_traversal.txt"
SPELLINGS = (  # one of each kind in the corpus, for when the corpus is missing
    "../secret", "../../etc/passwd", "..%2fsecret", "%2e%2e/secret", "....//secret", "..\\secret", "..;/secret", "/etc/passwd",
    "/./etc/passwd", "docs/../../secret", "..%c0%afsecret", "..%252fsecret", "file:///etc/passwd", "%00../secret", "a.md/../b.md",
)  # fmt: skip
BWRAP = os.fsencode(find_bwrap() or "bwrap")
FLIPS = int(os.environ.get("REMIT_FLIPS", "100"))  # calls under a swap race; `make soak` has 4,000


def test_every_line_of_the_abuse_list_has_a_test_that_tries_it() -> None:
    assert sorted(set(LINES) - set(tried())) == []


# -- races and carelessness --------------------------------------------------------------------------------------------


@abuse(48)
async def test_a_file_swapped_during_calls_is_never_read_or_written_outside(harness: ToolHarness) -> None:
    """A4: during every call, a thread swaps a granted file, and the one to write, with links to outside."""
    secret = harness.file("../outside/secret", "SECRET")
    harness.file("plain", "plain")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for name in ("target", "out"):
                link, file = harness.root / f"{name}.link", harness.root / f"{name}.file"
                link.symlink_to(secret)
                os.rename(link, harness.root / name)
                file.write_text("plain")
                os.rename(file, harness.root / name)

    code = """
    def act() -> list:
        seen = set()
        for _ in range(40):
            try:
                with open("target") as file:
                    seen.add(file.read())
            except OSError:
                seen.add("held")
        with open("out", "w") as file:
            file.write("written")
        return sorted(seen)
    """
    seen: set[str] = set()
    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        for _ in range(FLIPS):
            output = await harness.run(code, reads=("target",), writes=("out",))
            assert output.code is None, output
            seen |= set(output.value)
            assert output.scratch is not None
            with suppress(Refusal):  # a link lies at the destination, or on the way there
                output.scratch.commit()
            assert secret.read_text() == "SECRET"
    finally:
        stop.set()
        flipper.join()
    assert seen <= {"plain", "held", ""}
    assert os.listdir(secret.parent) == ["secret"]


def spellings() -> list[str]:
    lines = CORPUS.read_text(errors="replace").splitlines() if CORPUS.exists() else []
    return [line for line in [*SPELLINGS, *lines] if line.strip()]


@abuse(46, 47, 50)
async def test_a_tool_that_joins_paths_carelessly_reaches_the_decided_file_only(harness: ToolHarness) -> None:
    """A1: every spelling of the traversal corpus, read and written; joined, decoded and unchanged."""
    harness.file("docs/a.md", "decided")
    harness.file("docs/b.md", "SECRET")
    for name in ("../secret", "secret", "../../secret", "../etc/passwd", "etc/passwd"):
        path = harness.root / name
        if path.resolve().is_relative_to(harness.base):
            harness.file(name, "SECRET")
    before = tree(harness.base)
    code = """
    import os, urllib.parse
    def act(names: list[str], seen: str) -> dict:
        read, wrote = set(), set()
        for name in names:
            for one in {name, urllib.parse.unquote(name), urllib.parse.unquote(urllib.parse.unquote(name)), name.replace("\\\\", "/")}:
                for path in (one, os.path.join("docs", one), seen + "/docs/" + one, "docs/" + one.lstrip("/")):
                    for target in (path, path.replace("{FILE}", "secret"), path.replace("{FILE}", "etc/passwd")):
                        try:
                            with open(target) as file:
                                read.add(file.read(40))
                        except (OSError, ValueError, UnicodeError):
                            pass
                        try:
                            with open(target, "a") as file:
                                file.write("OVERWRITTEN")
                            wrote.add(os.path.realpath(target))
                        except (OSError, ValueError, UnicodeError):
                            pass
        try:
            with open("docs/a.md") as file:
                read.add(file.read())
        except OSError:
            pass
        return {"read": sorted(read), "wrote": sorted(wrote)}
    """
    names = spellings()
    assert len(names) > 10
    output = await harness.run(code, {"names": names, "seen": harness.seen}, reads=("docs/a.md",))
    assert output.code is None, output
    assert output.value == {"read": ["decided"], "wrote": []}
    writing = await harness.run(
        code.replace('(path, path.replace("{FILE}"', '(path + "x", path.replace("{FILE}"'),
        {"names": names, "seen": harness.seen},
        reads=("docs/a.md",),
        writes=("docs/out.md",),
        output=1 << 20,
    )
    assert writing.code is None, writing
    assert "SECRET" not in "".join(writing.value["read"])
    assert writing.scratch is not None
    writing.scratch.commit()
    assert {path: text for path, text in tree(harness.base).items() if path != "work/docs/out.md"} == before


def tree(base: Path) -> dict[str, str]:
    """Every file below `base`, except those of the tool."""
    return {
        path.relative_to(base).as_posix(): path.read_text()
        for path in sorted(base.rglob("*"))
        if path.is_file() and not path.is_relative_to(base / "tool")
    }


@abuse(51, 59)
async def test_a_link_planted_in_a_store_leads_no_later_call_out(harness: ToolHarness) -> None:
    """CVE-2026-87766: a store stays on the disk and is mounted for later calls; a tool cannot plant a link in it."""
    outside = harness.file("../outside/secret", "SECRET")
    code = """
    import os
    def act(outside: str) -> list:
        results = []
        for name, attempt in {
            "symlink": lambda: os.symlink(outside, "stores/own/link"),
            "folder link": lambda: os.symlink(os.path.dirname(outside), "stores/own/below"),
            "hard link": lambda: os.link(outside, "stores/own/hard"),
            "rename away": lambda: os.rename("stores/own", "stores/gone"),
            "device": lambda: os.mknod("stores/own/device", 0o60600, 0),
        }.items():
            try:
                attempt()
                results.append(name)
            except OSError:
                pass
        os.makedirs("stores/own/kept", exist_ok=True)
        with open("stores/own/kept/x", "w") as file:
            file.write("x")
        return results
    """
    for stores in (("own",), ("own", "other"), ("own",)):
        assert (await harness.run(code, {"outside": str(outside)}, stores=stores)).value == []
    assert sorted(os.listdir(harness.root / "stores" / "own")) == ["kept"]
    (harness.root / "stores" / "own" / "kept" / "x").unlink()
    (harness.root / "stores" / "own" / "kept").rmdir()
    (harness.root / "stores" / "own").rmdir()
    (harness.root / "stores" / "own").symlink_to(outside.parent)
    planted = await harness.run(code, {"outside": str(outside)}, stores=("own",))
    assert planted.code == "sandbox_violation"
    assert os.listdir(outside.parent) == ["secret"]


# -- limits and bombs --------------------------------------------------------------------------------------------------


@abuse(35)
async def test_no_limit_can_be_raised(harness: ToolHarness) -> None:
    """Each limit is set, and can only be lowered."""
    code = """
    import resource
    def act() -> dict:
        found = {}
        for name in ("CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NOFILE", "STACK"):
            which = getattr(resource, "RLIMIT_" + name)
            soft, hard = resource.getrlimit(which)
            try:
                resource.setrlimit(which, (hard, resource.RLIM_INFINITY))
                found[name] = "raised"
            except (OSError, ValueError):
                found[name] = hard
            resource.setrlimit(which, (min(soft, hard), hard))
        return found
    """
    found = (await harness.run(code, memory=128 << 20, cpu=3.0)).value
    assert found == {
        "CORE": 0, "CPU": 4, "DATA": 128 << 20, "FSIZE": 64 << 20, "MEMLOCK": 0, "MSGQUEUE": 0, "NOFILE": 256, "STACK": 8 << 20,
    }  # fmt: skip


@abuse(18, 57)
async def test_the_kernels_own_files_are_not_there(harness: ToolHarness) -> None:
    """A10: no /proc, no /sys, and no devices except three; random bytes and /dev/null still work."""
    code = """
    import os
    def act() -> list:
        reached = []
        for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc/passwd", "/proc/self/environ", "/proc/self/fd",
                     "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/self/oom_score_adj", "/sys/kernel/profiling",
                     "/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/ptmx", "/dev/shm/x", "/dev/fuse", "/dev/kvm", "/run", "/var/run/docker.sock"):
            for mode in ("rb", "wb"):
                try:
                    open(path, mode)
                    reached.append((path, mode))
                except OSError:
                    pass
        return [reached, len(open("/dev/urandom", "rb", buffering=0).read(8)), open("/dev/null", "w").write("x")]
    """
    assert (await harness.run(code)).value == [[], 8, 1]


def ignores_end(pid: int) -> bool:
    """True if the process lives and ignores SIGTERM."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"SigIgn:\s*([0-9a-f]+)", status)
    return found is not None and int(found[1], 16) >> (signal.SIGTERM - 1) & 1 == 1


@abuse(25)
async def test_a_fork_bomb_of_a_program_ends_with_its_call(full: ToolHarness) -> None:
    """As many processes as the limit allows, each ignoring SIGTERM in a session of its own; none is left."""
    code = """
    import os, signal, time
    def act() -> int:
        started = 0
        for _ in range(300):
            try:
                child = os.fork()
            except OSError:
                break
            if child == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            started += 1
        return started
    """
    before = set(below(os.getpid()))
    output = await full.run(code, programs=("true",))
    assert output.code is None, output
    assert output.value > 10
    if os.getuid() != 0:  # the kernel counts no process of the real root
        assert output.value < 64
    for _ in range(100):  # a sandbox that stands by for a later call is none of them
        if not (left := {pid: command(pid) for pid in set(below(os.getpid())) - before if ignores_end(pid)}):
            break
        await asyncio.sleep(0.05)
    assert left == {}


# -- namespaces --------------------------------------------------------------------------------------------------------


@abuse(54)
async def test_the_sandbox_shares_no_namespace_with_the_broker(full: ToolHarness) -> None:
    """Checked from outside, while a warm tool is running."""
    await close_sandboxes()
    code = "import os\ndef act() -> int:\n    return os.getpid()\n"
    assert (await full.run(code)).code is None
    inside = [
        pid for pid in below(os.getpid()) if b"inside.py" in (line := command(pid)) and not line.startswith(BWRAP)
    ]
    zygote = inside[1]  # the first is its supervisor, which runs nothing of a tool
    kinds = ("user", "pid", "net", "ipc", "uts", "mnt")
    shared = [
        kind for kind in kinds if os.readlink(f"/proc/{zygote}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    ]
    assert shared == []
    status = dict(line.split(":", 1) for line in Path(f"/proc/{zygote}/status").read_text().splitlines() if ":" in line)
    assert {name: status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")} == {
        "CapEff": "0" * 16, "CapPrm": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip


@abuse(47)
async def test_the_root_folder_holds_what_is_needed_and_can_not_be_written(full: ToolHarness) -> None:
    """Nothing of the host except the runtime; no file can be made in any of its folders."""
    code = """
    import os
    def act() -> list:
        made = []
        for folder in ("/", "/usr", "/work", "/tool", "/remit", "/packages", "/dev", "/tmp", "/scratch"):
            try:
                open(folder + "/made", "w")
                made.append(folder)
            except OSError:
                pass
        there = [name for name in ("home", "root", "etc/passwd", "etc/shadow", "var", "run", "proc/self", "sys/kernel", "boot", "mnt", "srv")
                 if os.path.exists("/" + name)]
        return [made, there]
    """
    made, there = (await full.run(code)).value
    assert made == []
    assert set(there) <= {Path(sys.base_prefix).parts[1]}  # the interpreter may be below it; nothing else is


def test_no_package_of_the_brokers_own_environment_is_bound() -> None:
    """Only the packages that every tool may import are mounted, each by its name; not the virtual environment."""
    assert sys.prefix != sys.base_prefix, "the suite runs in a virtual environment"
    assert [folder for folder in runtime(None).folders if Path(folder).is_relative_to(sys.prefix)] == []
