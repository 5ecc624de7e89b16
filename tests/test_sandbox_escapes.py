"""Ways out of the sandbox, each named by its threat, each tried by a real tool, each beside what stays allowed."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from confining import Room

from remit.event import Refused
from remit.sandbox import Tier

TRY = """
import ctypes, errno, os, signal, socket, subprocess, sys
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


@pytest.fixture(params=["full", "landlock"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    tier: Tier = request.param
    return Room(base=tmp_path, tier=tier)


async def held(room: Room, body: str, arguments: dict[str, Any] | None = None, **given: Any) -> dict[str, str]:
    """What each attempt of `body`, a dict of name to expression, came to: "reached", or the kernel's errno."""
    names = ", ".join(f"{name}=None" for name in arguments or {})
    output = await room.run(f"{TRY}\ndef act({names}) -> dict:\n    return {body}\n", arguments, **given)
    assert output.code is None, output
    return {name: came_to(result) for name, result in output.value.items()}


def came_to(result: dict[str, str]) -> str:
    return result.get("held", "reached")


OUT_OF_REACH = {"EACCES", "ENOENT", "EROFS", "EPERM", "EXDEV"}
FILTERED = {"EPERM", "ENOSYS"}  # what the filter says, before the kernel looks at any argument


# -- files -------------------------------------------------------------------------------------------------------------


async def test_a_decided_file_is_read_and_no_other(room: Room) -> None:
    """A1, 46: the twin comes first: what was decided opens."""
    room.file("docs/a.md", "decided")
    room.file("docs/b.md")
    room.file("../work-evil/a.md")
    room.file("../secret")
    results = await held(
        room,
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
        {"outside": str(room.base / "secret")},
        reads=("docs/a.md",),
    )
    assert results.pop("decided") == "reached"
    assert set(results.values()) <= OUT_OF_REACH


async def test_a_symlink_inside_leads_nowhere(room: Room) -> None:
    """A3: neither as the decided name itself, nor as a folder on the way, nor one that the tool makes."""
    secret = room.file("../secret", "outside")
    room.file("plain/a.md", "decided")
    (room.root / "link.md").symlink_to(secret)
    (room.root / "folder").symlink_to(secret.parent)
    results = await held(
        room,
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


async def test_a_file_swapped_for_a_symlink_between_check_and_open_leaks_nothing(room: Room) -> None:
    """A4: a thread flips the decided name between a file and a link to a secret while calls read it."""
    secret = room.file("../secret", "SECRET")
    plain = room.file("plain", "plain")
    target = room.root / "target"
    os.link(plain, target)
    stop = threading.Event()

    def flip() -> None:
        link, file = room.root / "link.tmp", room.root / "file.tmp"
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
            output = await room.run(code, reads=("target",))
            seen |= set(output.value)
    finally:
        stop.set()
        flipper.join()
    assert "SECRET" not in seen
    assert "held" in seen


async def test_nothing_is_written_but_scratch(room: Room) -> None:
    """47, 49, 50, 92: contents, names, modes and times of the working folder and of what lies outside stay as they are."""
    read = room.file("docs/a.md", "read")
    outside = room.file("../outside", "outside")
    before = [path.stat() for path in (read, outside)]
    results = await held(
        room,
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
        }""",
        {"outside": str(outside), "seen": room.seen},
        reads=("docs/a.md",),
        writes=("out.md",),
    )
    assert (results.pop("scratch"), results.pop("temporary")) == ("reached", "reached")
    assert set(results.values()) <= OUT_OF_REACH
    assert [path.stat() for path in (read, outside)] == before
    assert sorted(os.listdir(room.root / "docs")) == ["a.md"]


async def test_a_protected_room_that_does_not_exist_yet_cannot_be_made(room: Room) -> None:
    """A6: neither by the tool nor by a decision; the same name elsewhere may be written."""
    room.file("remit.toml", "")
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
        output = await room.run(code, writes=(name,))
        assert output.code in ("policy_denied", "invalid_arguments"), name
        assert output.spent.wall_s == 0
    output = await room.run(
        "def act() -> None:\n    open('reports/policies/x.csv', 'w')\n", writes=("reports/policies/x.csv",)
    )
    assert output.code is None
    assert output.scratch is not None
    output.scratch.discard()


async def test_a_set_with_a_denied_child_never_reads_it(room: Room) -> None:
    """The child's name is not listed and its content does not open; the other files do both."""
    room.file("docs/a.md", "a")
    room.file("docs/sub/b.md", "b")
    room.file("docs/secret/c.md", "c")
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

    output = await room.run(code, {"seen": room.seen}, reads=("docs/**",), allowed=allowed)
    assert output.value == {"texts": {"docs/a.md": "a", "docs/sub/b.md": "b"}, "opened": []}
    assert Refused(access="read", what="docs/secret/c.md", allow='read = ["docs/secret/c.md"]') in output.refused
    everything = await room.run(code, {"seen": room.seen}, reads=("docs/**",))
    assert everything.value["texts"] == {"docs/a.md": "a", "docs/sub/b.md": "b", "docs/secret/c.md": "c"}


# -- processes ---------------------------------------------------------------------------------------------------------


async def test_no_program_and_no_process_starts(room: Room) -> None:
    """21, 22, 23: exec and every kind of fork; a thread stays allowed."""
    results = await held(
        room,
        """{
            "thread": tried(lambda: __import__("threading").Thread(target=print).start()),
            "exec": tried(lambda: os.execv("/bin/true", ["true"])),
            "spawn": tried(lambda: os.posix_spawn("/bin/true", ["true"], {})),
            "run": tried(lambda: subprocess.run(["/bin/true"])),
            "fork": tried(lambda: os.fork() or os._exit(0)),
            "vfork": tried(lambda: libc("syscall", 58 if os.uname().machine == "x86_64" else 1079)),
            "clone3": tried(lambda: libc("syscall", 435, 0, 0)),
        }""",
    )
    assert results.pop("thread") == "reached"
    assert set(results.values()) <= FILTERED


async def test_other_processes_cannot_be_signalled_traced_or_seen(room: Room) -> None:
    """12-18: the broker, the sandbox's first process and everybody; its own signals stay allowed."""
    results = await held(
        room,
        """{
            "own": tried(lambda: os.kill(os.getpid(), 0)),
            "broker": tried(lambda: os.kill(broker, 0)),
            "first": tried(lambda: os.kill(os.getppid(), 0)),
            "everybody": tried(lambda: os.kill(-1, 0)),
            "group": tried(lambda: os.killpg(0, 0)),
            "queue": tried(lambda: libc("sigqueue", os.getppid(), 0, 0)),
            "handle": tried(lambda: os.pidfd_open(os.getppid())),
            "trace": tried(lambda: libc("ptrace", 16, broker, 0, 0)),
            "memory": tried(lambda: libc("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0)),
            "see": tried(lambda: os.listdir("/proc")),
            "limits": tried(lambda: libc("prlimit", os.getppid(), 7, 0, 0)),
            "outlive": tried(lambda: libc("prctl", 1, 0, 0, 0, 0)),
        }""",
        {"broker": os.getpid()},
    )
    assert results.pop("own") == "reached"
    assert results.pop("see") in OUT_OF_REACH
    assert set(results.values()) <= FILTERED


async def test_the_kernel_gives_no_new_powers(room: Room) -> None:
    """7, 8, 10, 11, 53-56, 61-64: namespaces, mounts, handles, keys, shared memory, io_uring, bpf and the like."""
    results = await held(
        room,
        """{
            "clock": tried(lambda: __import__("time").time()),
            "file mapping": tried(lambda: __import__("mmap").mmap(os.open(sys.modules["main"].__file__, 0), 1, prot=1)),
            "unshare": tried(lambda: libc("unshare", 0x10000000)),
            "setns": tried(lambda: libc("setns", 0, 0)),
            "mount": tried(lambda: libc("mount", b"none", b"/", b"tmpfs", 0, None)),
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
            "terminal, high bits": tried(lambda: libc("syscall", 16 if os.uname().machine == "x86_64" else 29, 0, ctypes.c_ulong(0x100005412), b"x")),
        }""",
    )
    assert (results.pop("clock"), results.pop("file mapping")) == ("reached", "reached")
    assert set(results.values()) <= FILTERED


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 and 32-bit calls exist on x86_64 only")
async def test_the_calls_of_another_architecture_are_not_a_way_around(room: Room) -> None:
    """65: an x32 number is an unknown call."""
    results = await held(room, '{"x32": tried(lambda: libc("syscall", 0x40000000 + 57))}')
    assert results == {"x32": "ENOSYS"}


async def test_no_capability_and_no_identity_is_left(room: Room) -> None:
    """57: even where the broker is root."""
    code = """
    import ctypes, struct
    def act() -> list:
        data = ctypes.create_string_buffer(24)
        number = 125 if __import__("os").uname().machine == "x86_64" else 90
        ctypes.CDLL(None).syscall(number, struct.pack("Ii", 0x20080522, 0), data)
        return list(data.raw)
    """
    assert (await room.run(code)).value == [0] * 24


async def test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """19, 20, H1: a leaked descriptor of the broker, even an inheritable one, is not there; a decided variable is."""
    monkeypatch.setenv("BROKER_SECRET", "secret")
    leak = os.open(room.file("../leak"), os.O_RDONLY)
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
        output = await room.run(code, env={"DECIDED": "given"})
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
    }


# -- network -----------------------------------------------------------------------------------------------------------


async def test_no_socket_of_any_family_can_be_made(room: Room) -> None:
    """69-75, B6: every family and type, a listener on this machine, names; a stream pair stays allowed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        output = await room.run(
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
    assert [came_to(results[one]) for one in ("loopback", "mptcp", "pair")] == ["EPERM", "EPERM", "reached"]
    assert came_to(results["name"]) != "reached"
    assert Refused(access="use", what="example.com:443", allow='hosts = ["example.com:443"]') in output.refused


async def test_a_unix_socket_of_this_machine_cannot_be_reached(room: Room) -> None:
    """58: through the read-only folder, by a client socket and by a pair whose end is sent to an address."""
    room.root.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(room.root / "socket"))
        results = await held(
            room,
            """{
                "client": tried(lambda: socket.socket(socket.AF_UNIX).connect(path)),
                "datagram pair": tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", path)),
                "packet pair": tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].sendto(b"x", path)),
                "stream pair": tried(lambda: socket.socketpair()[0].sendto(b"x", path)),
                "connect pair": tried(lambda: socket.socketpair()[0].connect(path)),
                "listen": tried(lambda: socket.socketpair()[0].bind(path + "2")),
            }""",
            {"path": f"{room.seen}/socket"},
        )
        assert results.pop("stream pair") == "EISCONN"  # connected to its twin, and to nobody else ever
        assert set(results.values()) <= FILTERED
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(1)
