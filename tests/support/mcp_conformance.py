"""Remit as the client that the conformance suite of MCP tests: it imports the server at the given URL, and calls its tools in a run.

    python -m support.mcp_conformance URL

The scenario says in MCP_CONFORMANCE_CONTEXT what to call; without it, each tool is called once. A question of the server is answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remit.client import answer, open_questions
from remit.core import WorkspaceError
from remit.runtime import runner
from remit.sandbox import Sandbox
from remit.tools import Elsewhere, import_remote
from remit.workspace.session import open_session
from support.principals import OPERATOR
from support.runs import turn
from support.workspaces.ledger import pin
from support.workspaces.mcp import again, made

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
EXAMPLES: Final[Mapping[str, Any]] = {
    "number": 5,
    "integer": 5,
    "string": "a",
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def imported(folder: Path, url: str) -> None:
    """The tool `kit` for the server at that URL, decided and pinned."""
    made(folder)
    shutil.rmtree(folder / "tools/kit")

    async def write() -> None:
        async with Sandbox(accept=("full",)) as sandbox:
            await import_remote(folder, "kit", Elsewhere(url=url, ranges=LOOPBACK), sandbox)

    asyncio.run(write())
    manifest = folder / "tools/kit/tool.toml"
    text = manifest.read_text(encoding="utf-8").replace("# decide: ", "")
    manifest.write_text(text, encoding="utf-8")
    try:
        pin(folder)
    except WorkspaceError as error:  # a person leaves out what cannot be pinned
        print(error, file=sys.stderr)
        wrong = {name for name in re.findall(r"^\[actions\.(\w+)\]$", text, re.MULTILINE) if repr(name) in str(error)}
        for name in wrong:
            text = re.sub(rf"^\[actions\.{name}\]\n(?:.+\n)+\n?", "", text, flags=re.MULTILINE)
        manifest.write_text(text, encoding="utf-8")
        if "[actions." in text:
            pin(folder)


def calls(folder: Path, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns of the run: what the scenario has called, or else each tool once."""
    if "[actions." not in (folder / "tools/kit/tool.toml").read_text(encoding="utf-8"):
        return []
    tool = open_session(folder).workspace.tools["kit"]
    assert tool.pin is not None
    actions = {action.tool: name for name, action in tool.manifest.actions.items()}
    chosen = [(one["name"], one["arguments"]) for one in context.get("toolCalls", ())] or [
        (name, _example(tool.pin.schemas[action].input)) for name, action in actions.items()
    ]
    return [turn(**{f"kit__{actions[name]}": arguments}) for name, arguments in chosen]


def _example(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: EXAMPLES[schema["properties"][name]["type"]] for name in schema.get("required", ())}


def main() -> None:
    url, context = sys.argv[-1], json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with tempfile.TemporaryDirectory(prefix="remit-conformance-") as base:
        folder = Path(base)
        imported(folder, url)
        if not (turns := calls(folder, context)):
            return
        run = again(folder, turns)
        while questions := open_questions(run.opened):
            for question in questions:
                answer(run.opened, run.opened.policy, question, {"confirmed": True}, OPERATOR)
            asyncio.run(runner.resume_run(run.opened, run.ended.run, by=OPERATOR))


if __name__ == "__main__":
    main()
