"""Tools in a container without settings of its own: no namespaces, no mounts, no capabilities (`support.container`).

Each test runs a program in a process that has the seccomp profile of such a container, which libseccomp loads as runc does.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import TESTS
from support.browser import lacking
from support.container import PROFILE, ordinary

CAP_SETFCAP = "31"  # Docker's default has it; without it, root could not map its own account
HEAD = """
import asyncio, json, os, socket, sys, threading
from pathlib import Path
from remit.core import RunEnded
from remit.sandbox import Profile, Sandbox, probe
from remit.sandbox.egress import Egress
from support.http_servers import NetworkHarness, Response, Server, network

base = Path(sys.argv[1])
"""
ESCAPES = '''
import ctypes, os, socket, struct, threading
def act(name: str) -> dict:
    """Try to reach something else than the proxy."""
    port = int(os.environ["HTTP_PROXY"].rpartition(":")[2])
    def tried(*address, kind=socket.SOCK_STREAM):
        try:
            with socket.socket(socket.AF_INET, kind) as one:
                one.settimeout(2)
                one.connect(address)
                return "reached"
        except OSError as failure:
            return failure.errno
    found = {"port": port, "proxy": tried("127.0.0.1", port)}
    if name == "look":
        return found
    found["another address"] = tried("127.0.0.2", port)
    found["any address"] = tried("0.0.0.0", port)
    found["udp"] = tried("127.0.0.1", port, kind=socket.SOCK_DGRAM)
    found["another port"] = tried("127.0.0.1", int(name))
    libc = ctypes.CDLL(None, use_errno=True)
    good = struct.pack("=H", socket.AF_INET) + struct.pack("!H4B8x", port, 127, 0, 0, 1)
    other = struct.pack("=H", socket.AF_INET) + struct.pack("!H4B8x", port, 127, 0, 0, 2)
    place, over = ctypes.create_string_buffer(good, 16), []
    def rewrite():
        while not over:
            ctypes.memmove(place, other, 16)
            ctypes.memmove(place, good, 16)
    thread = threading.Thread(target=rewrite)
    thread.start()
    results = set()
    for _ in range(400):
        with socket.socket() as one:
            results.add(libc.connect(one.fileno(), place, 16) or one.getpeername())
    over.append(True)
    thread.join()
    found["rewritten"] = sorted(map(str, results))
    return found
'''


@pytest.fixture(autouse=True)
def _with_libseccomp() -> None:
    if ctypes.util.find_library("seccomp") is None:
        lacking("libseccomp", "apt-get install libseccomp2")


def in_container(folder: Path, program: str, *, profile: Path | None = None, env: dict[str, str] | None = None) -> Any:
    """The JSON that the program prints, in a container with that profile, by default an ordinary one."""
    if profile is None:
        profile = folder / "ordinary.json"
        profile.write_text(json.dumps(ordinary()))
    line = [sys.executable, "-m", "support.container", str(profile), CAP_SETFCAP, sys.executable, "-c", HEAD + program]
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*line, str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "KUBERNETES_SERVICE_HOST": "10.0.0.1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_tool_reaches_its_hosts_and_nothing_else_by_no_way(tmp_path: Path) -> None:
    """Another address with the port of the proxy, UDP, another port, and an address that a second thread rewrites."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "main.py").write_text(ESCAPES)
    found = in_container(
        tmp_path,
        """
def listening(address, port, kind=socket.SOCK_STREAM):
    one = socket.socket(socket.AF_INET, kind)
    one.bind((address, port))
    if kind == socket.SOCK_STREAM:
        one.listen(500)
    one.setblocking(False)
    return one

def reached(one):
    try:
        one.accept() if one.type == socket.SOCK_STREAM else one.recv(1)
    except BlockingIOError:
        return False
    return True

async def main():
    async with Sandbox(accept=("full", "landlock")) as sandbox:
        def profile(trust):
            return Profile(tool="t", action="act", source="python", code=base / "tool", root=base, wall=30.0, cpu=20.0,
                           network=network("api.test:80"), trust=trust)
        found = {"tier": sandbox.confinement}
        for trust in ("pinned", "none"):
            other = listening("127.0.0.1", 0)
            if trust == "pinned":  # its processes stay, so the port is known before the attempts
                port = (await sandbox.run(profile(trust), {"name": "look"})).value["port"]
                traps = [listening("127.0.0.2", port), listening("127.0.0.1", port, socket.SOCK_DGRAM), other]
            else:
                traps = [other]
            output = await sandbox.run(profile(trust), {"name": str(other.getsockname()[1])})
            found[trust] = output.value or [output.code, output.message, output.stderr]
            found[trust + " reached"] = [reached(one) for one in traps]
        print(json.dumps(found))
asyncio.run(main())
""",
    )
    assert found["tier"] == "landlock"
    for trust in ("pinned", "none"):
        tried = found[trust]
        port = tried.pop("port")
        assert tried.pop("proxy") == "reached"
        rewritten = tried.pop("rewritten")
        assert set(rewritten) <= {"-1", f"('127.0.0.1', {port})"}
        assert all(code in (1, 13) for code in tried.values()), tried  # EPERM, EACCES
        assert not any(found[f"{trust} reached"])


KINDS = """
import shutil
from remit.client import AsyncRemit
from remit.workspace import open_session
from support.http_servers import names, trust
from support.mcp_kept import KeptServer
from support.mcp_remote import ScriptedServer, scripted
from support.workspaces.ledger import use

TIERS = ("full", "landlock")

async def host() -> object:
    use(base / "clerk")
    async with AsyncRemit(open_session(base / "clerk")) as client:
        return type((await client.call("ledger.look", {"name": "ann"}, agent="clerk")).result).__name__

async def served() -> object:
    kit = KeptServer(base=base / "kit")
    kit.sandbox = Sandbox(accept=TIERS)
    try:
        return (await kit.call("echo", {"text": "here"})).code
    finally:
        await kit.sandbox.close()

async def elsewhere() -> object:
    with scripted(ScriptedServer(), base) as kit:
        return (await kit.echo()).code

async def main():
    harness = NetworkHarness(base, "full")
    harness.sandbox = Sandbox(accept=TIERS, egress=harness.egress)
    (base / "work/a.md").write_text("text")
    found = {"tier": harness.sandbox.confinement}
    with Server(name="api.test") as server:
        harness.names.answers = {"api.test": [["127.0.0.1"]]}
        web = f"result = httpx.get('https://api.test:{server.port}/a').status_code"
        hosts = network(f"GET api.test:{server.port}")
        bare = dict(code=base / "bare")
        started = "import subprocess\\nresult = subprocess.run(['cat', 'a.md'], capture_output=True, text=True).stdout"
        command = dict(source="command", reads=("a.md",))
        kinds = {
            "python": lambda: harness.run("result = 1", None, **bare),
            "python, not trusted": lambda: harness.run("result = 1", None, trust="none", **bare),
            "http": lambda: harness.run(web, hosts),
            "http, not trusted": lambda: harness.run(web, hosts, trust="none"),
            "python that starts programs": lambda: harness.run(started, None, programs=("cat",), reads=("a.md",), **bare),
            "command": lambda: harness.run("", None, argv=("cat", "a.md"), **command),
            "command, per run": lambda: harness.run("", None, argv=("cat", "a.md"), programs=("cat",), life="run", run="run", **command),
            "node": lambda: harness.run("", None, argv=("node", "--version"), memory=1 << 30, **command),
            "mcp": served,
            "mcp, elsewhere": elsewhere,
            "host": host,
        }
        for kind, call in kinds.items():
            try:
                ended = await call()
                found[kind] = ended if not hasattr(ended, "code") else ended.code
            except RunEnded as refused:
                found[kind] = [refused.code, refused.message, refused.fix]
    await harness.sandbox.close()
    print(json.dumps(found))

asyncio.run(main())
"""
STARTS_NOTHING = ("python", "python, not trusted", "http", "http, not trusted", "mcp, elsewhere")
STARTS_PROGRAMS = ("python that starts programs", "command", "command, per run", "node", "mcp")


@pytest.fixture
def desk(tmp_path: Path, clerk: Callable[..., Path]) -> Path:
    """A folder with what `KINDS` uses."""
    if shutil.which("node") is None:
        lacking("node", "apt-get install nodejs")
    (tmp_path / "kit").mkdir()
    clerk([])
    return tmp_path


def test_each_kind_of_tool_works_there_or_names_the_field_that_lets_it(desk: Path) -> None:
    """What starts programs is refused: without namespaces, nothing ends every process of a call for certain."""
    found = in_container(desk, KINDS)
    assert found.pop("tier") == "landlock"
    assert {kind: found.pop(kind) for kind in STARTS_NOTHING} == dict.fromkeys(STARTS_NOTHING)
    assert found.pop("host") == "Succeeded"
    assert set(found) == set(STARTS_PROGRAMS)
    for kind, (code, message, fix) in found.items():
        assert (kind, code) == (kind, "sandbox_unavailable")
        assert "starts programs" in message
        assert "securityContext.seccompProfile" in fix
        assert fix.endswith("or remove the tool from the agent")  # the weaker tier, which it is in, would not help


def test_with_that_field_each_kind_of_tool_works_there(desk: Path) -> None:
    found = in_container(desk, KINDS, profile=PROFILE)
    assert found.pop("tier") == "full"
    assert found.pop("host") == "Succeeded"
    assert found == dict.fromkeys((*STARTS_NOTHING, *STARTS_PROGRAMS))


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "securityContext.seccompProfile of the container to {type: Localhost"),
        ({"KUBERNETES_SERVICE_HOST": "", "container": "podman"}, "--security-opt seccomp=container/seccomp.json"),
    ],
    ids=["kubernetes", "podman"],
)
def test_doctor_names_the_setting_of_the_container_and_with_it_the_full_tier_holds(
    tmp_path: Path, env: dict[str, str], named: str
) -> None:
    program = """
if not os.environ["KUBERNETES_SERVICE_HOST"]:
    del os.environ["KUBERNETES_SERVICE_HOST"]
full, landlock = probe()
print(json.dumps([[one.works, one.fix, [check.name for check in one.checks if not check.held]] for one in (full, landlock)]))
"""
    full, landlock = in_container(tmp_path, program, env=env)
    assert full[0] is False
    assert named in full[1]
    assert landlock == [True, "", []]
    full, landlock = in_container(tmp_path, program, profile=PROFILE, env=env)
    assert full == [True, "", []]
    assert landlock == [True, "", []]
