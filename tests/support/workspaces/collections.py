"""A workspace whose agent searches collections of documents, and the search tool in this process."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from remit.sandbox import Sandbox
from remit.tools import workbench
from remit.workspace.loader import load_workspace
from support import ROOT
from support.workspaces.files import write_workspace

TOOL: Final = ROOT / "tools" / "search"
EVERYTHING: Final = {"document": {"allow": [["document:**"]], "deny": []}}
RULES: Final = """
# People may read and ingest every collection
p, user:operator, search.*, store:search/*, True, allow
p, user:operator, search.*, document:**, True, allow
# The reader reads the handbook and the manual
p, agent:reader, search.*, store:search/handbook, True, allow
p, agent:reader, search.*, store:search/manual, True, allow
p, agent:reader, search.*, document:**, True, allow
# Salaries are for people
p, agent:reader, search.*, document:handbook/salaries*, True, deny
# The librarian only ingests
p, agent:librarian, search.ingest, store:search/*, True, allow
"""


def search_tool() -> ModuleType:
    """The functions of the tool. They work in the current folder."""
    if str(TOOL) not in sys.path:
        sys.path.insert(0, str(TOOL))
    if "search_main" not in sys.modules:
        spec = importlib.util.spec_from_file_location("search_main", TOOL / "main.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["search_main"] = module
        spec.loader.exec_module(module)
    return sys.modules["search_main"]


def write_documents(folder: Path, collection: str, files: Mapping[str, str | bytes]) -> None:
    """Write files of a collection below a working folder."""
    for name, content in files.items():
        path = folder / "stores/search" / collection / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def collections_workspace(folder: Path, *, tool: Mapping[str, str] | None = None, rules: str = RULES) -> Path:
    """Write the workspace, and pin its tool; `tool` replaces files of the tool. Returns the working folder of its agents."""
    agent = (
        'summary = "Reads"\nmodel = "script:script.yaml"\nprompt = "prompt.md"\ntools = ["search"]\nfolder = "work"\n'
    )
    files = {
        "remit.toml": '[identity]\n"*" = "user:operator"\n',
        "policies/rules.csv": rules,
        **{f"agent/{name}/agent.toml": f'name = "{name}"\n{agent}' for name in ("reader", "librarian")},
        **{f"agent/{name}/prompt.md": "Read.\n" for name in ("reader", "librarian")},
        **{f"agent/{name}/script.yaml": '{"turns": [{"say": "done"}]}' for name in ("reader", "librarian")},
    }
    write_workspace(folder, files)
    shutil.copytree(TOOL, folder / "tools" / "search", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (tool or {}).items():
        (folder / "tools" / "search" / name).write_text(text, encoding="utf-8")
    loaded = load_workspace(folder)
    asyncio.run(workbench.pin_tools(loaded, tuple(loaded.tools), Sandbox(accept=("full",))))
    (folder / "work").mkdir()
    return folder / "work"


def found(findings: Any) -> list[str]:
    """The documents of a result of `search.find`, with their versions, the best first."""
    return [f"{item['citation']['document']}@{item['citation']['version']}" for item in findings["items"]]
