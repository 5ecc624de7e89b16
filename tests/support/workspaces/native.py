"""A workspace for a coding agent whose commands are the actions of the ledger, and its twin whose commands are functions of this process.

The agent, the tool and the rules of both are the same. So what hooks record of a call can be compared with what every other way into
Remit records.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from remit.sandbox import Sandbox
from remit.tools import pin_tools
from remit.workspace import load_workspace
from support.postgres import journal_setting
from support.workspaces.files import write_workspace

TOOL: Final = """
name = "{tool}"
version = "1.0.0"
owner = "tests@example.com"
summary = "Programs"
{source}

[actions.program]
summary = "Run one program"
touches = ["use program:{{program}}"]
effect = "read"
"""
FUNCTION: Final = '''
from typing import Any

def program(input: dict[str, Any], program: str, verb: str, paths: list[str], outside: list[str]) -> Any:
    """Run one program: a command of plain words, without anything that a shell expands."""
    return "{returned}"

ACTIONS = {{"program": program}}
'''
SETTINGS: Final = """
users = ["user:lea"]

[identity]
"*" = "user:operator"
"""
RULES: Final = """
# The agent looks
p, agent:{client}, {tool}.program, program:look, True, allow
# A lead must agree to a payment
p, agent:{client}, {tool}.program, program:pay, approved('role:lead'), allow
# Nobody touches the vault
p, role:people, {tool}.program, program:*, args.verb == 'vault', deny
p, role:people, {tool}.*, program:*, True, allow
g, user:operator, role:people
g, user:lea, role:lead
"""
AGENT: Final = """
name = "{client}"
summary = "Works"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["{tool}"]
folder = "work/{client}"

[budget]
steps = 30
calls = {calls}
{budget}
"""
RETURNED: Final = "4111 1111 1111 1111"  # by every command
_pins: dict[tuple[str, bool], str] = {}  # the tool is the same in every workspace, so its pin is computed once


def tool_of(client: str) -> str:
    """The name of the coding agent's tool."""
    return client.replace("-", "_")


def native_workspace(
    folder: Path,
    turns: Sequence[dict[str, Any]],
    client: str,
    *,
    hooked: bool,
    calls: int = 60,
    budget: str = "",
    limits: str = "",
    content: str = "",
) -> Path:
    """Write it; with `hooked` for that coding agent, else the twin with `turns` as its script."""
    tool = tool_of(client)
    source = f'source = "hook"\nclient = "{client}"' if hooked else 'source = "host"\nhost = "native_host:ACTIONS"'
    files = {
        "remit.toml": journal_setting() + ("" if hooked else f'host_tools = ["{tool}"]\n') + SETTINGS,
        f"tools/{tool}/tool.toml": TOOL.format(tool=tool, source=source),
        "policies/rules.csv": RULES.format(tool=tool, client=client),
        "policies/limits.toml": limits.replace("ledger.look", f"{tool}.program"),
        "policies/content.toml": content,
        f"agent/{client}/agent.toml": AGENT.format(tool=tool, client=client, calls=calls, budget=budget),
        f"agent/{client}/prompt.md": "Work.\n",
        f"agent/{client}/script.yaml": json.dumps({"turns": turns}),
        "hosted/native_host.py": FUNCTION.format(returned=RETURNED),
    }
    write_workspace(folder, {name: text for name, text in files.items() if text})
    sys.path.insert(0, str(folder / "hosted"))
    sys.modules.pop("native_host", None)
    lock = folder / "policies" / "tools.lock"
    if (client, hooked) not in _pins:
        asyncio.run(pin_tools(load_workspace(folder), (tool,), Sandbox(accept=("full",))))
        _pins[client, hooked] = lock.read_text()
    lock.write_text(_pins[client, hooked])
    return folder
