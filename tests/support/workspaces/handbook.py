"""The handbook workspace: an agent with grounded answers, and a host tool `search` that returns the passages of a file as they are there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from remit.runtime import runner as run
from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.workspace import loader as workspace
from remit.workspace.session import open_session
from support.principals import OPERATOR
from support.runs import Played
from support.workspaces.files import write_workspace

TOOL: Final = """
name = "search"
version = "1.0.0"
owner = "tests@example.com"
summary = "Finds passages of documents"
source = "host"
host = "search_host:ACTIONS"

[actions.find]
summary = "Find passages"
touches = ["use collection:{collection}"]
effect = "read"
passages = "items/*"
errors = ["nothing_found", "busy"]
"""
HOST: Final = '''
import json, os, pathlib

class NothingFound(Exception): pass
class Busy(Exception): pass

def find(query: str, collection: str) -> dict[str, list[dict[str, object]]]:
    """Find passages."""
    items = json.loads(pathlib.Path(os.environ["HANDBOOK"]).read_text())[query]
    if items is None:
        raise Busy("the index is being written: search again")
    if not items:
        raise NothingFound("no document has enough about this: say that you do not know")
    return {"items": items}

ACTIONS = {"find": find}
'''
RULES: Final = """
p, agent:guide, search.find, collection:*, True, allow
p, user:operator, search.find, collection:*, True, allow
"""
AGENT: Final = """
name = "guide"
summary = "Answers from the handbook"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["search"]
folder = "work/guide"

[answer]
grounded = true
{answer}
"""
TEXT: Final = "Refunds are paid within 30 days. Items over 200 EUR need the approval of a manager."


def item(
    text: str = TEXT,
    *,
    document: str = "handbook/refunds",
    version: str = "4",
    section: str = "Refunds > Payment",
    begin: int = 120,
    title: str = "",
    since: str | None = "2026-07-01",
    until: str | None = None,
) -> dict[str, Any]:
    """One found item, as a search tool returns it."""
    data = text.encode()
    citation = {
        "document": document,
        "version": version,
        "section": section,
        "span": [begin, begin + len(data)],
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }
    in_force = {"from": since, "until": until}
    return {"citation": citation, "text": text, "title": title or document, "rank": 1, "in_force": in_force}


def find(query: str, collection: str = "handbook") -> dict[str, Any]:
    """A turn that searches."""
    return {"calls": [{"search__find": {"query": query, "collection": collection}}]}


def claim(
    words: str, quote: str, call: str = "0.0", item: int = 1, section: str = "Refunds > Payment"
) -> dict[str, Any]:
    """A claim that cites by the place of the passage."""
    return {"claim": words, "quote": quote, "citation": {"call": call, "item": item, "section": section}}


def states(*claims: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A turn that answers with these claims."""
    return {"say": json.dumps({"claims": list(claims), **members})}


def handbook_workspace(
    folder: Path, turns: Sequence[dict[str, Any]], found: dict[str, list[dict[str, Any]] | None], *, answer: str = ""
) -> Path:
    """Write the workspace, in which a search for each query of `found` returns these items: none is `nothing_found`, None is `busy`."""
    files = {
        "remit.toml": 'host_tools = ["search"]\nusers = ["user:operator"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/search/tool.toml": TOOL,
        "policies/rules.csv": RULES,
        "agent/guide/agent.toml": AGENT.format(answer=answer),
        "agent/guide/prompt.md": "Answer from the handbook.\n",
        "agent/guide/script.yaml": json.dumps({"turns": list(turns)}),
        "hosted/search_host.py": HOST,
        "found.json": json.dumps(found),
    }
    write_workspace(folder, files)
    use(folder)
    lock = folder / "policies" / "tools.lock"
    if not _locks:
        loaded = workspace.load_workspace(folder)
        asyncio.run(tool.pin_tools(loaded, tuple(loaded.tools), Sandbox(accept=("full",))))
        _locks.append(lock.read_text())
    lock.write_text(_locks[0])
    return folder


_locks: list[str] = []  # the tool is the same in every workspace, so its pin is computed once


def use(folder: Path) -> None:
    """Make this process find the tool and what its searches return."""
    sys.path[:] = [str(folder / "hosted"), *(path for path in sys.path if not path.endswith("/hosted"))]
    sys.modules.pop("search_host", None)
    os.environ["HANDBOOK"] = str(folder / "found.json")


def asked(folder: Path, task: str = "When are refunds paid?") -> Played:
    """Run the agent of the workspace to its end."""
    opened = open_session(folder)
    model = run.open_model_of(opened, "guide")
    request = run.RunRequest(agent="guide", task=task, subject="user:operator", by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, request)))
