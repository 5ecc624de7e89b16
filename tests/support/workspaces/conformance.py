"""The workspace for the conformance suite of MCP: an agent with the tools that the suite calls, as far as Remit offers their features."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from support.workspaces.files import write_workspace
from support.workspaces.ledger import AGENT, pin

TOOL: Final = """
name = "test"
version = "1.0.0"
owner = "tests@example.com"
summary = "What the conformance suite calls"
"""
ACTIONS: Final = {
    "simple_text": "Return a text",
    "error_handling": "Fail",
    "tool_with_progress": "Report progress",
}
CODE: Final = '''
import time


def simple_text() -> str:
    """Return a text."""
    return "This is a simple text response for testing."


def error_handling() -> str:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


def tool_with_progress() -> str:
    """Report progress."""
    for done in (0, 50, 100):
        print(f"{done} of 100", flush=True)
        time.sleep(0.05)
    return "done"
'''
RULES: Final = """
# The suite calls its tools
p, agent:suite, test.*, **, True, allow
p, role:people, test.*, **, True, allow
g, user:operator, role:people
"""


def conformance_workspace(folder: Path) -> Path:
    """Write the workspace."""
    actions = "".join(
        f'\n[actions.{name}]\nsummary = "{summary}"\neffect = "read"\n' for name, summary in ACTIONS.items()
    )
    files = {
        "remit.toml": 'users = ["user:operator"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/test/tool.toml": TOOL + actions,
        "policies/rules.csv": RULES,
        "agent/suite/agent.toml": AGENT.format(steps=300, calls=300, budget="", model="script:script.yaml")
        .replace("clerk", "suite")
        .replace("ledger", "test"),
        "agent/suite/prompt.md": "Be tested.\n",
        "agent/suite/script.yaml": '{"turns": [{"say": "done"}]}',
        "tools/test/main.py": CODE,
    }
    write_workspace(folder, files)
    pin(folder)
    return folder
