"""The results of confined calls: a value, a declared error, or one code for each other ending."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adversarial.attack_list import abuse
from remit.core.attempts import DeniedAccess, ReachedLimit
from remit.core.errors import Refusal, RunEnded
from remit.sandbox import Profile, Sandbox, argv, find_bwrap, probe
from remit.sandbox.profile import BASE_ENVIRONMENT, Runtime
from remit.sandbox.selfcheck.cases import ALLOWED, ATTEMPTS, ENDINGS, LEFT
from support.sandbox import ToolHarness, sandbox

# -- values ------------------------------------------------------------------------------------------------------------


async def test_arguments_become_the_tools_types_and_its_result_becomes_json(harness: ToolHarness) -> None:
    """Pydantic models, dates and sets go through pydantic; a second module of the tool's folder is importable."""
    (harness.profile().code / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    output = await harness.run(
        """
        from datetime import date
        from pydantic import BaseModel
        from helper import double
        class Order(BaseModel):
            name: str
            due: date
        def act(order: Order, many: set[int], resources: list[str], factor: float = 1.5) -> dict[str, Order | float]:
            assert many == {1, 2} and order.due.year == 2026
            return {"order": order, "factor": double(factor)}
        """,
        {"order": {"name": "a", "due": "2026-01-02"}, "many": [1, 2], "resources": []},
    )
    assert output.value == {"order": {"name": "a", "due": "2026-01-02"}, "factor": 3}
    assert output.spent.cpu_s > 0
    assert output.spent.memory_bytes > 1 << 20


async def test_a_tool_that_prints_while_it_ends_at_a_limit_disturbs_nothing(harness: ToolHarness) -> None:
    """Its prints are read together with its answer, even if the event loop has just seen them and is about to read them."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    code = """
    import os, threading, time
    def chatter() -> None:
        while True:
            os.write(2, b".")
    def act() -> None:
        time.sleep(0.02)
        threading.Thread(target=chatter, daemon=True).start()
        bytearray(1 << 40)
    """
    assert {(await harness.run(code)).code for _ in range(10)} == {"resource_exhausted"}
    assert complaints == []


async def test_what_a_tool_prints_is_kept_and_is_not_its_answer(harness: ToolHarness) -> None:
    output = await harness.run("import sys\ndef act() -> None:\n    print('out')\n    print('err', file=sys.stderr)\n")
    assert (output.code, output.value) == (None, None)
    assert sorted(output.stderr.split()) == ["err", "out"]


async def test_an_asynchronous_action_is_awaited(harness: ToolHarness) -> None:
    output = await harness.run("import asyncio\nasync def act() -> int:\n    await asyncio.sleep(0)\n    return 7\n")
    assert output.value == 7


async def test_a_store_is_a_folder_of_its_own_and_sqlite_works_in_it(harness: ToolHarness) -> None:
    code = """
    import os, sqlite3
    def act() -> list:
        with sqlite3.connect("stores/tickets/t.db") as database:
            database.execute("pragma journal_mode=wal")
            database.execute("create table if not exists t (n)")
            database.execute("insert into t values (1)")
            rows = database.execute("select count(*) from t").fetchone()
        try:
            other = os.listdir(os.path.realpath("stores/other"))
            open("stores/other/x", "w")
        except OSError:
            other = None
        return [*rows, other]
    """
    harness.file("stores/other/secret")
    counts = [(await harness.run(code, stores=("tickets",))).value for _ in range(2)]
    assert counts == [[1, None], [2, None]]
    both = await harness.run(code, stores=("tickets",), writes=("x.md",))  # the same names from scratch
    assert both.value == [3, None]
    assert both.refused[0].what == "stores/other"


async def test_describe_derives_schemas_without_the_hidden_parameters(harness: ToolHarness) -> None:
    """A function that cannot be an action has the reason; private and imported functions are left out."""
    profile = harness.profile()
    (profile.code / "main.py").write_text(
        "from typing import Literal\n"
        "from os.path import join\n"
        "def find(text: str, kind: Literal['a', 'b'] = 'a', *, idempotency_key: str, resources: list[str]) -> list[int]:\n"
        '    """Find a text."""\n'
        "    return []\n"
        "def untyped(x) -> int: ...\n"
        "def _private(x: int) -> int: ...\n"
    )
    assert await sandbox(harness.tier).describe(profile) == {
        "find": {
            "description": "Find a text.",
            "input": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
                },
                "required": ["text"],
                "additionalProperties": False,
            },
            "output": {"type": "array", "items": {"type": "integer"}},
            "hidden": ["idempotency_key", "resources"],
        },
        "untyped": {"problem": "parameter 'x' has no type"},
    }


async def test_code_that_does_not_import_cannot_be_described(full: ToolHarness) -> None:
    profile = full.profile()
    (profile.code / "main.py").write_text("import httpx\n")
    with pytest.raises(Refusal, match="No module named 'httpx'") as refused:
        await sandbox("full").describe(profile)
    assert refused.value.code == "tool_crashed"
    assert "import httpx" in refused.value.details["stderr"]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raises", "declared", "error"),
    [
        ("NotFound('no such thing')", {"not_found": ""}, "not_found"),
        ("NotFoundHere('no such thing')", {"not_found": ""}, "not_found"),
        ("FileNotFoundError('no such thing')", {"missing": "FileNotFoundError"}, "missing"),
        ("FileNotFoundError('no such thing')", {"any": "OSError", "missing": "FileNotFoundError"}, "missing"),
        ("PermissionError('no such thing')", {"locked": "PermissionError"}, "locked"),
        ("NotADatabase('no such thing')", {"not_a_database": ""}, "not_a_database"),
        ("HTTPError('no such thing')", {"http_error": ""}, "http_error"),
    ],
    ids=[
        "its own name",
        "its base",
        "a standard class",
        "the closest class wins",
        "even a permission",
        "a",
        "capitals",
    ],
)
async def test_a_declared_error_keeps_its_name(
    full: ToolHarness, raises: str, declared: dict[str, str], error: str
) -> None:
    classes = (
        "class NotFound(Exception): ...\nclass NotFoundHere(NotFound): ...\n"
        "class NotADatabase(Exception): ...\nclass HTTPError(Exception): ...\n"
    )
    code = f"{classes}def act() -> None:\n    raise {raises}\n"
    output = await full.run(code, declared=declared)
    assert (output.code, output.error, output.message) == ("tool_failed", error, "no such thing")


@pytest.mark.parametrize(
    ("given", "expected"), [("7.5", 7.5), ("1e12", None), ("-1", None), ("'soon'", None), ("float('nan')", None)]
)
async def test_a_declared_error_may_ask_to_retry_later(full: ToolHarness, given: str, expected: float | None) -> None:
    code = f"class Busy(Exception):\n    retry_after_s = {given}\n\ndef act() -> None:\n    raise Busy('later')\n"
    output = await full.run(code, declared={"busy": ""})
    assert (output.error, output.retry_after_s) == ("busy", expected)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise ValueError('broken')", "tool_crashed", "ValueError: broken"),
        ("raise SystemExit(3)", "tool_crashed", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "tool_crashed", "KeyboardInterrupt"),
        ("os._exit(0)", "tool_crashed", "exited with status 0"),
        ("os._exit(9)", "tool_crashed", "exited with status 9"),
        ("ctypes.string_at(0)", "tool_crashed", "SIGSEGV"),
        ("os.abort()", "tool_crashed", "SIGABRT"),
        ("os.kill(os.getpid(), 9)", "tool_crashed", "SIGKILL"),
        ("return 1 / 0", "tool_crashed", "ZeroDivisionError: division by zero"),
        ("return object()", "invalid_output", "not JSON"),
        ("return float('nan')", "invalid_output", "not JSON"),
        ("return '\\ud800'", "invalid_output", "not JSON"),
        ("return 'x' * 5_000_000", "resource_exhausted", "output limit"),
        ("return 2 ** 70", "invalid_output", "beyond"),
        ("x = []\n    for _ in range(500): x = [x]\n    return x", "invalid_output", "nested deeper"),
        ("x = []\n    for _ in range(100_000): x = [x]\n    return x", "invalid_output", "not JSON"),
        ("return 'x' * 4_000_000_000", "resource_exhausted", "memory"),
        ("x = []\n    while True: x.append(bytearray(1 << 20))", "resource_exhausted", "memory"),
        ("return [os.open('/dev/null', 0) for _ in range(5000)]", "resource_exhausted", "open files"),
        ("open(os.environ['TMPDIR'] + '/big', 'wb').write(b'x' * (100 << 20))", "resource_exhausted", "file"),
        ("for _ in range(5000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "resource_exhausted", "threads"),
        ("while True: print('x' * 10_000)", "resource_exhausted", "printed"),
        ("return open('other.md').read()", "sandbox_violation", "'other.md'"),
        ("open('new.md', 'w')", "sandbox_violation", "'new.md'"),
        ("import subprocess; subprocess.run(['true'])", "sandbox_violation", "'true'"),
        ("import socket; socket.socket()", "sandbox_violation", "network"),
        ("open('absent.md')", "tool_crashed", "FileNotFoundError"),
    ],
)  # fmt: skip
@abuse(26, 30, 32, 34, 39, 40, 43, 44, 45)
async def test_every_other_ending_has_its_code(harness: ToolHarness, body: str, code: str, message: str) -> None:
    """F8: crashes, bombs, floods, and invalid results."""
    harness.file("other.md")
    output = await harness.run(
        f"import ctypes, os, threading, time\ndef act():\n    {body}\n", memory=160 << 20, output=64 << 10
    )
    assert output.code == code, output
    assert message in output.message
    assert (output.limit is not None) is (code == "resource_exhausted")
    assert (output.value, output.scratch) == (None, None)


@pytest.mark.parametrize(("name", "code"), [("absent.md", "tool_crashed"), ("other.md", "sandbox_violation")])
async def test_a_missing_file_that_the_call_may_read_is_no_violation_whatever_else_was_refused(
    harness: ToolHarness, name: str, code: str
) -> None:
    """Libraries look for many files of the machine before they open the one of the call."""
    look = "try: open('/sys/fs/cgroup/cpu.max')\n    except OSError: pass"
    output = await harness.run(f"def act():\n    {look}\n    return open({name!r}).read()\n", reads=("absent.md",))
    assert output.code == code, output
    assert name in output.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("while True: pass", "resource_exhausted"),
        ("time.sleep(600)", "timeout"),
        ("for n in range(1, 65):\n        try: signal.signal(n, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    time.sleep(600)", "timeout"),
        ("for n in range(1, 65):\n        try: signal.signal(n, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass", "resource_exhausted"),
    ],
    ids=["spin", "sleep", "sleep, signals ignored", "spin, signals ignored"],
)  # fmt: skip
@abuse(36, 37, 38)
async def test_a_tool_that_does_not_end_is_ended(harness: ToolHarness, body: str, code: str) -> None:
    """By the clock, or by the processor time that it used."""
    wall = 0.5 if code == "timeout" else 20.0
    output = await harness.run(f"import signal, time\ndef act():\n    {body}\n", wall=wall, cpu=1.0)
    assert output.code == code, output
    assert output.limit is not None
    assert output.limit.used is not None
    assert output.limit.used >= 0.8 * output.limit.most  # the kernel's two clocks of processor time differ a little


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ("x = bytearray(40 << 20)\n    return bytearray(1 << 30)", ReachedLimit(name="memory", most=160 << 20, used=40 << 20, unit="bytes")),
        ("return 'x' * 70_000", ReachedLimit(name="output", most=64 << 10, used=70_002, unit="bytes")),
        ("[print('x' * 65_536) for _ in range(40)]", ReachedLimit(name="prints", most=1 << 20, used=1 << 20, unit="bytes")),
        ("[os.open('/dev/null', 0) for _ in range(5000)]", ReachedLimit(name="open_files", most=256, used=None, unit="count")),
    ],
    ids=["memory", "output", "prints", "open files"],
)  # fmt: skip
async def test_a_limit_is_named_with_how_much_was_used(harness: ToolHarness, body: str, limit: ReachedLimit) -> None:
    output = await harness.run(f"import os\ndef act():\n    {body}\n", memory=160 << 20, output=64 << 10)
    assert output.limit is not None, output
    assert output.limit.model_copy(update={"used": None}) == limit.model_copy(update={"used": None})
    assert (output.limit.used or 0) >= (limit.used or 0)


async def test_what_is_refused_names_the_line_that_would_allow_it(harness: ToolHarness) -> None:
    """Also if the tool caught the error and went on."""
    harness.file("docs/b.md")
    code = """
    import os
    def act() -> str:
        for path, mode in (("docs/b.md", "r"), ("docs/c.md", "w"), ("/etc/shadow", "r"), ("absent", "r")):
            try:
                open(path, mode)
            except OSError:
                pass
        return "went on"
    """
    output = await harness.run(code, reads=("docs/a.md",))
    assert output.value == "went on"
    assert output.refused == (
        DeniedAccess(access="read", what="docs/b.md", allow='read = ["docs/b.md"]'),
        DeniedAccess(access="write", what="docs/c.md", allow='write = ["docs/c.md"]'),
        DeniedAccess(access="read", what="/etc/shadow", allow="nothing: a tool reaches only its working folder"),
    )


async def test_a_call_that_keeps_to_its_decision_reports_nothing(harness: ToolHarness) -> None:
    """Imports that try many paths, SQLite by URI, its own scratch, a file that does not exist: none is reported."""
    database = harness.file("data/t.db")
    database.unlink()
    sqlite3.connect(database).close()
    code = """
    import os, pathlib, sqlite3, tempfile
    def act() -> list:
        import asyncio, decimal, xml.dom.minidom, helper
        from pydantic import TypeAdapter
        TypeAdapter(dict[str, list[int]]).validate_python({"a": [1]})
        for database in (pathlib.Path("data/t.db").absolute().as_uri() + "?mode=ro&immutable=1", "file:data/t.db?mode=ro"):
            sqlite3.connect(database, uri=True).execute("select 1")
        sqlite3.connect("data/t.db").execute("select 1")
        sqlite3.connect("file:stores/own/x.db?mode=rwc", uri=True).execute("create table if not exists t (n)")
        sqlite3.connect("file::memory:?cache=shared", uri=True).execute("create table t (n)")
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
        try:
            open("data/absent.db")
        except FileNotFoundError:
            pass
        return [*sqlite3.connect("stores/own/x.db").execute("select * from t")]
    """
    harness.profile()
    (harness.base / "tool" / "helper.py").write_text("")
    output = await harness.run(code, reads=("data/t.db",), stores=("own",))
    assert (output.code, output.refused) == (None, ())


CHANNEL = """
import os, socket, stat, sys, time
def channel():
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            pass
def say(body, size=None):
    channel().sendall((len(body) if size is None else size).to_bytes(4, "big") + body)
"""


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("say(b'[' * 60_000); os._exit(0)", "invalid_output", "nested deeper"),
        ("say(b'not json'); os._exit(0)", "invalid_output", "not JSON"),
        ("say(b'\\xff'); os._exit(0)", "invalid_output", "UTF-8"),
        ("say(b'[]'); os._exit(0)", "invalid_output", "not an answer"),
        ("""say(b'{"kind":"value","value":1,"value":2}'); os._exit(0)""", "invalid_output", "same key twice"),
        ("""say(b'{"kind":"value","value":"\\\\ud800"}'); os._exit(0)""", "invalid_output", "half a character"),
        ("""say(b'{"kind":"error","name":"made_up"}'); os._exit(0)""", "invalid_output", "does not declare"),
        ("say(b'', 0xFFFFFFFF); time.sleep(60)", "resource_exhausted", "output limit"),
        ("say(b'x' * 1_000_000); time.sleep(60)", "resource_exhausted", "output limit"),
        ("say(b'{', 100); os._exit(0)", "tool_crashed", "exited with status 0"),
        ("""say(b'{"kind":"value","value":"early"}'); return 'late'""", "invalid_output", "more than once"),
        ("""say(b'{"kind":"value","value":null,"files":["out.md"]}'); os._exit(0)""", "invalid_output", "other files than"),
        ("""say(b'{"kind":"value","value":null,"removed":["policies/x"]}'); os._exit(0)""", "invalid_output", "other files than"),
    ],
)  # fmt: skip
@abuse(41, 42, 43, 44)
async def test_a_forged_answer_is_no_answer(harness: ToolHarness, body: str, code: str, message: str) -> None:
    """Nested too deep, too long, not JSON, sent twice, incomplete, or with names of files that were not sent."""
    output = await harness.run(f"{CHANNEL}\ndef act():\n    {body}\n", writes=("out.md",))
    assert (output.code, output.scratch) == (code, None), output
    assert message in output.message


async def test_only_the_first_answer_counts_and_it_hands_over_no_file(full: ToolHarness) -> None:
    """An answer that the tool sends itself is its result, whatever it does next; such an answer saves no files."""
    full.file("out.md", "before")
    body = f"""{CHANNEL}
def act():
    open('out.md', 'w').write('after')
    say(b'{{"kind":"value","value":"early"}}')
    os._exit(1)
"""
    output = await full.run(body, writes=("out.md",))
    assert (output.code, output.value) == (None, "early")
    assert output.scratch is not None
    assert output.scratch.commit() == ()
    assert (full.root / "out.md").read_text() == "before"


@pytest.mark.parametrize(
    "what",
    ["os.pipe()[0]", "os.open('.', 0)", "os.open('/dev/zero', 0)", "os.open('out.md', os.O_CREAT | os.O_WRONLY)"],
)
async def test_a_forged_file_is_not_committed(full: ToolHarness, what: str) -> None:
    """Each returned file must be a regular, readable file; else nothing is changed."""
    full.file("out.md", "before")
    forged = f"""{CHANNEL}
def act():
    body = b'{{"kind":"value","value":null,"files":["out.md"]}}'
    socket.send_fds(channel(), [len(body).to_bytes(4, "big") + body], [{what}])
    os._exit(0)
"""
    output = await full.run(forged, writes=("out.md",))
    assert output.scratch is not None
    with pytest.raises(Refusal):
        output.scratch.commit()
    assert (full.root / "out.md").read_text() == "before"
    assert os.listdir(full.root) == ["out.md"]


# -- programs ----------------------------------------------------------------------------------------------------------


async def test_a_command_runs_its_argv_without_a_shell(full: ToolHarness) -> None:
    full.file("a b.txt", "one\ntwo\n")
    output = await full.run("", source="command", argv=("wc", "-l", "a b.txt"), reads=("a b.txt",))
    assert (output.code, output.value) == (None, "2 a b.txt\n")
    refused = await full.run("", source="command", argv=("cat", "$(id)", "; ls"))
    assert refused.code == "tool_crashed"
    assert "'$(id)'" in refused.stderr
    declared = await full.run("", source="command", argv=("false",), declared={"exit_1": ""})
    assert (declared.code, declared.error) == ("tool_failed", "exit_1")


async def test_only_the_named_programs_start(full: ToolHarness) -> None:
    """What they leave behind ends with the call, so a daemon does not keep its pipe open."""
    code = """
    import subprocess
    def act() -> list:
        output = subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout
        try:
            subprocess.run(["ls"])
        except OSError as failure:
            output += type(failure).__name__
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        return output
    """
    output = await full.run(code, programs=("echo", "sleep"))
    assert output.value == "hello\nPermissionError"


async def test_the_landlock_tier_refuses_tools_that_start_programs(tmp_path: Path) -> None:
    harness = ToolHarness(base=tmp_path, tier="landlock")
    for given in ({"programs": ("echo",)}, {"source": "command", "argv": ("echo",)}):
        with pytest.raises(RunEnded, match="starts programs") as ended:
            await harness.run("", **given)
        assert ended.value.code == "sandbox_unavailable"


# -- availability ------------------------------------------------------------------------------------------------------


async def test_without_bubblewrap_no_call_runs_and_the_fix_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_BWRAP", str(tmp_path / "missing"))
    marker = tmp_path / "ran"
    harness = ToolHarness(base=tmp_path, tier="full")
    profile = harness.profile()
    (profile.code / "main.py").write_text(f"open({str(marker)!r}, 'w')")
    absent = Sandbox(accept=("full",))
    with pytest.raises(RunEnded) as ended:
        await absent.run(profile, {}, declared={})
    assert ended.value.code == "sandbox_unavailable"
    assert "install bubblewrap" in ended.value.fix
    assert not marker.exists()
    assert Sandbox(accept=("full", "landlock")).confinement == "landlock"


@abuse(90)
@pytest.mark.parametrize(
    ("printed", "fix"),
    [
        ("bwrap: setting up uid map: Permission denied", "bwrap-userns-restrict"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "bwrap-userns-restrict"),
        ("bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)", "max_user_namespaces"),
        ("bwrap: Unknown option --as-pid-1", "too old"),
        ("", "remit doctor"),
    ],
)  # fmt: skip
async def test_a_bubblewrap_that_fails_here_names_the_fix_for_this_machine(
    tmp_path: Path, printed: str, fix: str
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\necho '{printed}' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(RunEnded) as ended:
        _ = Sandbox(bwrap=fake, accept=("full",)).confinement
    assert ended.value.code == "sandbox_unavailable"
    assert fix in ended.value.fix


def killed_at_first(folder: Path, times: int) -> Sandbox:
    """A sandbox whose bubblewrap is killed that many times before it prints anything, and then works."""
    fake, starts = folder / "bwrap", folder / "starts"
    starts.touch()
    fake.write_text(
        f'#!/bin/sh\necho >> {starts}\n[ "$(wc -l < {starts})" -le {times} ] && kill -9 $$\nexec {find_bwrap()} "$@"\n'
    )
    fake.chmod(0o755)
    return Sandbox(bwrap=fake, accept=("full",))


def test_a_sandbox_that_is_killed_at_its_start_is_started_again(tmp_path: Path) -> None:
    assert killed_at_first(tmp_path, 2).confinement == "full"


def test_a_sandbox_that_is_always_killed_reports_that(tmp_path: Path) -> None:
    with pytest.raises(RunEnded) as ended:
        _ = killed_at_first(tmp_path, 1000).confinement
    assert "its process was killed before it was ready" in ended.value.fix
    assert len((tmp_path / "starts").read_text()) == 3


def test_a_bubblewrap_that_confines_nothing_is_not_accepted(tmp_path: Path) -> None:
    """A fake that only runs the program, without any mount: it must not count as a working tier."""
    fake = tmp_path / "bwrap"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift\nexec "$@"\n')
    fake.chmod(0o755)
    with pytest.raises(RunEnded):
        _ = Sandbox(bwrap=fake, accept=("full",)).confinement


def test_the_doctor_tries_every_escape_and_all_are_blocked() -> None:
    reports = probe()
    assert [(report.name, report.works) for report in reports] == [("full", True), ("landlock", True)]
    assert all(check.held for report in reports for check in report.checks)
    names = [*ATTEMPTS, *LEFT, *ENDINGS, *ALLOWED]
    assert [[check.name for check in report.checks] for report in reports] == [
        names, [name for name in names if name != "fill_temporary"],
    ]  # fmt: skip
    assert "limited one by one" in reports[1].note
    bwrap = find_bwrap()
    assert bwrap is not None
    old = re.search(r"0\.(\d+)", subprocess.run([bwrap, "--version"], capture_output=True, text=True).stdout)
    assert ("CVE-2026-87766" in reports[0].note) is (old is not None and int(old[1]) < 12)


@pytest.mark.parametrize(
    ("platform", "instead"), [("darwin", "Linux virtual machine"), ("win32", "WSL 2"), ("freebsd14", "use Linux")]
)
def test_another_system_is_refused_with_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch, platform: str, instead: str
) -> None:
    """In both tiers, before anything is tried."""
    nowhere = Sandbox(accept=("full", "landlock"))
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(RunEnded, match="cannot be confined on this machine") as ended:
        _ = nowhere.confinement
    assert instead in ended.value.fix
    assert [(report.works, instead in report.fix) for report in probe()] == [(False, True)] * 2


def test_a_sandbox_that_accepts_nothing_runs_nothing() -> None:
    with pytest.raises(RunEnded, match="accepts no tier"):
        _ = Sandbox(accept=()).confinement


# -- profile -----------------------------------------------------------------------------------------------------------


def test_the_command_line_is_exactly_this() -> None:
    """The whole bubblewrap command line, in order.

    INVARIANT for reviews: a change here changes what the sandbox isolates.
    """
    profile = Profile(
        tool="t", action="a", source="python", code=Path("/workspace/tools/t"), root=Path("/workspace/work"),
        stores=("tickets",), env={"TOKEN": "secret"},
    )  # fmt: skip
    here = Runtime(
        bwrap=Path("/usr/bin/bwrap"), python="/py/bin/python3.11", folders=("/usr", "/py/bin/python3.11"),
        links=(("usr/lib", "/lib"),), packages={"pydantic": "/site/pydantic"}, guest_folder="/remit/sandbox",
    )  # fmt: skip
    assert argv(profile, here) == [
        "/usr/bin/bwrap",
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *("--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SYS_PTRACE", "--cap-add", "CAP_DAC_READ_SEARCH"),
        *("--cap-add", "CAP_SETPCAP"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *("--ro-bind", "/usr", "/usr", "--ro-bind", "/py/bin/python3.11", "/py/bin/python3.11"),
        *("--symlink", "usr/lib", "/lib"),
        *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/zero", "/dev/zero"),
        *("--dev-bind", "/dev/urandom", "/dev/urandom"),
        *("--ro-bind", "/remit/sandbox/inside.py", "/remit/inside.py"),
        *("--ro-bind", "/remit/sandbox/guard.py", "/remit/guard.py"),
        *("--ro-bind", "/remit/sandbox/supervisor.py", "/remit/supervisor.py"),
        *("--ro-bind", "/remit/sandbox/base.py", "/remit/base.py"),
        *("--ro-bind", "/remit/sandbox/notices.py", "/remit/notices.py"),
        *("--ro-bind", "/remit/sandbox/scratch_folders.py", "/remit/scratch_folders.py"),
        *("--ro-bind", "/remit/sandbox/onecall.py", "/remit/onecall.py"),
        *("--ro-bind", "/remit/sandbox/outlet.py", "/remit/outlet.py"),
        *("--ro-bind", "/remit/sandbox/conformance.py", "/remit/conformance.py"),
        *("--ro-bind", "/remit/sandbox/decoding.py", "/remit/decoding.py"),
        *("--ro-bind", "/remit/sandbox/serving.py", "/remit/serving.py"),
        *("--ro-bind", "/remit/sandbox/watch.py", "/remit/watch.py"),
        *("--ro-bind", "/remit/sandbox/kernel.py", "/remit/kernel.py"),
        *("--ro-bind", "/remit/sandbox/live.py", "/remit/live.py"),
        *("--ro-bind", "/site/pydantic", "/packages/pydantic"),
        *("--ro-bind", "/workspace/tools/t", "/tool", "--ro-bind", "/workspace/work", "/work"),
        *("--bind", "/workspace/work/stores/tickets", "/work/stores/tickets"),
        *("--size", str(32 << 20), "--tmpfs", "/tmp", "--size", str(64 << 20), "--tmpfs", "/scratch"),
        *("--remount-ro", "/"),
        *(part for name, value in BASE_ENVIRONMENT.items() for part in ("--setenv", name, value)),
        *("--chdir", "/", "--", "/py/bin/python3.11", "-I", "-S", "-B", "-X", "utf8", "/remit/inside.py"),
    ]


def test_the_digest_of_a_profile_names_what_was_decided_and_not_where(tmp_path: Path) -> None:
    """Another machine, folder, order or secret gives the same digest; another file gives another one."""

    def profile(base: Path, reads: tuple[str, ...], secret: str) -> str:
        return Profile(
            tool="t", action="a", source="python", code=base, root=base, reads=reads, env={"TOKEN": secret}
        ).digest

    digest = profile(tmp_path, ("a", "b"), "1")
    assert profile(Path("/elsewhere"), ("b", "a"), "2") == digest
    assert profile(tmp_path, ("a", "c"), "1") != digest


def test_the_bubblewrap_of_the_environment_variable_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REMIT_BWRAP", "/bin/true")
    assert find_bwrap() == Path("/bin/true")
    monkeypatch.setenv("REMIT_BWRAP", str(tmp_path / "missing"))
    assert find_bwrap() is None


@pytest.mark.parametrize("name", ["PATH", "REMIT_BWRAP", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_runs_share_a_sandbox_only_while_the_environment_names_the_same_programs_and_authorities(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise the first run of a process would decide which servers all later ones trust."""
    first = Sandbox.shared(("full",))
    assert Sandbox.shared(("full",)) is first
    monkeypatch.setenv(name, str(tmp_path))
    assert Sandbox.shared(("full",)) is not first


def test_the_broker_itself_keeps_its_rights(tmp_path: Path) -> None:
    """The lock-down does not affect the process that starts the sandbox."""
    probe()
    assert resource.getrlimit(resource.RLIMIT_DATA)[1] == resource.RLIM_INFINITY
    (tmp_path / "x").touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
