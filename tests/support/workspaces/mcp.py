"""A workspace with one MCP server of tests, `support/mcp_server.py`, and an agent that has its tools."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from remit.runtime import runner
from remit.workspace.session import open_session
from remit.workspace.template import starter_folder
from support.principals import OPERATOR
from support.runs import DONE, Played
from support.workspaces.ledger import pin

KIT: Final = """
name = "kit"
version = "1.0.0"
owner = "tests@example.com"
summary = "A server of tests"
source = "mcp"

[server]
command = ["python", "./server.py"]
env = { FOLDER = "{files}" }

[at_most]
read = ["data/**"]
write = ["out/**"]

[limits]
wall = "10s"
output = "256KiB"

[actions.echo]
summary = "Return the text"
effect = "read"

[actions.read_file]
tool = "read-file"
summary = "Read a file"
touches = ["read file:{path}"]
effect = "read"
errors = ["is_error"]

[actions.write_file]
tool = "write-file"
summary = "Write a file"
touches = ["write file:{path}"]
effect = "idempotent"

[actions.count]
summary = "Count the calls"
effect = "read"

[actions.do]
summary = "Do what the test says"
effect = "read"

[actions.send]
tool = "do"
summary = "Do what the test says, outside"
touches = ["use service:outside"]
effect = "once"
"""
RULES: Final = """# The user may do what the agent may
p, user:operator, *, **, True, allow
p, agent:helper, *, **, True, allow
"""
AGENT: Final = """
name = "helper"
summary = "Helps"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["kit"]
folder = "work/helper"
"""
SERVER: Final = Path(__file__).parent.parent / "mcp_server.py"


def made(folder: Path, behaviour: Mapping[str, Any] | None = None, *, kit: str = KIT, rules: str = RULES) -> Path:
    """Write the workspace, unpinned."""
    texts = {
        "remit.toml": '[identity]\n"*" = "user:operator"\n',
        "tools/kit/tool.toml": kit,
        "tools/kit/behaviour.json": json.dumps(dict(behaviour or {})),
        "tools/kit/server.py": SERVER.read_text(encoding="utf-8"),
        "policies/rules.csv": rules,
        "agent/helper/agent.toml": AGENT,
        "agent/helper/prompt.md": "Help.\n",
        "agent/helper/script.yaml": json.dumps({"turns": [DONE]}),
        "work/helper/data/a.md": "decided",
        "work/helper/data/b.md": "other",
        "work/helper/secret": "SECRET",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(starter_folder() / "policies" / "model.conf", folder / "policies")
    return folder


def behave(folder: Path, behaviour: Mapping[str, Any]) -> None:
    """Let the server differ from now on."""
    (folder / "tools/kit/behaviour.json").write_text(json.dumps(dict(behaviour)), encoding="utf-8")


def played(
    folder: Path,
    turns: Sequence[Mapping[str, object]],
    behaviour: Mapping[str, Any] | None = None,
    *,
    kit: str = KIT,
    rules: str = RULES,
    task: str = "Do it",
) -> Played:
    """Run the turns in a new workspace."""
    pin(made(folder, behaviour, kit=kit, rules=rules))
    return again(folder, turns, task=task)


def again(
    folder: Path, turns: Sequence[Mapping[str, object]], *, task: str = "Do it", user: str = "user:operator"
) -> Played:
    """Run the turns in a workspace that is there."""
    (folder / "agent/helper/script.yaml").write_text(json.dumps({"turns": [*turns, DONE]}), encoding="utf-8")
    opened = open_session(folder)
    model = runner.open_model_of(opened, "helper")
    start = runner.RunRequest(agent="helper", task=task, subject=user, by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(runner.start_run(opened, start)))


def text_of(run: Played, step: int, index: int = 0) -> str:
    """The text that a call returned."""
    value = run.result(step, index)["value"]
    return "".join(block["text"] for block in value["content"])
