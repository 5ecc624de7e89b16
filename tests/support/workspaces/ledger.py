"""The ledger workspace: its one tool runs in this process and writes each effect to a file outside the workspace."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.workspace import loader as workspace
from support.postgres import journal_setting
from support.workspaces.files import write_workspace

TOOL = """
name = "ledger"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts what is done to it"
source = "host"
host = "ledger_host:ACTIONS"

[actions.look]
summary = "Read an account"
touches = ["use account:{name}"]
effect = "read"
retry = { attempts = 3, on = ["busy", "timeout"] }
adds_labels = ["seen"]
errors = ["busy", "not_found"]

[actions.pay]
summary = "Pay once; it cannot be undone"
touches = ["use account:{name}"]
effect = "once"
errors = ["busy", "not_found"]

[actions.wire]
summary = "Pay once, and look afterwards whether it was paid"
touches = ["use account:{name}"]
effect = "once"
probe = "wired"

[actions.wired]
summary = "Look whether a payment was made"
touches = ["use account:{name}"]
effect = "read"
errors = ["busy"]

[actions.book]
summary = "Book under a key"
touches = ["use account:{name}"]
effect = "keyed"
retry = { attempts = 3, on = ["busy", "timeout"] }
errors = ["busy"]

[limits]
wall = "1s"
"""
HOST = '''
import json, os, pathlib, time

class Busy(Exception): pass
class NotFound(Exception): pass
class Later(Busy):
    def __init__(self, seconds):
        super().__init__("come back later")
        self.retry_after_s = seconds

def _write(**row):
    path = os.environ["LEDGER"]
    with open(path, "a") as ledger:
        ledger.write(json.dumps(row) + "\\n")
        ledger.flush()
        os.fsync(ledger.fileno())

def look(name: str, text: str = "") -> dict[str, str]:
    """Read an account."""
    time.sleep(float(os.environ.get("LEDGER_SLOW", "0")))
    if name.startswith("stuck"):
        raise Busy("the account is locked for long")
    if name.startswith("later"):
        raise Later(float(name.removeprefix("later")) / 10)
    if name.startswith("busy") and not os.path.exists(os.environ["LEDGER"] + "." + name):
        open(os.environ["LEDGER"] + "." + name, "w").close()
        raise Busy("the account is locked")
    if name == "gone":
        raise NotFound(text or "there is no such account")
    if name == "crash":
        raise RuntimeError("a private detail")
    if name == "slow":
        time.sleep(1.2)
    return {"name": name, "text": text or os.environ.get("LEDGER_TEXT", "")}

def pay(name: str, amount: int, memo: str = "") -> str:
    """Pay."""
    _write(action="pay", name=name, amount=amount)
    time.sleep(float(os.environ.get("LEDGER_SLOW", "0")))
    if name == "slow":
        time.sleep(1.2)
    return "paid"

def wire(name: str, amount: int, idempotency_key: str, memo: str = "") -> str:
    """Pay, with a reference."""
    _write(action="wire", name=name, amount=amount, key=idempotency_key)
    if name.startswith("slow"):
        time.sleep(1.2)
    return "wired"

def wired(name: str, idempotency_key: str) -> str | None:
    """Look for the reference."""
    if name == "slow-and-blind":
        raise Busy("the ledger cannot be read")
    path = pathlib.Path(os.environ["LEDGER"])
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return "wired" if any(row.get("key") == idempotency_key for row in rows) else None

def book(name: str, amount: int, idempotency_key: str) -> str:
    """Book."""
    _write(action="book", name=name, amount=amount, key=idempotency_key)
    time.sleep(float(os.environ.get("LEDGER_SLOW", "0")))
    return "booked"

ACTIONS = {"look": look, "pay": pay, "wire": wire, "wired": wired, "book": book}
'''
RULES = """
# The clerk looks at every account
p, agent:clerk, ledger.look, account:*, True, allow
# The clerk pays small amounts
p, agent:clerk, ledger.pay, account:*, args.amount <= 100, allow
# A lead must agree to a large amount
p, agent:clerk, ledger.pay, account:*, approved('role:lead'), allow
# The clerk wires to every account
p, agent:clerk, ledger.wire, account:*, True, allow
# The clerk books at most three times in a run
p, agent:clerk, ledger.book, account:*, calls('ledger.book') < 3, allow
# Nobody touches the vault
p, role:people, *, account:vault, True, deny
# People may do what their agents do
p, role:people, ledger.*, account:*, True, allow
# Who has seen untrusted text pays nobody
p, agent:clerk, ledger.pay, account:outside, 'seen' in labels, deny
g, user:operator, role:people
g, user:lea, role:lead
g, user:lea, role:people
g, user:leo, role:lead
"""
AGENT = """
name = "clerk"
summary = "Keeps the ledger"
model = "{model}"
prompt = "prompt.md"
tools = ["ledger"]
folder = "work/clerk"

[budget]
steps = {steps}
calls = {calls}
{budget}
"""


def ledger_workspace(
    folder: Path,
    turns: list[dict[str, Any]],
    *,
    steps: int = 30,
    calls: int = 60,
    budget: str = "",
    limits: str = "",
    prices: str = "",
    content: str = "",
    model: str = "script:script.yaml",
    **script: Any,
) -> Path:
    """Write the workspace, with `turns` as the script: [{"say": …, "calls": [{"ledger__look": {…}}]}]."""
    journal = journal_setting()
    importlib.invalidate_caches()  # something was imported before the folder of the tool existed
    files = {
        "remit.toml": journal
        + 'host_tools = ["ledger"]\nusers = ["user:operator", "user:leo", "user:bea", "user:bob"]\n\n[identity]\n"*" = "user:operator"\nlea = "user:lea"\n',
        "tools/ledger/tool.toml": TOOL,
        "policies/rules.csv": RULES,
        "agent/clerk/agent.toml": AGENT.format(steps=steps, calls=calls, budget=budget, model=model),
        "agent/clerk/prompt.md": "Keep the ledger.\n",
        "agent/clerk/script.yaml": json.dumps({"turns": turns, **script}),
        "hosted/ledger_host.py": HOST,
    }
    if limits:
        files["policies/limits.toml"] = limits
    if prices:
        files["policies/prices.toml"] = prices
    if content:
        files["policies/content.toml"] = content
    write_workspace(folder, files)
    lock = folder / "policies" / "tools.lock"
    if not _locks:
        pin(folder)
        _locks.append(lock.read_text())
    lock.write_text(_locks[0])
    return folder


_locks: list[str] = []  # the tool is the same in every workspace, so its pin is computed once


def pin(folder: Path) -> None:
    """Pin all tools of the workspace."""
    loaded = workspace.load_workspace(folder)
    asyncio.run(tool.pin_tools(loaded, tuple(loaded.tools), Sandbox(accept=("full",))))
    sys.modules.pop("ledger_host", None)  # a test may write another version of it


def effects(folder: Path) -> list[dict[str, Any]]:
    """The effects that really happened, from the external file."""
    path = folder / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def environment(folder: Path) -> dict[str, str]:
    """The environment with which a process finds the tool and its external file."""
    paths = [str(folder / "hosted"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "LEDGER": str(folder / "ledger.jsonl")}


def use(root: Path) -> None:
    """Make this process find the tool and the ledger of that workspace."""
    sys.path[:] = [str(root / "hosted"), *(path for path in sys.path if not path.endswith("/hosted"))]
    sys.modules.pop("ledger_host", None)
    os.environ["LEDGER"] = str(root / "ledger.jsonl")
