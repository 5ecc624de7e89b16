"""Escapes from the sandbox, each named by its threat, tried by a real tool, together with what must stay allowed."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from adversarial.attack_list import abuse
from remit.core.attempts import DeniedAccess
from support.sandbox import ToolHarness, below, close_sandboxes, command

TRY = """
import ctypes, errno, fcntl, os, signal, socket, subprocess, sys
def tried(attempt):
    try:
        return {"reached": repr(attempt())}
    except OSError as failure:
        return {"held": errno.errorcode.get(failure.errno, str(failure))}
def libc(name, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
"""


async def held(
    harness: ToolHarness, body: str, arguments: dict[str, Any] | None = None, **given: Any
) -> dict[str, str]:
    """The result of each attempt in `body`, a dict of names and expressions: "reached", or the kernel's errno."""
    names = ", ".join(f"{name}=None" for name in arguments or {})
    output = await harness.run(f"{TRY}\ndef act({names}) -> dict:\n    return {body}\n", arguments, **given)
    assert output.code is None, output
    return {name: outcome_of(result) for name, result in output.value.items()}


def outcome_of(result: dict[str, str]) -> str:
    return result.get("held", "reached")


OUT_OF_REACH = {"EACCES", "ENOENT", "EROFS", "EPERM", "EXDEV"}
FILTERED = {"EPERM", "ENOSYS", "ENOTSUP"}  # the errors of the filter, which come before the kernel checks any argument


# -- files -------------------------------------------------------------------------------------------------------------


@abuse(46, 50)
async def test_a_decided_file_is_read_and_no_other(harness: ToolHarness) -> None:
    """A1. The twin comes first: the granted file opens."""
    harness.file("docs/a.md", "decided")
    harness.file("docs/b.md")
    harness.file("../work-evil/a.md")
    harness.file("../secret")
    results = await held(
        harness,
        """{
            "decided": tried(lambda: open("docs/a.md").read()),
            "neighbour": tried(lambda: open("docs/b.md").read()),
            "dots": tried(lambda: open("docs/../docs/b.md").read()),
            "sibling prefix": tried(lambda: open("../work-evil/a.md").read()),
            "outside": tried(lambda: open(outside).read()),
            "system": tried(lambda: open("/etc/passwd").read()),
            "list": tried(lambda: os.listdir("docs")),
            "process": tried(lambda: open("/proc/self/environ").read()),
            "descriptors": tried(lambda: os.listdir("/dev/fd")),
        }""",
        {"outside": str(harness.base / "secret")},
        reads=("docs/a.md",),
    )
    assert results.pop("decided") == "reached"
    assert set(results.values()) <= OUT_OF_REACH


@abuse(48)
async def test_a_symlink_inside_leads_nowhere(harness: ToolHarness) -> None:
    """A3: neither as the granted name itself, nor as a folder on the path, nor one that the tool makes."""
    secret = harness.file("../secret", "outside")
    harness.file("plain/a.md", "decided")
    (harness.root / "link.md").symlink_to(secret)
    (harness.root / "folder").symlink_to(secret.parent)
    results = await held(
        harness,
        """{
            "plain": tried(lambda: open("plain/a.md").read()),
            "link": tried(lambda: open("link.md").read()),
            "folder": tried(lambda: open("folder/secret").read()),
            "own": tried(lambda: (os.symlink(secret, os.environ["TMPDIR"] + "/own"), open(os.environ["TMPDIR"] + "/own").read())),
        }""",
        {"secret": str(secret)},
        reads=("plain/a.md", "link.md", "folder/secret"),
    )
    assert results.pop("plain") == "reached"
    assert set(results.values()) <= OUT_OF_REACH


async def test_a_file_swapped_for_a_symlink_between_check_and_open_leaks_nothing(harness: ToolHarness) -> None:
    """A4: while calls read it, a thread swaps the granted name between a file and a link to a secret."""
    secret = harness.file("../secret", "SECRET")
    plain = harness.file("plain", "plain")
    target = harness.root / "target"
    os.link(plain, target)
    stop = threading.Event()

    def flip() -> None:
        link, file = harness.root / "link.tmp", harness.root / "file.tmp"
        while not stop.is_set():
            link.symlink_to(secret)
            os.rename(link, target)
            file.write_text("plain")
            os.rename(file, target)

    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        code = """
        def act() -> list:
            seen = set()
            for _ in range(3000):
                try:
                    seen.add(open("target").read())
                except OSError:
                    seen.add("held")
            return sorted(seen)
        """
        seen: set[str] = set()
        for _ in range(4):
            output = await harness.run(code, reads=("target",))
            seen |= set(output.value)
    finally:
        stop.set()
        flipper.join()
    assert "SECRET" not in seen
    assert "held" in seen


@abuse(47, 49, 51, 52, 92)
async def test_nothing_is_written_but_scratch(harness: ToolHarness) -> None:
    """Contents, names, modes and times in the working folder and outside stay unchanged."""
    read = harness.file("docs/a.md", "read")
    outside = harness.file("../outside", "outside")
    before = [path.stat() for path in (read, outside)]
    results = await held(
        harness,
        """{
            "scratch": tried(lambda: open("out.md", "w").write("x")),
            "temporary": tried(lambda: open(os.environ["TMPDIR"] + "/x", "w").write("x")),
            "read-only": tried(lambda: open(seen + "/docs/a.md", "a").write("x")),
            "outside": tried(lambda: open(outside, "a").write("x")),
            "new": tried(lambda: open(seen + "/docs/new.md", "w").write("x")),
            "truncate": tried(lambda: os.truncate(seen + "/docs/a.md", 0)),
            "remove": tried(lambda: os.remove(seen + "/docs/a.md")),
            "rename": tried(lambda: os.rename(seen + "/docs", seen + "/gone")),
            "hard link in": tried(lambda: os.link(seen + "/docs/a.md", "linked")),
            "hard link out": tried(lambda: os.link("out.md", seen + "/docs/linked")),
            "chmod": tried(lambda: os.chmod(seen + "/docs/a.md", 0o777)),
            "chmod outside": tried(lambda: os.chmod(outside, 0o777)),
            "fchmod": tried(lambda: os.fchmod(os.open("docs/a.md", os.O_RDONLY), 0o777)),
            "utime": tried(lambda: os.utime(seen + "/docs/a.md", (1, 1))),
            "utime outside": tried(lambda: os.utime(outside, (1, 1))),
            "xattr": tried(lambda: os.setxattr(seen + "/docs/a.md", "user.x", b"x")),
            "chown": tried(lambda: os.chown(outside, 1, 1)),
            "fifo": tried(lambda: os.mkfifo("fifo")),
            "device": tried(lambda: os.mknod("device", 0o60600, 0)),
            "set-id": tried(lambda: os.open("set", os.O_CREAT | os.O_WRONLY, 0o4755)),
            "set-id later": tried(lambda: os.chmod("out.md", 0o4755)),
            "flags": tried(lambda: fcntl.ioctl(os.open("docs/a.md", os.O_RDONLY), 0x40086602, b"\\0" * 8)),
            "lease": tried(lambda: fcntl.fcntl(os.open("docs/a.md", os.O_RDONLY), 1024, 1)),
        }""",
        {"outside": str(outside), "seen": harness.seen},
        reads=("docs/a.md",),
        writes=("out.md",),
    )
    assert (results.pop("scratch"), results.pop("temporary")) == ("reached", "reached")
    assert set(results.values()) <= OUT_OF_REACH
    assert [path.stat() for path in (read, outside)] == before
    assert sorted(os.listdir(harness.root / "docs")) == ["a.md"]


async def test_a_protected_folder_that_does_not_exist_yet_cannot_be_made(harness: ToolHarness) -> None:
    """A6: neither the tool nor a decision can make it; the same name in another folder may be written."""
    harness.file("remit.toml", "")
    code = "def act() -> None:\n    open('out.csv', 'w')\n"
    for name in (
        "policies/x.csv",
        "tools/x/main.py",
        "remit.toml",
        ".git/hooks/post-commit",
        "a/.git/config",
        "../x",
        "/x",
    ):
        output = await harness.run(code, writes=(name,))
        assert output.code in ("policy_denied", "invalid_arguments"), name
        assert output.spent.wall_s == 0
    output = await harness.run(
        "def act() -> None:\n    open('reports/policies/x.csv', 'w')\n", writes=("reports/policies/x.csv",)
    )
    assert output.code is None
    assert output.scratch is not None
    output.scratch.discard()


async def test_a_set_with_a_denied_child_never_reads_it(harness: ToolHarness) -> None:
    """The denied file is not listed and does not open; the other files are and do."""
    harness.file("docs/a.md", "a")
    harness.file("docs/sub/b.md", "b")
    harness.file("docs/secret/c.md", "c")
    code = """
    import os, pathlib
    def act(seen: str) -> dict:
        texts = {str(one): one.read_text() for one in sorted(pathlib.Path("docs").rglob("*")) if one.is_file()}
        opened = []
        for path in ("docs/secret/c.md", seen + "/docs/secret/c.md"):
            try:
                opened.append(open(path).read())
            except OSError:
                pass
        return {"texts": texts, "opened": opened}
    """

    def allowed(name: str) -> bool:
        return "secret" not in name

    output = await harness.run(code, {"seen": harness.seen}, reads=("docs/**",), allowed=allowed)
    assert output.value == {"texts": {"docs/a.md": "a", "docs/sub/b.md": "b"}, "opened": []}
    assert DeniedAccess(access="read", what="docs/secret/c.md", allow='read = ["docs/secret/c.md"]') in output.refused
    everything = await harness.run(code, {"seen": harness.seen}, reads=("docs/**",))
    assert everything.value["texts"] == {"docs/a.md": "a", "docs/sub/b.md": "b", "docs/secret/c.md": "c"}


# -- processes ---------------------------------------------------------------------------------------------------------


@abuse(21, 22, 23, 24, 25)
async def test_no_program_and_no_process_starts(harness: ToolHarness) -> None:
    """exec and every kind of fork; a thread is allowed."""
    results = await held(
        harness,
        """{
            "thread": tried(lambda: __import__("threading").Thread(target=print).start()),
            "exec": tried(lambda: os.execv("/bin/true", ["true"])),
            "spawn": tried(lambda: os.posix_spawn("/bin/true", ["true"], {})),
            "run": tried(lambda: subprocess.run(["/bin/true"])),
            "fork": tried(lambda: os.fork() or os._exit(0)),
            "vfork": tried(lambda: libc("syscall", 58 if os.uname().machine == "x86_64" else 1079)),
            "clone": tried(lambda: libc("syscall", 56 if os.uname().machine == "x86_64" else 220, 17, 0, 0, 0, 0)),
            "clone3": tried(lambda: libc("syscall", 435, 0, 0)),
            "shell": tried(lambda: subprocess.run("sleep 600 & disown", shell=True)),
        }""",
    )
    assert results.pop("thread") == "reached"
    assert set(results.values()) <= FILTERED


@abuse(12, 13, 15, 16, 17, 18)
async def test_other_processes_cannot_be_signalled_traced_or_seen(harness: ToolHarness) -> None:
    """The broker, the first process of the sandbox, and all others; its own signals and its own priority are allowed.

    Signal 0 only checks the permission, and values are set to what they already are: an attempt that succeeds does no
    damage.
    """
    results = await held(
        harness,
        """{
            "own": tried(lambda: (os.kill(os.getpid(), 0), os.setpriority(0, 0, 19), os.getpgid(0), os.sched_getaffinity(0))),
            "slow": tried(lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, 0))),
            "move": tried(lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))),
            "be signalled": tried(lambda: fcntl.fcntl(socket.socketpair()[0], fcntl.F_SETOWN, os.getppid())),
            "broker": tried(lambda: os.kill(broker, 0)),
            "first": tried(lambda: os.kill(1, 0)),
            "parent": tried(lambda: os.kill(os.getppid(), 0)),
            "everybody": tried(lambda: os.kill(-1, 0)),
            "group": tried(lambda: os.killpg(0, 0)),
            "queue": tried(lambda: libc("sigqueue", os.getppid(), 0, 0)),
            "handle": tried(lambda: os.pidfd_open(os.getppid())),
            "trace": tried(lambda: libc("ptrace", 16, broker, 0, 0)),
            "memory": tried(lambda: libc("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0)),
            "see": tried(lambda: os.listdir("/proc")),
            "see one": tried(lambda: os.stat("/proc/1")),
            "limits": tried(lambda: libc("prlimit", os.getppid(), 7, 0, 0)),
            "outlive": tried(lambda: libc("prctl", 1, 0, 0, 0, 0)),
        }""",
        {"broker": os.getpid()},
    )
    assert results.pop("own") == "reached"
    assert results.pop("see") in OUT_OF_REACH
    if (
        harness.tier == "full"
    ):  # in the other tier /proc is that of this machine: its files do not open, but `stat` works
        assert results.pop("see one") in OUT_OF_REACH
    results.pop("see one", None)
    assert set(results.values()) <= FILTERED


@abuse(15)
async def test_a_tool_cannot_ask_which_processes_there_are(harness: ToolHarness) -> None:
    """An existing process number and a free one get the same answer."""
    asks = """{
        "group": tried(lambda: os.getpgid(pid)),
        "session": tried(lambda: os.getsid(pid)),
        "priority": tried(lambda: os.getpriority(os.PRIO_PROCESS, pid)),
        "processors": tried(lambda: os.sched_getaffinity(pid)),
        "scheduler": tried(lambda: os.sched_getscheduler(pid)),
        "signal": tried(lambda: os.kill(pid, 0)),
        "limits": tried(lambda: libc("prlimit", pid, 7, 0, 0)),
        "own": tried(lambda: (os.getpgid(0), os.getpid())),
    }"""
    alive, dead = [await held(harness, asks, {"pid": pid}) for pid in (os.getpid(), 2**22 - 3)]
    assert alive == dead
    assert alive.pop("own") == "reached"
    assert "reached" not in alive.values()


@abuse(46)
async def test_attributes_and_changes_of_a_file_that_was_not_granted_are_not_shown(harness: ToolHarness) -> None:
    """Its extended attributes cannot be read and its changes cannot be watched; a granted file is copied with its times."""
    harness.file("a.md", "decided")
    undecided = harness.file("b.md")
    with suppress(OSError):  # not every file system has them
        os.setxattr(undecided, "user.secret", b"secret")
    results = await held(
        harness,
        """{
            "copy": tried(lambda: __import__("shutil").copy2("a.md", os.environ["TMPDIR"] + "/copy")),
            "read": tried(lambda: os.getxattr(seen + "/b.md", "user.secret")),
            "list": tried(lambda: os.listxattr(seen + "/b.md")),
            "watch": tried(lambda: libc("inotify_init1", 0)),
        }""",
        {"seen": harness.seen},
        reads=("a.md",),
    )
    assert results.pop("copy") == (
        "reached" if harness.tier == "full" else "EPERM"
    )  # the other tier has no filter rule that allows setting times
    assert set(results.values()) <= FILTERED


@abuse(7, 8, 10, 11, 53, 54, 55, 56, 57, 61, 62, 63, 64, 67, 68)
async def test_the_kernel_gives_no_new_powers(harness: ToolHarness) -> None:
    """Namespaces, mounts, handles, keys, shared memory, io_uring, bpf and the like."""
    results = await held(
        harness,
        """{
            "clock": tried(lambda: __import__("time").time()),
            "file mapping": tried(lambda: __import__("mmap").mmap(os.open(sys.modules["main"].__file__, 0), 1, prot=1)),
            "unshare": tried(lambda: libc("unshare", 0x10000000)),
            "setns": tried(lambda: libc("setns", 0, 0)),
            "clone into one": tried(lambda: libc("syscall", 56 if os.uname().machine == "x86_64" else 220, 0x10000011, 0, 0, 0, 0)),
            "mount": tried(lambda: libc("mount", b"none", b"/", b"tmpfs", 0, None)),
            "remount": tried(lambda: libc("mount", None, b"/work", None, 0x1020, None)),
            "move a mount": tried(lambda: libc("syscall", 429, -100, b"/tmp", -100, b"/work", 0)),
            "umount": tried(lambda: libc("umount2", b"/tmp", 0)),
            "chroot": tried(lambda: os.chroot("/")),
            "handle": tried(lambda: libc("open_by_handle_at", -1, None, 0)),
            "keyring": tried(lambda: libc("syscall", 250 if os.uname().machine == "x86_64" else 219, 0, -3, 1)),
            "shared memory": tried(lambda: libc("shmget", 0, 4096, 0o600)),
            "shared mapping": tried(lambda: __import__("mmap").mmap(-1, 4096)),
            "memfd": tried(lambda: os.memfd_create("x")),
            "io_uring": tried(lambda: libc("syscall", 425, 8, 0)),
            "bpf": tried(lambda: libc("syscall", 321 if os.uname().machine == "x86_64" else 280, 0, 0, 0)),
            "userfaultfd": tried(lambda: libc("syscall", 323 if os.uname().machine == "x86_64" else 282, 0)),
            "perf": tried(lambda: libc("syscall", 298 if os.uname().machine == "x86_64" else 241, 0, 0, -1, -1, 0)),
            "seccomp": tried(lambda: libc("syscall", 317 if os.uname().machine == "x86_64" else 277, 2, 0, 0)),
            "personality": tried(lambda: libc("personality", 0x0040000)),
            "terminal": tried(lambda: libc("ioctl", 0, 0x5412, b"x")),
            "console": tried(lambda: libc("ioctl", 0, 0x541C, b"x")),
            "terminal, high bits": tried(lambda: libc("syscall", 16 if os.uname().machine == "x86_64" else 29, 0, ctypes.c_ulong(0x100005412), b"x")),
        }""",
    )
    assert (results.pop("clock"), results.pop("file mapping")) == ("reached", "reached")
    assert set(results.values()) <= FILTERED


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 and 32-bit calls exist on x86_64 only")
@abuse(65)
async def test_the_calls_of_another_architecture_are_not_a_way_around(harness: ToolHarness) -> None:
    """An x32 number is answered like an unknown system call."""
    results = await held(harness, '{"x32": tried(lambda: libc("syscall", 0x40000000 + 57))}')
    assert results == {"x32": "ENOSYS"}


# CAP_DAC_READ_SEARCH, CAP_SETPCAP, CAP_SYS_PTRACE, CAP_SYS_ADMIN in the sandbox's own user namespace: its first process
# needs them to mount scratch folders and to connect for its children.
MOUNTING = 1 << 2 | 1 << 8 | 1 << 19 | 1 << 21


@abuse(57)
async def test_no_capability_is_left(harness: ToolHarness) -> None:
    """Also if the broker is root: checked from outside, in the process that forks the calls and in its idle children."""
    await close_sandboxes()
    others = set(below(os.getpid()))  # idle processes of warm tools that earlier tests used
    assert (await harness.run("def act() -> int:\n    return 1\n")).value == 1
    own = [pid for pid in below(os.getpid()) if pid not in others]
    first = {pid for pid in own if parent(pid) == os.getpid()}  # bubblewrap, or the guard: they run no code of a tool
    supervising = {pid for pid in own if parent(pid) in first}  # they run no code of a tool, either
    inside = [pid for pid in own if pid not in first | supervising and b"inside.py" in command(pid)]
    assert inside
    for pid in supervising:
        held = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        kept = MOUNTING if harness.tier == "full" else 0
        assert (int(held["CapEff"], 16), int(held["CapPrm"], 16), held["NoNewPrivs"].strip()) == (kept, kept, "1")
    # An ordinary account cannot empty the bounding set, and cannot use it.
    bounding = ["CapBnd"] if os.getuid() == 0 or harness.tier == "full" else []
    names = ("CapInh", "CapPrm", "CapEff", "CapAmb", *bounding, "NoNewPrivs", "Seccomp")
    for pid in inside:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert [status[name].strip() for name in names] == [*["0" * 16] * (len(names) - 2), "1", "2"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@abuse(19, 20)
async def test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker(
    harness: ToolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: a leaked descriptor of the broker is not open in the tool, even if it is inheritable; a granted variable is set."""
    monkeypatch.setenv("BROKER_SECRET", "secret")
    leak = os.open(harness.file("../leak"), os.O_RDONLY)
    os.set_inheritable(leak, True)
    code = """
    import os
    def act() -> dict:
        open_ones = []
        for number in range(1024):
            try:
                os.fstat(number)
                open_ones.append(number)
            except OSError:
                pass
        return {"descriptors": len(open_ones), "variables": dict(os.environ)}
    """
    try:
        output = await harness.run(code, env={"DECIDED": "given"})
    finally:
        os.close(leak)
    variables = output.value["variables"]
    assert output.value["descriptors"] == 4  # the three standard ones and the channel
    assert variables.pop("DECIDED") == "given"
    assert set(variables) <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_CTYPE",
        "PWD",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
    }


# -- network -----------------------------------------------------------------------------------------------------------


async def test_no_socket_of_any_family_can_be_made(harness: ToolHarness) -> None:
    """B6: every family and type, a listener on this machine, names; a stream pair is allowed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        output = await harness.run(
            f"""{TRY}
def act(port: int) -> dict:
    families = [tried(lambda: socket.socket(family, kind)) for family in range(0, 46) for kind in (1, 2, 3, 5)]
    return {{
        "families": sorted({{one.get("held", "reached") for one in families}}),
        "loopback": tried(lambda: socket.create_connection(("127.0.0.1", port), 1)),
        "mptcp": tried(lambda: socket.socket(2, 1, 262)),
        "name": tried(lambda: socket.getaddrinfo("example.com", 443)),
        "pair": tried(lambda: socket.socketpair()),
    }}
""",
            {"port": listener.getsockname()[1]},
        )
    results = output.value
    assert results["families"] == ["EPERM"]
    assert [outcome_of(results[one]) for one in ("loopback", "mptcp", "pair")] == ["EPERM", "EPERM", "reached"]
    assert outcome_of(results["name"]) != "reached"
    assert DeniedAccess(access="use", what="example.com:443", allow='hosts = ["example.com:443"]') in output.refused


@abuse(58)
async def test_a_unix_socket_of_this_machine_cannot_be_reached(harness: ToolHarness) -> None:
    """A socket in the read-only folder, by a client socket and by a pair whose end is sent to its address."""
    harness.root.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(harness.root / "socket"))
        results = await held(
            harness,
            """{
                "client": tried(lambda: socket.socket(socket.AF_UNIX).connect(path)),
                "datagram pair": tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", path)),
                "packet pair": tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].sendto(b"x", path)),
                "stream pair": tried(lambda: socket.socketpair()[0].sendto(b"x", path)),
                "connect pair": tried(lambda: socket.socketpair()[0].connect(path)),
                "listen": tried(lambda: socket.socketpair()[0].bind(path + "2")),
            }""",
            {"path": f"{harness.seen}/socket"},
        )
        assert results.pop("stream pair") == "EISCONN"  # it stays connected to its other end
        assert set(results.values()) <= FILTERED
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(1)
