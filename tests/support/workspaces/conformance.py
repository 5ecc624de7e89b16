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
    "image_content": "Return an image",
    "audio_content": "Return a sound",
    "embedded_resource": "Return a file",
    "multiple_content_types": "Return an image and a file",
}
CODE: Final = '''
import base64
import time
from typing import Any


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


PNG = b"\\x89PNG\\r\\n\\x1a\\n"


def block(kind: str, mime_type: str, data: bytes) -> dict[str, Any]:
    return {"type": kind, "mime_type": mime_type, "base64": base64.b64encode(data).decode()}


def image_content() -> bytes:
    """Return an image."""
    return PNG


def audio_content() -> list[dict[str, Any]]:
    """Return a sound."""
    return [block("audio", "audio/wav", b"RIFF0000WAVE")]


def embedded_resource() -> list[dict[str, Any]]:
    """Return a file."""
    return [block("file", "text/plain", b"a file")]


def multiple_content_types() -> list[dict[str, Any]]:
    """Return an image and a file."""
    return [block("image", "image/png", PNG), block("file", "application/json", b"{}")]
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
