"""The shelf workspace: a host tool whose answers depend on every effect before them, kept in a file outside of the workspace."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.workspace import loader as workspace
from support.workspaces.files import write_workspace

TOOL: Final = """
name = "shelf"
version = "1.0.0"
owner = "tests@example.com"
summary = "Keeps numbers by name"
source = "host"
host = "shelf_host:ACTIONS"

[actions.get]
summary = "Read a number"
touches = ["read file:{name}"]
effect = "read"

[actions.sum]
summary = "Read the sum of all numbers of a folder"
touches = ["read file:{folder}/**"]
effect = "read"

[actions.put]
summary = "Replace a number"
touches = ["write file:{name}"]
effect = "idempotent"

[actions.add]
summary = "Add to a number and return the new one"
touches = ["write file:{name}"]
effect = "once"

[at_most]
read = ["d/**", "e/**"]
write = ["d/**", "e/**"]
"""
HOST: Final = '''
import json, os, pathlib, threading

_lock = threading.Lock()

def _change(change):
    path = pathlib.Path(os.environ["SHELF"])
    with _lock:
        shelf = json.loads(path.read_text()) if path.exists() else {}
        value = change(shelf)
        path.write_text(json.dumps(shelf))
    return value

def get(name: str) -> int:
    """Read a number."""
    return _change(lambda shelf: shelf.get(name, 0))

def sum_of(folder: str) -> int:
    """Read a sum."""
    return _change(lambda shelf: sum(value for name, value in shelf.items() if name.startswith(folder + "/")))

def put(name: str, value: int) -> int:
    """Replace a number."""
    return _change(lambda shelf: shelf.update({name: value}) or value)

def add(name: str, value: int) -> int:
    """Add to a number."""
    return _change(lambda shelf: shelf.update({name: shelf.get(name, 0) + value}) or shelf[name])

ACTIONS = {"get": get, "sum": sum_of, "put": put, "add": add}
'''
RULES: Final = """
# The porter may do everything
p, agent:porter, shelf.*, file:**, True, allow
# People may do what their agents do
p, user:operator, shelf.*, file:**, True, allow
"""


def shelf_workspace(folder: Path) -> Path:
    """Write the workspace, and pin its tool."""
    files = {
        "remit.toml": 'host_tools = ["shelf"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/shelf/tool.toml": TOOL,
        "policies/rules.csv": RULES,
        "agent/porter/agent.toml": 'name = "porter"\nsummary = "Counts"\nmodel = "script:script.yaml"\nprompt = "prompt.md"\n'
        'tools = ["shelf"]\nfolder = "work/porter"\n',
        "agent/porter/prompt.md": "Count.\n",
        "agent/porter/script.yaml": json.dumps({"turns": [{"say": "done"}]}),
        "hosted/shelf_host.py": HOST,
    }
    write_workspace(folder, files)
    loaded = workspace.load_workspace(folder)
    asyncio.run(tool.pin_tools(loaded, tuple(loaded.tools), Sandbox(accept=("full",))))
    sys.modules.pop("shelf_host", None)
    return folder


def worlds_after(worlds: list[dict[str, int]], calls: list[tuple[str, dict[str, Any], Any]]) -> list[dict[str, int]]:
    """The states in which the shelf may be after these parallel calls, given what they answered.

    `calls` are action, arguments and answer; None is an answer that may be anything. Empty: no order of the calls gives these answers.
    """
    if not calls:
        return worlds
    after: list[dict[str, int]] = []
    for at, (action, arguments, answer) in enumerate(calls):
        fitting: list[dict[str, int]] = []
        for world in worlds:
            value, changed = _applied(world, action, arguments)
            if answer in (None, value):
                fitting.append(changed)
        if fitting:
            after += [world for world in worlds_after(fitting, [*calls[:at], *calls[at + 1 :]]) if world not in after]
    return after


def _applied(world: dict[str, int], action: str, arguments: dict[str, Any]) -> tuple[int, dict[str, int]]:
    if action == "shelf.sum":
        return sum(value for name, value in world.items() if name.startswith(arguments["folder"] + "/")), world
    before = world.get(arguments["name"], 0)
    if action == "shelf.get":
        return before, world
    now = arguments["value"] + (before if action == "shelf.add" else 0)
    return now, {**world, arguments["name"]: now}
