"""An import of a warm tool cannot pass data from one call to another, whatever it replaces.

The import runs once, before all calls, and each call runs in a fork of it. So each attempt here has three parts: one
runs at import, one leaves data in one call (`leave`), and one looks for it in the next (`find`).
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from adversarial.attack_list import abuse
from remit.sandbox import Tier
from support.sandbox import ToolHarness, close_sandboxes

TRIALS = int(os.environ.get("REMIT_TRIALS", "25"))  # of each channel; `make soak` has 250, so some 12,000 in all

PRELUDE = """
import ctypes, fcntl, gc, mmap, os, resource, signal, socket, stat, struct, sys, time, types
LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
PLACES = ("/scratch", "/tmp", os.environ.get("TMPDIR", "/tmp"), os.path.dirname(os.environ.get("TMPDIR", "/tmp")))
def tried(what, *given):
    try:
        return what(*given)
    except (OSError, ValueError, TypeError) as failure:
        return None
def guests():
    # The modules of the sandbox itself, found through the garbage collector.
    return [one for one in gc.get_objects() if isinstance(one, types.ModuleType)
            and os.path.basename(str(getattr(one, "__file__", ""))) in
            ("base.py", "decoding.py", "kernel.py", "onecall.py", "serving.py", "supervisor.py", "watch.py", "inside.py", "scratch_folders.py")]
def replace(name, make):
    for module in guests():
        if callable(real := getattr(module, name, None)) and isinstance(real, types.FunctionType):
            setattr(module, name, make(real))
def system(x86, aarch64, *arguments):
    return LIBC.syscall(ctypes.c_long(x86 if X86 else aarch64), *arguments)
"""

UNNARROWED = """
# The child drops none of the rights that its base has.
for one in [kind for kind in gc.get_objects() if isinstance(kind, type) and kind.__name__ == "Ruleset"]:
    one.enforce = lambda self: None
replace("install", lambda real: lambda program: None)
"""

# -- memory and descriptors --------------------------------------------------------------------------------------------

MAPPED = """
def make():
    for folder in PLACES:
        handle = tried(os.open, folder + "/x", os.O_RDWR | os.O_CREAT, 0o600)
        if handle is not None:
            tried(os.ftruncate, handle, 4096)
            made = tried(mmap.mmap, handle, 4096)
            tried(os.close, handle)
            if made is not None:
                return made
KEPT = make()
def find(): return bytes(KEPT[:64]) if KEPT else None
def leave(text):
    if KEPT: KEPT[:len(text)] = text
"""
UPGRADED = """
def make():
    for folder in PLACES:
        handle = tried(os.open, folder + "/x", os.O_RDWR | os.O_CREAT, 0o600)
        if handle is not None:
            tried(os.ftruncate, handle, 4096)
            LIBC.mmap.restype = ctypes.c_void_p
            at = LIBC.mmap(None, ctypes.c_size_t(4096), 1, 1, handle, ctypes.c_long(0))
            tried(os.close, handle)
            if at not in (None, ctypes.c_void_p(-1).value):
                return at
AT = make()
def find():
    return ctypes.string_at(AT, 64) if AT else None
def leave(text):
    if AT and LIBC.mprotect(ctypes.c_void_p(AT), ctypes.c_size_t(4096), 3) == 0:
        ctypes.memmove(AT, text, len(text))
"""
ANONYMOUS = """
KEPT = tried(mmap.mmap, -1, 4096) or tried(lambda: mmap.mmap(os.open("/dev/zero", os.O_RDWR), 4096))
def find(): return bytes(KEPT[:64]) if KEPT else None
def leave(text):
    if KEPT: KEPT[:len(text)] = text
"""
MEMORY_FILE = """
KEPT = tried(os.memfd_create, "kept")
def find(): return os.pread(KEPT, 64, 0) if KEPT is not None else None
def leave(text):
    if KEPT is not None: os.pwrite(KEPT, text, 0)
"""
DESCRIPTOR = """
def make():
    for folder in PLACES:
        handle = tried(os.open, folder + "/y", os.O_RDWR | os.O_CREAT, 0o600)
        if handle is not None:
            for number in (0, 1, 2, 3, 77):
                tried(os.dup2, handle, number)
make()
def find(): return [tried(os.pread, number, 64, 0) for number in (0, 1, 2, 77)]
def leave(text): [tried(os.pwrite, number, text, 0) for number in (0, 1, 2, 77)]
"""
PIPE = """
ENDS = tried(os.pipe)
PAIR = tried(socket.socketpair)
COUNT = tried(os.eventfd, 0)
[tried(os.set_blocking, one, False) for one in (*(ENDS or ()), *([PAIR[0].fileno(), PAIR[1].fileno()] if PAIR else []))]
def is_pipe(number): return bool(tried(lambda: stat.S_ISFIFO(os.fstat(number).st_mode)))
def find(): return [tried(os.read, ENDS[0], 64) if ENDS and is_pipe(ENDS[0]) else None, tried(PAIR[0].recv, 64) if PAIR else None]
def leave(text):
    if ENDS and is_pipe(ENDS[1]): tried(os.write, ENDS[1], text)
    if PAIR: tried(PAIR[1].send, text)
"""
OFFSET = """
# Forked processes that inherit an open file share its offset.
HELD = [os.open(os.__file__, os.O_RDONLY) for _ in range(8)]
def find(): return bytes(tried(os.lseek, one, 0, os.SEEK_CUR) or 0 for one in HELD)
def leave(text): [tried(os.lseek, one, byte, os.SEEK_SET) for one, byte in zip(HELD, text)]
"""
FLAGS = """
HELD = [os.open(os.__file__, os.O_RDONLY) for _ in range(64)]
def find():
    bits = [bool((tried(fcntl.fcntl, one, fcntl.F_GETFL) or 0) & os.O_NONBLOCK) for one in HELD]
    return bytes(sum(bit << place for place, bit in enumerate(bits[at:at + 8])) for at in range(0, 64, 8))
def leave(text):
    for at, byte in enumerate(text[:8]):
        for place in range(8):
            if byte >> place & 1: tried(fcntl.fcntl, HELD[8 * at + place], fcntl.F_SETFL, os.O_NONBLOCK)
"""
KEPT_OPEN = (
    """
# The child does not close what it inherited.
replace("close_all_from", lambda real: lambda first: None)
replace("close_others", lambda real: lambda keep: None)
"""
    + PIPE
)
CLOSED_LATER = (
    """
# It claims to close everything, but with the flag CLOSE_RANGE_CLOEXEC nothing is closed yet.
replace("close_all_from", lambda real: lambda first: system(436, 436, 0, 0xFFFFFFFF, 4))
replace("close_others", lambda real: lambda keep: None)
"""
    + OFFSET
)

# -- what a parent can learn -------------------------------------------------------------------------------------------

TAUGHT = """
LEARNT = []
def spying(real):
    def fork():
        child = real()
        if child:
            time.sleep(0.02)
            LEARNT.append(look())
            del LEARNT[:-20]
        return child
    return fork
replace("fork_sibling", spying)
def waiting(real):
    def wait(*given):
        ended = real(*given)
        if ended[0]: LEARNT.append(ended[1:])
        return ended
    return wait
os.wait4, os.waitpid = waiting(os.wait4), waiting(os.waitpid)
def find(): return repr(LEARNT).encode()
"""
STATUS = (
    TAUGHT
    + """
def look(): return tried(os.wait4, -1, os.WNOHANG) or tried(lambda: os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG))
def leave(text): pass
END = True
"""
)
USAGE = (
    TAUGHT
    + """
def look(): return [one for one in resource.getrusage(resource.RUSAGE_CHILDREN)[:14] if one]
HELD = []
def leave(text): HELD.append(bytes(text[0] << 16))
"""
)
SIGNALS = (
    TAUGHT
    + """
RECEIVED = []
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGRTMIN):
    signal.signal(number, lambda which, _: RECEIVED.append(which))
BASE = os.getpid()
def look(): return list(RECEIVED)
def leave(text):
    for target in (BASE, os.getppid(), 1, -1, 0, *range(BASE - 3, BASE + 12)):
        if target != os.getpid():
            tried(os.kill, target, signal.SIGUSR1)
            system(234, 131, target, target, signal.SIGUSR2)
"""
)
MEMORY = (
    TAUGHT
    + """
PLACE = ctypes.create_string_buffer(64)
AT, BASE = ctypes.addressof(PLACE), os.getpid()
def look(): return PLACE.raw.rstrip(bytes(1))
def leave(text):
    own = ctypes.create_string_buffer(text)
    ours = struct.pack("PN", ctypes.addressof(own), len(text))
    theirs = struct.pack("PN", AT, len(text))
    system(311, 271, BASE, ours, 1, theirs, 1, 0)
    tried(lambda: os.pwrite(os.open(f"/proc/{BASE}/mem", os.O_WRONLY), text, AT))
"""
)
STATE = (
    TAUGHT
    + """
# Properties that a process can set, and another can query.
BASE = os.getpid()
def asked(pid): return [tried(os.getpriority, os.PRIO_PROCESS, pid), tried(os.getpgid, pid), tried(os.getsid, pid),
                        tried(os.sched_getaffinity, pid), tried(os.sched_getscheduler, pid)]
def look(): return [asked(pid) for pid in range(BASE + 1, BASE + 20)]
def leave(text):
    tried(os.setpriority, os.PRIO_PROCESS, 0, 1 + text[0] % 15)
    tried(os.setpgid, 0, 0)
    time.sleep(0.05)
def find(): return repr([one for seen in LEARNT for row in seen for one in row if one is not None and one is not False]).encode()
"""
)

# -- files -------------------------------------------------------------------------------------------------------------

NAMES = """
def find(): return repr([tried(os.listdir, one) for one in PLACES] + [tried(os.listdir, "/scratch"), tried(os.listdir, "/tmp")]).encode()
def leave(text):
    for folder in PLACES:
        tried(os.mkdir, folder + "/" + text.decode())
        tried(lambda: open(folder + "/f" + text.decode(), "w").close())
        tried(os.symlink, text.decode(), folder + "/s" + text.decode())
"""
SHARED_FILES = 'SHARED = (*PLACES, "/dev/null", "/dev/zero", "/dev/urandom", os.__file__, __file__, os.path.dirname(__file__), "ROOT", "/remit", "/")\n'
TIMES = (
    SHARED_FILES
    + """
def find():
    return b"".join(tried(lambda: (os.stat(one).st_atime_ns % (1 << 56)).to_bytes(7, "big") + (os.stat(one).st_mtime_ns % (1 << 56)).to_bytes(7, "big")) or b"" for one in SHARED)
def leave(text):
    number = int.from_bytes(text[:7], "big")
    for one in SHARED:
        tried(os.utime, one)
        tried(lambda: os.utime(one, ns=(number, number)))
        tried(lambda: os.utime(os.open(one, os.O_RDONLY), ns=(number, number)))
"""
)
MODES = (
    SHARED_FILES
    + """
def find(): return bytes((os.stat(one).st_mode & 0o777) % 256 for one in SHARED if os.path.exists(one))
BEFORE = find()
def leave(text):
    for one, byte in zip(SHARED, text):
        tried(os.chmod, one, 0o700 | byte % 64)
        tried(lambda: os.fchmod(os.open(one, os.O_RDONLY), 0o700 | byte % 64))
        tried(lambda: os.setxattr(one, "user.left", text))
"""
)


LITERAL = {
    "a file that is mapped": MAPPED, "a mapping that becomes writable": UPGRADED, "memory without a file": ANONYMOUS,
    "a memory file": MEMORY_FILE, "a descriptor": DESCRIPTOR, "a pipe and a socket pair": PIPE,
    "the offset of a file that is read": OFFSET, "the flags of a descriptor": FLAGS, "closing nothing": KEPT_OPEN,
    "closing later": CLOSED_LATER, "the base's memory": MEMORY, "names in folders": NAMES, "times": TIMES,
    "names, without narrowing": UNNARROWED + NAMES, "times, without narrowing": UNNARROWED + TIMES,
    "offsets, without narrowing": UNNARROWED + OFFSET, "a file, without narrowing": UNNARROWED + MAPPED,
}  # fmt: skip
ACT = """
END = globals().get("END", False)
def act(text: str) -> str:
    found = find()
    leave(text.encode())
    if END: os._exit(text.encode()[0])
    return repr(found)
"""


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ToolHarness:
    tier: Tier = request.param
    return ToolHarness(base=tmp_path, tier=tier)


def attack(harness: ToolHarness, part: str) -> str:
    return (PRELUDE + part + ACT).replace("ROOT", harness.seen)


@abuse(29)
@pytest.mark.parametrize("name", LITERAL)
async def test_nothing_that_an_import_prepared_passes_data_from_call_to_call(harness: ToolHarness, name: str) -> None:
    code = attack(harness, LITERAL[name])
    for number in range(4):
        output = await harness.run(code, {"text": f"sec{number:04}x"})
        assert output.code is None, output
        assert "ec00" not in output.value, (name, number, output.value)
        for earlier in range(number):
            assert repr(f"sec{earlier:04}x".encode())[2:-1] not in output.value


@abuse(29)
@pytest.mark.parametrize("part", [STATUS, USAGE, SIGNALS, STATE], ids=["status", "usage", "signals", "state"])
async def test_the_base_learns_nothing_of_its_children(harness: ToolHarness, part: str) -> None:
    """Neither how they ended, nor what they used, nor anything that they try to send it."""
    code = attack(harness, UNNARROWED + part)
    for number in range(5):
        await harness.run(code, {"text": chr(100 + number) + "x"})
        await asyncio.sleep(0.05)
    output = await harness.run(code.replace("END = True", "END = False"), {"text": "a"})
    if part is not STATUS:
        assert output.code is None, output
        learnt = eval(eval(output.value))
        assert not any(learnt), learnt


async def test_the_base_cannot_wait_for_the_status_of_a_call(harness: ToolHarness) -> None:
    """Calls exit with a status, and a later call of the same code reads what the base learned."""
    code = attack(harness, STATUS).replace("if END: os._exit", 'if text != "read": os._exit')
    for number in (41, 42, 43):
        assert (await harness.run(code, {"text": chr(number)})).code == "tool_crashed"
    output = await harness.run(code, {"text": "read"})
    assert not any(eval(eval(output.value))), output.value


@abuse(29)
async def test_no_call_changes_modes_or_attributes_of_what_calls_share(harness: ToolHarness) -> None:
    code = attack(harness, MODES).replace("return repr(found)", "return repr([found, BEFORE])")
    for text in ("\x01\x02\x03\x04\x05\x06\x07", "\x08\x09\x0a\x0b\x0c\x0d\x0e", "x"):
        found, before = eval((await harness.run(code, {"text": text})).value)
        assert found[4:] == before[4:]  # the first four are the call's own folders


@abuse(22)
async def test_a_call_cannot_make_a_copy_that_takes_the_next_one(harness: ToolHarness) -> None:
    """A call forks with the same system call as the base, with its own data in memory."""
    code = (
        PRELUDE
        + UNNARROWED
        + """
SEEN = []
def act(text: str) -> list:
    before = list(SEEN)
    SEEN.append(text)
    child = system(56, 220, ctypes.c_long(0x8000 | 0x01000000 | 0x00200000 | 17), None, None, None, None)
    if child == 0:
        system(436, 436, 0, 0xFFFFFFFF, 0)
        line = system(288, 242, 0, 0, 0, 0)
        body = b'{"kind":"value","value":["%s"]}' % text.encode()
        os.write(line, len(body).to_bytes(4, "big") + body) if line >= 0 else None
        os._exit(0)
    return [child, before, system(288, 242, 0, 0, 0, 0)]
"""
    )
    for number in range(4):
        output = await harness.run(code, {"text": f"secret {number}"})
        assert output.value == [-1, [], -1], output


@abuse(29)
async def test_a_call_is_given_to_a_child_and_never_to_the_base(harness: ToolHarness) -> None:
    """The base makes the `accept4` that asks for a call, before its children do."""
    code = (
        PRELUDE
        + """
GOT = [system(288, 242, 0, 0, 0, 0)]
def asking(real):
    def fork():
        GOT.append(system(288, 242, 0, 0, 0, 0))
        return real()
    return fork
replace("fork_sibling", asking)
def act(text: str) -> list:
    return [set(GOT) == {-1}, len(GOT)]
"""
    )
    for _ in range(3):
        held, tries = (await harness.run(code, {"text": "x"})).value
        assert held
        assert tries > 1


@abuse(14)
async def test_a_lock_shows_nothing_to_other_calls(harness: ToolHarness) -> None:
    """Locks on whole files and on parts, while the other call runs; also for a tool without trust."""
    code = (
        PRELUDE
        + """
def act(hold: bool) -> list:
    handle = os.open(os.__file__, os.O_RDONLY)
    found = []
    if hold:
        tried(fcntl.flock, handle, fcntl.LOCK_EX)
        tried(lambda: fcntl.lockf(handle, fcntl.LOCK_SH, 7, 5))
        time.sleep(1.5)
        return []
    time.sleep(0.4)
    lock = struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0)
    for how in (fcntl.F_GETLK, 36):
        answer = tried(fcntl.fcntl, handle, how, lock)
        found.append(answer is not None and answer != lock)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found.append("free")
    except OSError as failure:
        found.append(failure.errno)
    return found
"""
    )
    for trust in ("pinned", "none"):
        holding = asyncio.create_task(harness.run(code, {"hold": True}))
        looking = await harness.run(code, {"hold": False}, trust=trust)
        assert (await holding).code is None
        alone = await harness.run(code, {"hold": False}, trust=trust)
        assert looking.value[:2] == [False, False]
        assert looking.value == alone.value


async def test_a_database_and_a_log_of_a_calls_own_still_work(harness: ToolHarness) -> None:
    """The twin: locks, mappings, pipes, threads and signals within one call."""
    code = """
    import asyncio, mmap, os, signal, sqlite3, threading
    def act() -> list:
        with sqlite3.connect("own.db") as own:
            own.execute("create table t (n)")
            own.execute("insert into t values (7)")
        with open(os.environ["TMPDIR"] + "/m", "w+b") as file:
            file.truncate(10)
            mmap.mmap(file.fileno(), 10)[:2] = b"ok"
            file.seek(0)
            mapped = file.read(2).decode()
        events = []
        signal.signal(signal.SIGUSR1, lambda *_: events.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        threads = [threading.Thread(target=events.append, args=(2,)) for _ in range(3)]
        [one.start() for one in threads]
        [one.join() for one in threads]
        async def both() -> int:
            return sum(await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(lambda: 2)))
        os.chmod(os.environ["TMPDIR"] + "/m", 0o600) if MOUNTS else None
        return [sqlite3.connect("own.db").execute("select n from t").fetchall()[0][0], mapped, sorted(events), asyncio.run(both())]
    """.replace("MOUNTS", str(harness.tier == "full"))
    output = await harness.run(code, writes=("out.md",))
    assert output.value == [7, "ok", [1, 2, 2, 2], 3], output


async def test_what_an_import_wrote_for_itself_is_read_by_every_call_and_written_by_none(tmp_path: Path) -> None:
    """A cache that the import writes, in the tier with mounts; in the other tier an import cannot write."""
    harness = ToolHarness(base=tmp_path, tier="full")
    code = """
with open("/tmp/cache", "w") as file:
    file.write("made at import")
OWN = os.getpid()
def act() -> list:
    try:
        open("/tmp/cache", "a").write("changed")
        held = "written"
    except OSError as failure:
        held = type(failure).__name__
    return [OWN, held, open("/tmp/cache").read() if NARROWED else ""]
"""
    for narrowed in ("", UNNARROWED):
        whole = PRELUDE + narrowed + code.replace("NARROWED", str(bool(narrowed)))
        values = [(await harness.run(whole)).value for _ in range(2)]
        assert values[0] == values[1]  # one base for both
        assert values[0][1] in ("OSError", "PermissionError")
        assert values[0][2] in ("", "made at import")


async def test_random_words_never_pass_from_one_call_to_another(harness: ToolHarness) -> None:
    """All attempts together, with a different word in each call; two calls run at a time."""
    parts = [
        part
        for name, part in LITERAL.items()
        if name not in ("closing nothing", "closing later") and "times" not in name and "," not in name
    ]
    defined = "\n".join(
        part.replace("def find(", f"def find{number}(").replace("def leave(", f"def leave{number}(")
        .replace("KEPT", f"KEPT{number}").replace("HELD", f"HELD{number}").replace("def make(", f"def make{number}(")
        .replace("make()", f"make{number}()").replace(f"def make{number}{number}", f"def make{number}")
        for number, part in enumerate(parts)
    )  # fmt: skip
    both = "\n".join(f"    found.append(tried(find{n}))\n    tried(leave{n}, text.encode())" for n in range(len(parts)))
    code = f"{PRELUDE}{defined}\ndef act(text: str) -> str:\n    found = []\n{both}\n    return repr(found)\n"
    chance = random.Random(11)
    words: list[str] = []

    async def one() -> None:
        word = "".join(chance.choices("bcdfghjklmnpqrstvwxz", k=8))
        output = await harness.run(code, {"text": word})
        assert output.code is None, output
        assert not [earlier for earlier in words if earlier in output.value]
        words.append(word)

    for _ in range(max(1, TRIALS // 2)):
        await asyncio.gather(one(), one())
    await close_sandboxes()


async def test_no_tool_changes_a_device_of_this_machine(harness: ToolHarness) -> None:
    """A process that may write to a file may also set its times to now, so that is blocked, too.

    Reading and writing the devices works.
    """
    code = """
    import os
    def act() -> list:
        held = []
        for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
            was = os.stat(device)  # an attempt that succeeds changes nothing
            for what in (
                lambda: os.utime(device),
                lambda: os.chmod(device, was.st_mode & 0o777),
                lambda: os.utime(device, ns=(was.st_atime_ns, was.st_mtime_ns)),
            ):
                try:
                    what()
                    held.append(False)
                except OSError:
                    held.append(True)
        open("/dev/null", "w").write("x")
        return [all(held), len(open("/dev/urandom", "rb").read(4)), open("/dev/zero", "rb").read(2) == bytes(2)]
    """
    for trust in ("pinned", "none"):
        assert (await harness.run(code, trust=trust)).value == [True, 4, True]


async def test_an_import_sees_and_makes_no_folder_that_calls_use(harness: ToolHarness) -> None:
    """The folder that holds the scratch folders of all calls cannot be listed, and nothing can be added to it; a call uses its own."""
    code = """
    import os
    def reached() -> list:
        own = os.environ.get("TMPDIR", "/tmp")
        found = []
        for place in (os.path.dirname(own), os.path.dirname(own) + "/scratch"):
            for attempt in (os.listdir, lambda folder: os.mkdir(folder + "/made")):
                try:
                    attempt(place)
                    found.append([place, attempt.__name__])
                except OSError:
                    pass
        return found
    AT_IMPORT = [] if os.environ.get("TMPDIR", "/tmp") == "/tmp" else reached()  # with mounts, it lies in the call's own root
    def act() -> list:
        os.mkdir(os.environ.get("TMPDIR", "/tmp") + "/own")
        return AT_IMPORT
    """
    for _ in range(2):
        assert (await harness.run(code)).value == []


async def test_two_users_and_two_tenants_are_never_served_by_one_process(harness: ToolHarness) -> None:
    code = "import os\nBASE = os.urandom(8).hex()\ndef act() -> str:\n    return BASE\n"
    own: dict[str, str] = {}
    ann = {"user": "user:ann", "tenant": "one", "workspace": "/a"}
    for changes in ({}, {"user": "user:bob"}, {"tenant": "two"}, {"workspace": "/b"}):
        values = [(await harness.run(code, **{**ann, **changes})).value for _ in range(2)]
        assert values[0] == values[1]
        own[str(changes)] = values[0]
    assert len(set(own.values())) == 4
