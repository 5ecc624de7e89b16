"""An agent that calls one tool over the network, added to the starter workspace."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.workspace import loader as workspace

AGENT = """name = "web"
summary = "Looks things up"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["TOOL"]
folder = "work/web"
"""


def add(session: Path, name: str, files: dict[str, str], rules: str, turns: list[dict[str, Any]]) -> None:
    """Add a tool, an agent with a script, and rules for both to the workspace, and pin the tool."""
    for file, text in files.items():
        path = session / "tools" / name / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    agent = session / "agent" / "web"
    agent.mkdir(exist_ok=True)
    (agent / "agent.toml").write_text(AGENT.replace("TOOL", name))
    (agent / "prompt.md").write_text("Look it up.\n")
    (agent / "script.yaml").write_text(json.dumps({"turns": [*turns, {"say": "done"}]}))
    with (session / "policies" / "rules.csv").open("a") as file:
        file.write(rules)
    asyncio.run(tool.pin_tools(workspace.load_workspace(session), (name,), Sandbox(accept=("full",))))
