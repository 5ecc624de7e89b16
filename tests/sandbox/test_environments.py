"""A tool's own packages: versions chosen once, pinned by hash, installed separately, and never run outside the sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import RunEnded, WorkspaceError
from remit.journal import list_runs
from remit.runtime.one_call import OneCall
from remit.runtime.runner import RunRequest, start_run
from remit.runtime.upkeep.retention import prunable, prune
from remit.sandbox import Output
from remit.sandbox.packages import environment
from remit.tools.card import permission_card
from remit.tools.workbench import interpreter, pin_tools
from remit.tracing import ObjectStore
from remit.workspace.definitions import Workspace
from remit.workspace.loader import load_workspace
from remit.workspace.session import open_session
from support.principals import OPERATOR
from support.runs import Remit
from support.sandbox import ToolHarness, sandbox

TOML = """\
name = "{name}"
version = "0.1.0"
owner = "you@example.com"
summary = "Uses a package"

[at_most]
read = ["logs/**"]

[limits]
wall = "20s"
cpu = "10s"
memory = "512MiB"

[actions.act]
summary = "Do it"
touches = ["read file:{{path}}"]
effect = "read"
"""
MAIN = """\
# /// script
# requires-python = ">=3.11"
# dependencies = {dependencies}
# ///
{code}
"""
SHOUT = "import loud\n\ndef act(path: str) -> str:\n    return loud.shout(open(path).read())\n"
LOUD = "def shout(text):\n    return text.upper()\n"


@dataclass
class Index:
    """A package index on loopback.

    `files` are its wheels and source archives by name; `requested` are the fetched paths.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)

    def wheel(self, name: str, version: str, files: dict[str, str]) -> None:
        info = f"{name}-{version}.dist-info"
        files = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for path, text in {**files, f"{info}/RECORD": record}.items():
                archive.writestr(path, text)
        self.files[f"{name}-{version}-py3-none-any.whl"] = body.getvalue()

    def source(self, name: str, version: str, setup: str) -> None:
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w:gz") as archive:
            for path, text in {"setup.py": setup, "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\n"}.items():
                member = tarfile.TarInfo(f"{name}-{version}/{path}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        self.files[f"{name}-{version}.tar.gz"] = body.getvalue()

    def page(self, name: str) -> str:
        own = {file: data for file, data in self.files.items() if file.startswith(f"{name.replace('-', '_')}-")}
        return "".join(
            f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
            for file, data in own.items()
        )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that uv uses, with caches for this test alone."""
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requested.append(self.path)
            _, kind, name, *_ = [*self.path.split("/"), ""]
            body = served.files.get(name) if kind == "files" else served.page(name).encode()
            self.send_response(200 if body else 404)
            self.send_header("content-type", "text/html" if kind == "simple" else "application/octet-stream")
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing: tests read `requested`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_address[1]}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        for name in ("UV_INDEX", "UV_FIND_LINKS", "UV_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield served
        server.shutdown()
        thread.join(5)


def write(folder: Path, code: str, dependencies: str = '["loud"]') -> Path:
    """Write a tool that declares packages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tool.toml").write_text(TOML.format(name=folder.name))
    (folder / "main.py").write_text(MAIN.format(dependencies=dependencies, code=code))
    return folder


@pytest.fixture
def made(index: Index, tmp_path: Path) -> Callable[..., environment.Environment]:
    """Make the environment of a tool `tool` with the given code, locked and installed."""

    def make(code: str = SHOUT, dependencies: str = '["loud"]') -> environment.Environment:
        index.wheel("loud", "1.0", {"loud/__init__.py": LOUD})
        folder = write(tmp_path / "tool", code, dependencies)
        environment.lock_environment(folder)
        found = environment.make_environment(folder)
        assert found is not None
        return found

    return make


async def act(harness: ToolHarness, own: environment.Environment | None) -> Output:
    """Call `act` of the tool on one file with the text "hello"."""
    harness.file("logs/a", "hello")
    profile = harness.profile(reads=("logs/a",), environment=own, memory=512 << 20)
    return await sandbox(harness.tier).run(profile, {"path": "logs/a"}, declared={})


# -- from the declaration to the first call ----------------------------------------------------------------------------


def shouting(session: Path, index: Index) -> Workspace:
    """The starter with one more tool, which declares a package and which the agent triage may call."""
    index.wheel("loud", "1.0", {"loud/__init__.py": LOUD})
    write(session / "tools" / "shout", SHOUT)
    agent = session / "agent/triage/agent.toml"
    agent.write_text(agent.read_text().replace('tools = ["files"', 'tools = ["shout", "files"'))
    with (session / "policies" / "rules.csv").open("a") as rules:
        rules.write("\np, agent:triage, shout.act, file:logs/**, True, allow\n")
        rules.write("p, role:operator, shout.act, file:logs/**, True, allow\n")
    return load_workspace(session)


def test_a_tool_with_packages_works_from_its_lock_to_its_call(remit: Remit, session: Path, index: Index) -> None:
    """Its packages are locked by `tool env`, covered by the pin, shown on the card, and installed before a run begins."""
    workspace = shouting(session, index)
    with pytest.raises(WorkspaceError, match="fix: run `remit tool env shout`"):
        asyncio.run(pin_tools(workspace, ("shout",), sandbox("full")))
    output = remit("tool", "env", "shout", "--json")
    assert "installing 1 packages for shout: loud" in output.err
    interpreter = Path(output.json.pop("interpreter"))
    assert output.json == {"ok": True, "interpreter": str(interpreter), "packages": {"loud": "1.0"}, "locked": True}
    assert os.access(interpreter, os.X_OK)
    workspace = load_workspace(session)
    own = environment.find_environment(workspace.code("shout"))
    assert own is not None
    assert any("loud 1.0  (wheels, locked by hash)" in line for line in permission_card(workspace.tools["shout"], own))
    assert asyncio.run(pin_tools(workspace, ("shout",), sandbox("full"))) == {"shout": "new"}

    environment._remove(own.folder)  # the cache may be cleared at any time
    called = remit("call", "shout.act", '{"path": "logs/checkout.log"}', "--agent", "triage", "--json")
    assert (called.code, called.json["value"][:4]) == (0, "2026"), called.out + called.err
    assert "installing 1 packages" in called.err
    lock = workspace.code("shout") / "main.py.lock"
    assert load_workspace(session).tools["shout"].pinned
    lock.write_text(lock.read_text() + "\n")
    assert not load_workspace(session).tools["shout"].pinned


def test_a_run_whose_packages_cannot_be_fetched_does_not_begin(
    session: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = shouting(session, index)
    interpreter(workspace, "shout")
    asyncio.run(pin_tools(load_workspace(session), ("shout",), sandbox("full")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(session.parent / "other"))
    monkeypatch.setenv("UV_CACHE_DIR", str(session.parent / "uv2"))
    index.files.clear()
    opened = open_session(session)
    beginning = RunRequest(
        agent="triage", task="t", subject="user:operator", by=OPERATOR, model=OneCall("shout.act", '{"path": "logs/a"}')
    )
    with pytest.raises(RunEnded, match=r"cannot be fetched(.|\n)*UV_DEFAULT_INDEX"):
        asyncio.run(start_run(opened, beginning))
    assert list(list_runs(opened.journal)) == []


def test_a_run_finds_its_packages_without_network_after_every_cache_is_gone(
    session: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels are objects of the workspace, which `remit trace prune` keeps while a run has their lock."""
    workspace = shouting(session, index)
    interpreter(workspace, "shout")
    asyncio.run(pin_tools(load_workspace(session), ("shout",), sandbox("full")))
    opened = open_session(session)

    def called() -> None:
        model = OneCall("shout.act", '{"path": "logs/checkout.log"}')
        beginning = RunRequest(agent="triage", task="t", subject="user:operator", by=OPERATOR, model=model)
        asyncio.run(start_run(opened, beginning))

    called()
    (wheel,) = index.files.values()
    stored = session / "traces/objects" / hashlib.sha256(wheel).hexdigest()
    assert stored.read_bytes() == wheel
    for path in stored.parent.iterdir():
        os.utime(path, (0, 0))
    prune(opened, [], by=OPERATOR)
    assert stored.exists()
    index.files.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(session.parent / "other"))
    monkeypatch.setenv("UV_CACHE_DIR", str(session.parent / "uv2"))
    code, objects = opened.workspace.code("shout"), ObjectStore(stored.parent)
    assert environment.make_environment(code, offline=True, kept=objects) is not None
    called()
    assert {row.outcome for row in list_runs(opened.journal)} == {"completed"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(session.parent / "third"))
    monkeypatch.setenv("UV_CACHE_DIR", str(session.parent / "uv3"))
    stored.write_bytes(wheel + b"changed")
    with pytest.raises(RunEnded, match="cannot be fetched"):
        environment.make_environment(code, offline=True, kept=objects)
    os.utime(stored, (0, 0))
    prune(opened, prunable(opened, 0), by=OPERATOR)
    assert not stored.exists()


# -- what is chosen ----------------------------------------------------------------------------------------------------


def test_a_changed_list_of_packages_needs_a_new_lock(index: Index, tmp_path: Path, made: Callable[..., Any]) -> None:
    first = made()
    assert environment.check_environment(tmp_path / "tool") == first
    index.wheel("quiet", "2.0", {"quiet/__init__.py": ""})
    write(tmp_path / "tool", SHOUT, '["loud", "quiet>=1"]')
    with pytest.raises(WorkspaceError, match=r"does not fit it\n    fix: run `remit tool env tool`"):
        environment.check_environment(tmp_path / "tool")
    assert environment.lock_environment(tmp_path / "tool")
    second = environment.check_environment(tmp_path / "tool")
    assert second is not None
    assert dict(second.packages) == {"loud": "1.0", "quiet": "2.0"}
    assert second.folder != first.folder


def test_versions_stay_until_newer_ones_are_asked_for(index: Index, tmp_path: Path, made: Callable[..., Any]) -> None:
    made()
    index.wheel("loud", "1.1", {"loud/__init__.py": LOUD})
    assert not environment.lock_environment(tmp_path / "tool")
    assert environment.lock_environment(tmp_path / "tool", upgrade=True)
    found = environment.find_environment(tmp_path / "tool")
    assert found is not None
    assert dict(found.packages) == {"loud": "1.1"}


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ("# dependencies = [", "not valid TOML"),
        ("# dependencies = 'loud'", "'dependencies' is not a list of strings"),
        ("# dependencies = ['loud']\n# requires-python = '<3.11'", "it needs Python <3.11"),
        ("# dependencies = ['loud']\n# requires-python = 'new'", "'requires-python' cannot be read"),
        ("# dependencies = ['loud']\n# [tool]\n# uv = 1", "[tool.uv] is not a table"),
        (
            "# dependencies = ['loud']\n# [tool.uv]\n# cache-dir = '/etc'\n# no-build = false",
            "sets cache-dir, no-build",
        ),
        ("# dependencies = ['loud']\n# ///\n\n# /// script\n# dependencies = []", "two `# /// script` blocks"),
    ],
)
def test_an_invalid_block_is_reported_with_its_line(tmp_path: Path, block: str, what: str) -> None:
    (tmp_path / "main.py").write_text(f'"""A tool."""\n\n# /// script\n{block}\n# ///\n')
    with pytest.raises(WorkspaceError) as error:
        environment.find_environment(tmp_path)
    (problem,) = error.value.problems
    assert (problem.file, problem.line) == (f"tools/{tmp_path.name}/main.py", 3)
    assert what in problem.what


def test_a_lock_that_does_not_hold_its_packages_is_refused(index: Index, tmp_path: Path) -> None:
    index.wheel("loud", "1.0", {"loud/__init__.py": LOUD})
    folder = write(tmp_path / "tool", SHOUT)
    environment.lock_environment(folder)
    whole = (folder / "main.py.lock").read_text()
    for old, new, what in (
        ('hash = "sha256:', 'sum = "sha256:', "has no hash for 'loud'"),
        ("registry = ", "git = ", "from 'git', which is not a wheel"),
        ("registry = ", "directory = ", "from 'directory'"),
        ('name = "loud"\nversion = "1.0"', 'name = "pydantic"\nversion = "2.3"', "pydantic 2.3, which is too old"),
        ("[[package]]", "[[package", "cannot be read"),
    ):
        assert old in whole
        (folder / "main.py.lock").write_text(whole.replace(old, new))
        with pytest.raises(WorkspaceError) as error:
            environment.find_environment(folder)
        assert what in str(error.value)


# -- nothing of a package runs as the user -----------------------------------------------------------------------------


def test_a_source_distribution_is_refused_and_its_setup_never_runs(index: Index, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    index.source("loud", "1.0", f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='loud')\n")
    folder = write(tmp_path / "tool", SHOUT)
    with pytest.raises(WorkspaceError, match="no wheels for its packages"):
        environment.lock_environment(folder)
    assert not marker.exists()


async def test_code_of_a_package_runs_only_in_the_sandbox(index: Index, tmp_path: Path) -> None:
    """A line of a `.pth` file, an import, compiling: none of them runs code while the environment is made."""
    marker = tmp_path / "ran"
    evil = f"import pathlib; pathlib.Path({str(marker)!r}).write_text('x')\n"
    caught = f"try:\n    {evil}except OSError as held:\n    print('held', held)\n"
    index.wheel("loud", "1.0", {"loud.pth": evil, "sitecustomize.py": evil, "loud/__init__.py": caught + LOUD})
    folder = write(tmp_path / "tool", SHOUT)
    environment.lock_environment(folder)
    own = environment.make_environment(folder)
    assert own is not None
    assert (Path(own.site) / "loud.pth").exists()
    output = await act(ToolHarness(base=tmp_path, tier="full"), own)
    assert output.value == "HELLO"
    assert not marker.exists()


def test_a_wheel_that_is_not_the_locked_one_is_refused(index: Index, tmp_path: Path) -> None:
    index.wheel("loud", "1.0", {"loud/__init__.py": LOUD})
    folder = write(tmp_path / "tool", SHOUT)
    environment.lock_environment(folder)
    index.wheel("loud", "1.0", {"loud/__init__.py": "other = 1\n"})
    shutil.rmtree(tmp_path / "uv")
    with pytest.raises((WorkspaceError, RunEnded), match=r"(?i)hash mismatch"):
        environment.make_environment(folder)
    found = environment.find_environment(folder)
    assert found is not None
    assert not found.made


# -- one complete, read-only environment -------------------------------------------------------------------------------


async def test_packages_are_the_tools_own_and_it_cannot_change_them(
    harness: ToolHarness, made: Callable[..., Any]
) -> None:
    own = made(
        SHOUT
        + """
import os
try:
    open(os.path.join(os.path.dirname(loud.__file__), "more.py"), "w")
    held = ""
except OSError as failure:
    held = " held"
inner = act
def act(path: str) -> str:
    return inner(path) + held
"""
    )
    output = await act(harness, own)
    assert output.value == "HELLO held", output.stderr
    assert not os.access(Path(own.site) / "loud" / "__init__.py", os.W_OK) or os.geteuid() == 0
    assert [path for path in own.folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o222] == []
    without = await act(harness, None)
    assert (without.code, "ModuleNotFoundError" in without.message) == ("tool_crashed", True)


async def test_packages_in_the_working_folder_are_not_used(tmp_path: Path, made: Callable[..., Any]) -> None:
    """In the working folder, a granted write could change them."""
    own = made()
    profile = ToolHarness(base=tmp_path, tier="full").profile(environment=own)
    with pytest.raises(RunEnded, match=r"lie in its working folder\n    fix: set XDG_CACHE_HOME"):
        await sandbox("full").run(replace(profile, root=tmp_path), {"path": "logs/a"}, declared={})


async def test_types_are_read_with_whole_pydantic_whatever_one_package_brings(index: Index, tmp_path: Path) -> None:
    """A single dependency of pydantic among the packages is not mixed with the pydantic of Remit."""
    index.wheel("typing_extensions", "0.1", {"typing_extensions.py": "raise RuntimeError('too old')\n"})
    code = (
        "from pydantic import BaseModel\n\nclass Echo(BaseModel):\n    text: str\n\n"
        "def act(path: str) -> Echo:\n    return Echo(text=open(path).read())\n"
    )
    folder = write(tmp_path / "tool", code, '["typing_extensions"]')
    environment.lock_environment(folder)
    output = await act(ToolHarness(base=tmp_path, tier="full"), environment.make_environment(folder))
    assert output.value == {"text": "hello"}, output.stderr


def test_an_environment_is_made_once_however_many_ask_at_once(
    index: Index, tmp_path: Path, made: Callable[..., Any]
) -> None:
    own = made()
    environment._remove(own.folder)
    stale = own.folder.with_suffix(".part")
    stale.mkdir()
    (stale / "half").write_text("of one that was killed")
    messages: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(lambda _: environment.make_environment(tmp_path / "tool", report=messages.append), range(4))
        )
    assert {one.folder for one in found if one} == {own.folder}
    assert len(messages) == 1
    assert sorted(path.name for path in own.folder.parent.iterdir()) == [own.folder.name, f"{own.folder.name}.lock"]
    assert not (own.folder / "half").exists()


def test_an_environment_is_built_again_without_network_or_it_says_what_is_missing(
    index: Index, tmp_path: Path, made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may go on after the cache was cleared, on a machine that reaches no index."""
    own = made()
    index.requested.clear()
    environment._remove(own.folder)
    again = environment.make_environment(tmp_path / "tool", offline=True)
    assert again is not None
    assert again.made
    environment._remove(own.folder)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(RunEnded, match="the packages of tool 'tool' cannot be fetched"):
        environment.make_environment(tmp_path / "tool", offline=True)
    assert index.requested == []


def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path, made: Callable[..., Any]) -> None:
    own = made()
    environment._remove(own.folder)
    for mode in (0o777, 0o775):
        (tmp_path / "cache").chmod(mode)
        with pytest.raises(RunEnded, match="other accounts could put packages into"):
            environment.make_environment(tmp_path / "tool")
    (tmp_path / "cache").chmod(0o755)
    assert environment.make_environment(tmp_path / "tool") == own


def test_without_uv_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment._find_uv.cache_clear()
    monkeypatch.setenv("REMIT_UV", str(tmp_path / "none"))
    try:
        with pytest.raises(RunEnded, match=r"pip install 'remit\[uv\]'"):
            environment.lock_environment(write(tmp_path / "tool", SHOUT))
    finally:
        environment._find_uv.cache_clear()


# -- the real thing ----------------------------------------------------------------------------------------------------

PANDAS = """\
import random
import pandas

BORN = random.SystemRandom().random()

def act(path: str) -> dict[str, float]:
    table = pandas.DataFrame({"line": open(path).read().splitlines() * 3})
    return {"rows": float(len(table)), "born": BORN}
"""


async def test_a_tool_that_needs_pandas_is_kept_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS uses one thread, so the process can be forked: two calls share one import."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write(tmp_path / "tool", PANDAS, '["pandas>=2"]')
    try:
        environment.lock_environment(folder)
        own = environment.make_environment(folder)
    except RunEnded as failure:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no index to take pandas from: {failure.message}")
    assert own is not None
    harness = ToolHarness(base=tmp_path, tier="full")
    first, second = await act(harness, own), await act(harness, own)
    assert first.value == {"rows": 3.0, "born": second.value["born"]}, first.message + first.stderr
