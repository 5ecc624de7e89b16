"""A workspace with one sandboxed tool, `bank`, whose functions have the annotations of a test. Its effects are lines in a store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.runtime import runner as run
from remit.workspace.session import open_session
from support.postgres import journal_setting
from support.principals import OPERATOR
from support.runs import DONE, Played, turn
from support.workspaces.files import write_workspace
from support.workspaces.ledger import pin

HEAD: Final = """
import dataclasses, datetime, decimal, enum, os, pathlib, time, urllib.request, uuid
from typing import Annotated, Literal
from pydantic import (
    AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, StringConstraints, WrapValidator,
    field_validator, model_validator,
)
from pydantic.dataclasses import dataclass

def entered(line: object) -> str:
    with open("stores/ledger/lines", "a") as file:
        file.write(f"{line}\\n")
    return str(line)
"""
_TOOL: Final = """
name = "bank"
version = "1.0.0"
owner = "tests@example.com"
summary = "Pays"
source = "{source}"
{host}
"""
_ACTION: Final = """
[actions.{name}]
summary = "Pay"
touches = {touches}
effect = "{effect}"
adds_labels = ["seen"]
"""
_AGENT: Final = """
name = "clerk"
summary = "Pays"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["bank"]
folder = "work/clerk"

[budget]
steps = 60
calls = 100
tries = 60
retries = 60
denials = 60
"""


@dataclass(frozen=True, kw_only=True)
class Bank:
    """The workspace, before its run."""

    folder: Path

    def play(self, *calls: Mapping[str, Any]) -> Played:
        """Run the script: each call in a turn of its own, then the end."""
        self.script(*calls)
        opened = open_session(self.folder)
        model = run.open_model_of(opened, "clerk")
        start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
        return Played(folder=self.folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))

    def script(self, *calls: Mapping[str, Any]) -> None:
        turns = [turn(**{f"bank__{name}": arguments for name, arguments in call.items()}) for call in calls]
        (self.folder / "agent/clerk/script.yaml").write_text(json.dumps({"turns": [*turns, DONE]}))

    @property
    def effects(self) -> list[str]:
        """What the functions wrote, in order."""
        path = self.folder / "work/clerk/stores/ledger/lines"
        return path.read_text().splitlines() if path.exists() else []


def bank(
    folder: Path,
    source: str,
    *,
    touches: Iterable[str] = ("use account:{to}", "write store:ledger"),
    effect: str = "once",
    limits: str = "",
    rules: str = "",
    head: str = "",
    hosted: bool = False,
) -> Bank:
    """Write the workspace: each public function of `source` is an action.

    `head` are further lines of the manifest. `hosted`: the tool runs in this process.
    """
    names = [line[4:].partition("(")[0] for line in source.splitlines() if line.startswith("def ") and line[4] != "_"]
    host = 'host = "bank_host:ACTIONS"' if hosted else head
    manifest = _TOOL.format(source="host" if hosted else "python", host=host)
    shown = json.dumps(list(touches))
    manifest += "" if hosted else '\n[at_most]\nstores = ["ledger"]\n'
    manifest += "".join(_ACTION.format(name=name, touches=shown, effect=effect) for name in names) + limits
    code = HEAD + source
    every = "".join(
        f"p, {who}, bank.*, {what}, {rules or 'True'}, allow\n"
        for who in ("agent:clerk", "role:people")
        for what in ("account:*", "store:ledger", "none:")
    )
    files = {
        "remit.toml": journal_setting()
        + ('host_tools = ["bank"]\n' if hosted else "")
        + '[identity]\n"*" = "user:operator"\n',
        "tools/bank/tool.toml": manifest,
        "policies/rules.csv": every + "g, user:operator, role:people\n",
        "agent/clerk/agent.toml": _AGENT,
        "agent/clerk/prompt.md": "Pay.\n",
        "agent/clerk/script.yaml": json.dumps({"turns": [DONE]}),
        "work/clerk/stores/ledger/.keep": "",
    }
    if hosted:
        files["hosted/bank_host.py"] = code + f"\nACTIONS = {{{', '.join(f'{name!r}: {name}' for name in names)}}}\n"
    else:
        files["tools/bank/main.py"] = code
    write_workspace(folder, files)
    pin(folder)
    return Bank(folder=folder)
