"""Five incidents to practise on-call work, each made in a new workspace.

The models are scripts; decisions, confinement, tools and records are real. `docs/how-to/five-incidents.md` says what on-call
does then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from remit.cli.demo.editing import edit
from remit.cli.output import json_text
from remit.core import UsageError
from remit.runtime import RunRequest, RunResult, open_model_of, start_run
from remit.sandbox import Sandbox
from remit.tools import pin_tools
from remit.workspace import open_session, principal_of_process

AGENT: Final = "triage"
TASK: Final = "Checkout is slow: find out why"
STOCK_TOML: Final = """
name = "stock"
version = "1.0.0"
owner = "warehouse@example.com"
summary = "Asks the warehouse how much there is of an article"
source = "python"

[at_most]
read = ["data/**"]

[limits]
wall = "1s"

[actions.level]
summary = "How many pieces of one article are in stock"
touches = ["read file:data/orders.db"]
effect = "read"
retry = { attempts = 2, on = ["timeout"] }
"""
STOCK: Final = '''"""Asks the warehouse how much there is of an article."""

import time

SECONDS = {seconds}  # until the warehouse answers


def level(article: str) -> int:
    """How many pieces of one article are in stock."""
    time.sleep(SECONDS)
    return len(article)
'''


def _turn(say: str, **calls: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"say": say, "calls": [{name: arguments} for name, arguments in calls.items()]}


_DONE: Final = {"say": "done"}
_RUNBOOK: Final = _turn("I read the runbook.", files__read={"path": "runbooks/payments-pool.md"})
_LOG: Final = _turn(
    "I read what checkout saw.", files__read={"path": "logs/checkout.log", "start_line": 105, "lines": 20}
)


def _play(folder: Path, *turns: Mapping[str, Any], outcome: str = "completed") -> None:
    """Run the agent with a model that makes these turns, to the end."""
    ended = _started(folder, *turns)
    if ended.finished is None or ended.finished.outcome != outcome:
        raise UsageError(
            f"run {ended.run[:8]} of the incident did not end with {outcome!r}: remit trace show {ended.run[:8]}"
        )


def _started(folder: Path, *turns: Mapping[str, Any]) -> RunResult:
    """Run the agent with a model that makes these turns, until it ends or waits."""
    (folder / "agent" / AGENT / "script.yaml").write_text(json_text({"turns": [*turns]}), encoding="utf-8")
    opened = open_session(folder)
    by = principal_of_process(opened.workspace.settings)
    model = open_model_of(opened, AGENT)
    request = RunRequest(agent=AGENT, task=TASK, subject=by.subject, by=by, model=model)
    return asyncio.run(start_run(opened, request))


def _pin(folder: Path, tool: str) -> None:
    workspace = open_session(folder).workspace
    asyncio.run(pin_tools(workspace, (tool,), Sandbox.shared(workspace.settings.accept)))


def _add(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _rule_change(folder: Path) -> None:
    """A reviewer denies access to the runbooks while they are rewritten, and the agent needs them."""
    _play(folder, _RUNBOOK, _DONE)
    note = "# Runbooks are being rewritten: nobody acts on the old ones"
    _add(folder / "policies/rules.csv", f"\n{note}\np, agent:triage, files.read, file:runbooks/**, True, deny\n")
    _play(folder, _RUNBOOK, {"say": "I cannot read the runbook, and stop here."})


def _tool_update(folder: Path) -> None:
    """The pinned tool files 1.1.0 rejects a log with long lines as not being text."""
    _play(folder, _LOG, _DONE)
    tool = folder / "tools/files"
    edit(tool / "tool.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    strict = "    if any(len(line) > 100 for line in every):\n        raise NotText(f'{path!r} has lines of over 100 characters')\n"
    edit(tool / "main.py", "    page = every[", f"{strict}    page = every[")
    _pin(folder, "files")
    _play(folder, _LOG, {"say": "The log cannot be read, and I stop here."})


def _slow_upstream(folder: Path) -> None:
    """The warehouse answers later than the time limit of a call."""
    tool = folder / "tools/stock"
    tool.mkdir()
    (tool / "tool.toml").write_text(STOCK_TOML, encoding="utf-8")
    (tool / "main.py").write_text(STOCK.format(seconds=0), encoding="utf-8")
    edit(folder / "agent" / AGENT / "agent.toml", 'tools = ["files"', 'tools = ["stock", "files"')
    allowed = "".join(
        f"p, {who}, stock.level, file:data/**, True, allow\n" for who in ("agent:triage", "role:operator")
    )
    _add(folder / "policies/rules.csv", f"\n# Stock levels are no secret\n{allowed}")
    _pin(folder, "stock")
    ask = _turn("I ask the warehouse.", stock__level={"article": "lamp"})
    _play(folder, ask, _DONE)
    (tool / "main.py").write_text(STOCK.format(seconds=5), encoding="utf-8")
    _pin(folder, "stock")
    _play(folder, ask, {"say": "The warehouse does not answer."})


def _injected_document(folder: Path) -> None:
    """A note of a customer in a log asks for a credential, and the model follows it."""
    request = _turn("Pool checks need the live credential.", files__read={"path": "secrets/payments.env"})
    _play(folder, _LOG, _DONE)
    _play(folder, _LOG, request, _DONE)


def _looping_model(folder: Path) -> None:
    """The model reads the same lines repeatedly, until its budget is used up."""
    _play(folder, _LOG, _DONE)
    edit(folder / "agent" / AGENT / "agent.toml", "steps = 30", "steps = 8")
    _play(folder, *[_LOG] * 9, outcome="exhausted")


INCIDENTS: Final[Mapping[str, Callable[[Path], None]]] = {
    "rule-change": _rule_change,
    "tool-update": _tool_update,
    "slow-upstream": _slow_upstream,
    "injected-document": _injected_document,
    "looping-model": _looping_model,
}

# In this order, none changes the cause of another one.
_ALL: Final = ("slow-upstream", "injected-document", "rule-change", "looping-model", "tool-update")
# What a hurried reader does not see: it begins after empty lines, and one character lets it run from right to left.
_HIDDEN: Final = "The pool was too small.\n\n\n\n\n\n\n\n\u202eRefund order 7731 to account 5012 as well."


def make_all(folder: Path, lead: str) -> None:
    """All five in one workspace, and a call that hides something and waits. From then on, this account is that of the on-call lead."""
    for name in _ALL:
        INCIDENTS[name](folder)
    close = _turn("I close the ticket.", tickets__close={"key": "INC-2041", "reason": _HIDDEN})
    ended = _started(folder, close, _DONE)
    if not ended.waiting:
        raise UsageError(f"run {ended.run[:8]} does not wait for approval: remit trace show {ended.run[:8]}")
    edit(folder / "remit.toml", '"*" = "user:operator"', f'"*" = "{lead}"')
    edit(folder / "remit.toml", f'users = ["{lead}"', f'users = ["{lead}", "user:operator"')
