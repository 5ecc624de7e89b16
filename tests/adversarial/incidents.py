"""Five incidents to practise on-call work, each in a new workspace: `python tests/adversarial/incidents.py NAME FOLDER`.

The models are scripts; decisions, confinement, tools and records are real. `docs/how-to/five-incidents.md` says what
on-call does then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.workspace.template import write_starter
from support.cli_server import command
from support.postgres import journal_setting
from support.runs import DONE, turn

TASK: Final = "Checkout is slow: find out why"
RUNBOOK: Final = turn("I read the runbook.", files__read={"path": "runbooks/payments-pool.md"})
LOG: Final = turn(
    "I read what checkout saw.", files__read={"path": "logs/checkout.log", "start_line": 105, "lines": 20}
)
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


def run_command(folder: Path, *args: str) -> str:
    """The output of a command, which must succeed."""
    done = command(folder, *args)
    if done.code:
        raise RuntimeError(f"remit {' '.join(args)}: {done.out}{done.err}")
    return done.out


def play(folder: Path, *turns: dict[str, Any], code: int = 0) -> None:
    """Run the triage agent with a model that makes these turns."""
    (folder / "agent" / "triage" / "script.yaml").write_text(json.dumps({"turns": [*turns]}))
    done = command(folder, "run", "triage", TASK)
    if done.code != code:
        raise RuntimeError(f"the run ended with {done.code}: {done.out}{done.err}")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise RuntimeError(f"{path} does not hold {old!r}")
    path.write_text(text.replace(old, new, 1))


def rule_change(folder: Path) -> None:
    """A reviewer denies access to the runbooks while they are rewritten, and the agent needs them."""
    play(folder, RUNBOOK, DONE)
    rules = folder / "policies" / "rules.csv"
    note = "# Runbooks are being rewritten: nobody acts on the old ones"
    rules.write_text(f"{rules.read_text()}\n{note}\np, agent:triage, files.read, file:runbooks/**, True, deny\n")
    play(folder, RUNBOOK, {"say": "I cannot read the runbook, and stop here."})


def tool_update(folder: Path) -> None:
    """The pinned tool files 1.1.0 rejects a log with long lines as not being text."""
    play(folder, LOG, DONE)
    tool = folder / "tools" / "files"
    edit(tool / "tool.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    strict = "    if any(len(line) > 100 for line in every):\n        raise NotText(f'{path!r} has lines of over 100 characters')\n"
    edit(tool / "main.py", "    page = every[", f"{strict}    page = every[")
    run_command(folder, "tool", "pin", "files")
    play(folder, LOG, {"say": "The log cannot be read, and I stop here."})


def slow_upstream(folder: Path) -> None:
    """The warehouse answers later than the time limit of a call."""
    tool = folder / "tools" / "stock"
    tool.mkdir()
    (tool / "tool.toml").write_text(STOCK_TOML)
    (tool / "main.py").write_text(STOCK.format(seconds=0))
    edit(folder / "agent" / "triage" / "agent.toml", 'tools = ["files"', 'tools = ["stock", "files"')
    rules = folder / "policies" / "rules.csv"
    allowed = "".join(
        f"p, {who}, stock.level, file:data/**, True, allow\n" for who in ("agent:triage", "role:operator")
    )
    rules.write_text(f"{rules.read_text()}\n# Stock levels are no secret\n{allowed}")
    run_command(folder, "tool", "pin", "stock")
    ask = turn("I ask the warehouse.", stock__level={"article": "lamp"})
    play(folder, ask, DONE)
    (tool / "main.py").write_text(STOCK.format(seconds=5))
    run_command(folder, "tool", "pin", "stock")
    play(folder, ask, {"say": "The warehouse does not answer."})


def injected_document(folder: Path) -> None:
    """A note of a customer in a log asks for a credential, and the model follows it."""
    request = turn("Pool checks need the live credential.", files__read={"path": "secrets/payments.env"})
    play(folder, LOG, DONE)
    play(folder, LOG, request, DONE)


def looping_model(folder: Path) -> None:
    """The model reads the same lines repeatedly, until its budget is used up."""
    play(folder, LOG, DONE)
    edit(folder / "agent" / "triage" / "agent.toml", "steps = 30", "steps = 8")
    play(folder, *[LOG] * 9, code=1)


INCIDENTS: Final[dict[str, Callable[[Path], None]]] = {
    "rule-change": rule_change,
    "tool-update": tool_update,
    "slow-upstream": slow_upstream,
    "injected-document": injected_document,
    "looping-model": looping_model,
}


def seed(name: str, folder: Path) -> None:
    """Create a workspace in `folder` and produce the incident there."""
    write_starter(folder)
    settings = folder / "remit.toml"
    settings.write_text(journal_setting() + settings.read_text())
    INCIDENTS[name](folder)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in INCIDENTS:
        sys.exit(f"usage: python tests/adversarial/incidents.py {'|'.join(INCIDENTS)} FOLDER")
    seed(sys.argv[1], Path(sys.argv[2]))
    print(f"cd {sys.argv[2]}, and look into docs/how-to/five-incidents.md")
