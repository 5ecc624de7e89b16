"""Real MCP servers from PyPI and npm work offline under the manifests that Remit imports, and get out by no way they offer.

A server of each kind is tested wherever packages can be installed; `make mcp-servers` tests all of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.errors import RunEnded
from remit.sandbox import Sandbox
from remit.tools import import_server
from support.browser import lacking
from support.lifecycle import replayed
from support.runs import Played, turn
from support.workspaces.ledger import pin
from support.workspaces.mcp import again, made, text_of

ALL: Final = "REMIT_MCP_SERVERS" in os.environ
more = pytest.mark.skipif(not ALL, reason="run `make mcp-servers`")


def imported(
    folder: Path,
    words: Sequence[str],
    decided: Mapping[str, str],
    *,
    programs: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> str:
    """Import the server as the tool kit, decide what is open, and pin it. Returns the text of its manifest."""
    made(folder)
    shutil.rmtree(folder / "tools/kit")
    needed = "uv" if words[0] == "uvx" else "node"
    if needed == "node" and (shutil.which("node") is None or shutil.which("npm") is None):
        lacking("Node.js", "install nodejs and npm")

    async def write() -> None:
        async with Sandbox(accept=("full",)) as sandbox:
            await import_server(folder, "kit", words, sandbox, programs=programs, env=env)

    try:
        asyncio.run(write())
    except RunEnded as ended:
        lacking(f"packages ({ended.message[:80]})", "connect to the network")
    path = folder / "tools/kit/tool.toml"
    text = path.read_text(encoding="utf-8").replace("# decide: ", "")
    for before, after in decided.items():
        assert before in text, before
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    pin(folder)
    return text


def ran(folder: Path, *calls: dict[str, Any]) -> Played:
    """A run with one call a turn; its replay finds the same without the server."""
    run = again(folder, [turn(**call) for call in calls])
    assert not replayed(run).divergences
    return run


def denied(run: Played, step: int) -> str:
    """What a call that failed says, as a code and a message."""
    error = run.error(step)
    return f"{error['code']}: {error['message']}"


def test_time(tmp_path: Path) -> None:
    imported(tmp_path, ["uvx", "mcp-server-time"], {})
    run = ran(
        tmp_path,
        {"kit__convert_time": {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}},
        {"kit__get_current_time": {"timezone": "../../work/files/secret"}},
        {"kit__get_current_time": {"zone": "UTC"}},
    )
    assert run.result(0)["value"]["structured"]["target"]["timezone"] == "Asia/Tokyo"
    assert denied(run, 1).startswith("tool_failed")
    assert denied(run, 2).startswith("invalid_arguments")


def test_filesystem(tmp_path: Path) -> None:
    decided = {'read = ["docs/**"]': 'read = ["data/**", "data", "out"]'}
    imported(tmp_path, ["npx", "-y", "@modelcontextprotocol/server-filesystem", "."], decided)
    run = ran(
        tmp_path,
        {"kit__read_text_file": {"path": "data/a.md"}},
        {"kit__write_file": {"path": "out/x.md", "content": "new"}},
        {"kit__read_text_file": {"path": "secret"}},
        {"kit__read_text_file": {"path": "data/../secret"}},
        {"kit__write_file": {"path": "data/a.md", "content": "changed"}},
        {"kit__list_directory": {"path": "data"}},
        {"kit__read_text_file": {"path": "/etc/passwd"}},
        {"kit__search_files": {"path": "data", "pattern": "**"}},
    )
    assert text_of(run, 0) == "decided"
    assert (tmp_path / "work/helper/out/x.md").read_text() == "new"
    assert [denied(run, step).split(":")[0] for step in (2, 3, 4)] == [
        "policy_denied",
        "invalid_arguments",
        "policy_denied",
    ]
    assert text_of(run, 5) == "[FILE] a.md\n[FILE] b.md"
    assert denied(run, 6).startswith("invalid_arguments")
    assert "SECRET" not in str(run.result(7))
    assert (tmp_path / "work/helper/data/a.md").read_text() == "decided"


@more
def test_git(tmp_path: Path) -> None:
    decided = {
        'read = ["docs/**"]': 'read = ["data/**"]',
        'read file:{repo_path}"': 'read file:{repo_path}/**"',
    }
    words = ["uvx", "mcp-server-git"]
    imported(tmp_path, words, decided, programs=["git"], env={"GIT_PYTHON_REFRESH": "quiet"})
    os.system(
        f"cd {tmp_path}/work/helper/data && git init -q . && git add a.md && git -c user.name=t -c user.email=t@t commit -qm first"
    )
    run = ran(tmp_path, {"kit__git_log": {"repo_path": "data"}}, {"kit__git_log": {"repo_path": "."}})
    assert "first" in text_of(run, 0) or "safe.directory" in text_of(run, 0)
    assert denied(run, 1).startswith("policy_denied")


@more
def test_fetch_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary")
    decided = {'hosts = ["www.example.com:443"]': 'hosts = ["www.example.invalid:443"]'}
    imported(tmp_path, ["uvx", "mcp-server-fetch"], decided)
    run = ran(
        tmp_path,
        {"kit__fetch": {"url": "https://www.example.invalid/"}},
        {"kit__fetch": {"url": "https://other.example.com/"}},
        {"kit__fetch": {"url": "file:///etc/passwd"}},
    )
    assert not run.result(0)["ok"]
    assert [denied(run, step).split(":")[0] for step in (1, 2)] == ["policy_denied", "invalid_arguments"]


@more
def test_sqlite(tmp_path: Path) -> None:
    words = ["uvx", "--with", "mcp<2", "mcp-server-sqlite", "--db-path", "/tmp/notes.db"]
    imported(tmp_path, words, {})
    run = ran(
        tmp_path,
        {"kit__create_table": {"query": "CREATE TABLE notes (text TEXT)"}},
        {"kit__write_query": {"query": "INSERT INTO notes VALUES ('kept')"}},
        {"kit__read_query": {"query": "SELECT text FROM notes"}},
        {"kit__write_query": {"query": "ATTACH DATABASE '/work/files/secret' AS s"}},
    )
    assert "kept" in text_of(run, 2)
    assert "SECRET" not in str(run.result(3))
    other = ran(tmp_path, {"kit__list_tables": {}})
    assert "notes" not in text_of(other, 0)


@more
def test_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary")
    text = imported(tmp_path, ["npx", "-y", "@modelcontextprotocol/server-everything"], {})
    assert "get-env" in text
    run = ran(tmp_path, {"kit__echo": {"message": "hello"}}, {"kit__get_env": {}}, {"kit__get_tiny_image": {}})
    assert "hello" in text_of(run, 0)
    assert "canary" not in str(run.result(1))
    blocks = run.result(2)["value"]["content"]
    assert [block["type"] for block in blocks if block["type"] != "text"] == ["image"]


@more
def test_memory(tmp_path: Path) -> None:
    env = {"MEMORY_FILE_PATH": "{files}/memory.json"}
    state = 'touches = ["read file:memory.json", "write file:memory.json"]\neffect = "once"\n'
    decided = {
        "[actions.create_entities]\n": f'[at_most]\nread = ["memory.json"]\nwrite = ["memory.json"]\n\n[actions.create_entities]\n{state}',
        "[actions.read_graph]\n": '[actions.read_graph]\ntouches = ["read file:memory.json"]\n',
    }
    folder = tmp_path
    text = imported(folder, ["npx", "-y", "@modelcontextprotocol/server-memory"], {}, env=env)
    for before, after in decided.items():
        assert before in text
        text = text.replace(before, after)
    text = text.replace(
        f'{state}summary = "Create multiple new entities in the knowledge graph"\neffect = "once"\n',
        f'{state}summary = "Create"\n',
    )
    (folder / "tools/kit/tool.toml").write_text(text, encoding="utf-8")
    pin(folder)
    entity = {"name": "sky", "entityType": "thing", "observations": ["it is blue"]}
    run = ran(folder, {"kit__create_entities": {"entities": [entity]}}, {"kit__read_graph": {}})
    assert "it is blue" in str(run.result(1))
    assert "it is blue" in (folder / "work/helper/memory.json").read_text()
    (folder / "work/helper/memory.json").unlink()
    assert "it is blue" not in str(ran(folder, {"kit__read_graph": {}}).result(0))


@more
def test_playwright_without_a_browser(tmp_path: Path) -> None:
    imported(
        tmp_path,
        ["npx", "-y", "@playwright/mcp"],
        {'hosts = ["www.example.com:443"]': 'hosts = ["www.example.invalid:443"]'},
    )
    run = ran(
        tmp_path,
        {"kit__browser_navigate": {"url": "https://other.example.com/"}},
        {"kit__browser_tabs": {"action": "list"}},
    )
    assert denied(run, 0).startswith("policy_denied")
    assert "SECRET" not in str(run.result(1))
