"""The table of guardrails and entry points: whichever way a call comes in, its code, its record and its error are the same."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.events import Recorded
from remit.journal import CIRCUIT_STREAM, WORKSPACE_RUN, list_runs
from remit.workspace import open_session
from support.entry_points import ENTRY_POINTS, Arguments
from support.workspaces.ledger import HOST, TOOL, ledger_workspace, pin, use

REFERENCE: Final = "Python"
RATE: Final = """
[[limit]]
of = "calls"
action = "ledger.look"
most = 1
per = "1h"
note = "One look an hour"
"""
CONTENT: Final = """
[[phrase]]
note = "Project names stay inside"
text = ["Project Falcon"]
where = ["arguments", "result", "answer"]

[[personal]]
note = "Customers are not for agents"
kinds = ["email", "card"]
"""
# The functions as tools of LangChain, which every entry point can call.
HOSTED: Final = (
    HOST
    + """
from langchain_core.tools import StructuredTool
ACTIONS = [StructuredTool.from_function(look, name="look"), StructuredTool.from_function(pay, name="pay")]
"""
)
# A tool of Remit's own, whose result is not of the type that it declares.
ODD: Final = """
name = "odd"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts wrong"

[actions.count]
summary = "Count"
touches = ["use account:{name}"]
effect = "read"
"""
ODD_CODE: Final = '''
def count(name: str) -> int:
    """Count."""
    return "five"
'''
MANIFEST: Final = re.sub(r"\[actions\.(wire|wired|book)\]\n(?:.+\n)+\n", "", TOOL)
RULES: Final = """
# The clerk looks at every account
p, agent:clerk, ledger.look, account:*, True, allow
# The clerk pays small amounts
p, agent:clerk, ledger.pay, account:*, args.amount <= 100, allow
# A lead must agree to a large amount
p, agent:clerk, ledger.pay, account:*, approved('role:lead'), allow
# Nobody touches the vault
p, role:people, *, account:vault, True, deny
p, role:people, ledger.*, account:*, True, allow
# The clerk counts
p, agent:clerk, odd.count, account:*, True, allow
p, role:people, odd.count, account:*, True, allow
g, user:operator, role:people
g, user:lea, role:lead
"""
FILES: Final = {
    "hosted/ledger_host.py": HOSTED,
    "tools/ledger/tool.toml": MANIFEST,
    "tools/odd/tool.toml": ODD,
    "tools/odd/main.py": ODD_CODE,
    "policies/rules.csv": RULES,
}


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """One guardrail: the calls after which it holds, and the code of the last one ("ok" for a success).

    `alone` is False if it needs the calls of one run. `workspace` are options of the ledger workspace.
    """

    calls: Sequence[tuple[str, Arguments]]
    code: str
    alone: bool = True
    workspace: dict[str, Any] = field(default_factory=dict[str, Any])


def look(name: str = "ann", text: str = "") -> tuple[str, Arguments]:
    return ("ledger.look", {"name": name, "text": text})


def pay(name: str = "ann", amount: int = 5) -> tuple[str, Arguments]:
    return ("ledger.pay", {"name": name, "amount": amount})


GUARDRAILS: Final = {
    "blocked phrase": Guardrail(
        calls=[look(text="about project  FALCON")], code="content_blocked", workspace={"content": CONTENT}
    ),
    "rate limit": Guardrail(calls=[look(), look("ben")], code="rate_limited", workspace={"limits": RATE}),
    "retry cap": Guardrail(calls=[look("stuck")], code="tool_failed"),
    "tries of a run": Guardrail(
        calls=[look("stuck"), look("stuck")], code="budget_exhausted", alone=False, workspace={"budget": "tries = 3"}
    ),
    "denial loop": Guardrail(
        calls=[pay("vault", amount) for amount in range(1, 5)],
        code="denial_loop",
        alone=False,
        workspace={"budget": "tries = 3"},
    ),
    "budget": Guardrail(calls=[look()], code="budget_exhausted", workspace={"calls": 0}),
    "output schema": Guardrail(calls=[("odd.count", {"name": "ann"})], code="invalid_output"),
    "circuit": Guardrail(calls=[*[look("crash", str(n)) for n in range(5)], look()], code="circuit_open"),
    "escalation": Guardrail(calls=[pay("ben", 500)], code="approval_required"),
    "redaction": Guardrail(
        calls=[look(text="ann@shop.test 4111 1111 1111 1111")], code="ok", workspace={"content": CONTENT}
    ),
}


def written(folder: Path, guardrail: Guardrail) -> Path:
    """The workspace of the guardrail, whose script makes its calls."""
    turns = [
        {"say": "next", "calls": [{action.replace(".", "__"): arguments}]} for action, arguments in guardrail.calls
    ]
    use(folder)
    ledger_workspace(folder, [*turns, {"say": "done"}], **guardrail.workspace)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    agent = folder / "agent/clerk/agent.toml"
    text = agent.read_text().replace('tools = ["ledger"]', 'tools = ["ledger", "odd"]')
    # A chat model of LangChain gives the arguments of its calls parsed.
    agent.write_text(text.replace("\n[budget]", "\naccept_parsed_arguments = true\n\n[budget]", 1))
    if not _pins:
        sys.modules.pop("ledger_host", None)
        pin(folder)
        _pins.append((folder / "policies" / "tools.lock").read_text())
    (folder / "policies" / "tools.lock").write_text(_pins[0])
    sys.modules.pop("ledger_host", None)
    return folder


_pins: list[str] = []  # the tool is the same in every workspace, so its pin is computed once


@pytest.fixture(autouse=True)
def own_process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use` changes where this process finds the tool."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LEDGER", "")


OF_THE_RUN: Final = ("run.started", "run.resumed", "run.finished", "model.", "answer.", "context.")


def record(folder: Path) -> list[dict[str, Any]]:
    """What was recorded of the calls, in all runs and streams, without ids, times and what a driver of the run adds."""
    with open_session(folder).journal as journal:
        runs = sorted(list_runs(journal), key=lambda row: row.started_at)
        streams = [*(row.run for row in runs), f"{CIRCUIT_STREAM}ledger", WORKSPACE_RUN]
        events = [item for stream in streams for item in journal.events(stream)]
        names = {row.run: f"run {number}" for number, row in enumerate(runs)}
        return [plain(item, names) for item in events if not item.type.startswith((*OF_THE_RUN, "policy.adopted"))]


# Digests that a run's id is part of, times, and the jitter of pauses.
_SECONDS: Final = re.compile(r"[0-9.]+ s\b")
OWN: Final = (
    "id",
    "by",
    "at",
    "spent",
    "expires_at",
    "retry_in_s",
    "retry_after_s",
    "decision_digest",
    "request_digest",
    "idempotency_key",
    "effect_digest",
    "profile_digest",
    "opened_at",
    "duration_s",
)


def plain(item: Recorded, names: dict[str, str]) -> dict[str, Any]:
    assert item.event is not None
    text = json.dumps(item.event.model_dump(mode="json"))
    for run, name in names.items():
        text = text.replace(run, name)
    return {"stream": names.get(item.run, item.run), **without(json.loads(text))}


def without(value: Any) -> Any:
    """The value without the members of `OWN`; the text of a model's arguments as the JSON that it is."""
    if isinstance(value, list):
        return [without(item) for item in value]
    if isinstance(value, str):
        return _SECONDS.sub("… s", value)
    if not isinstance(value, dict):
        return value
    kept = {name: without(item) for name, item in value.items() if name not in OWN}
    if "parsed" in kept:  # a proposed call: a graph calls its tools by their own names, and gives arguments parsed
        parsed = kept["parsed"] if kept["arguments"] is None else json.loads(kept["arguments"])
        return {"name": kept["name"].removeprefix("ledger__"), "arguments": parsed}
    if kept.get("code") == "approval_required":
        kept.pop("next_step")  # each entry point names its own way to approve
    return kept


_references: dict[tuple[str, str], Any] = {}


def reference(tmp_path: Path, name: str, kind: str) -> Any:
    """What the client for Python does, computed once for each guardrail."""
    if (name, kind) not in _references:
        guardrail, folder = GUARDRAILS[name], written(tmp_path / "reference", GUARDRAILS[name])
        entry = ENTRY_POINTS[REFERENCE]
        if kind == "run":
            entry.run(folder, guardrail.calls)
            _references[name, kind] = record(folder)
        else:
            made = [entry.call(folder, *call) for call in guardrail.calls]
            _references[name, kind] = (without(made[-1]), record(folder))
    return _references[name, kind]


def code_of(result: dict[str, Any]) -> str:
    return "ok" if result["ok"] else result["error"]["code"]


@pytest.mark.parametrize("name", GUARDRAILS)
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_a_run_leaves_the_same_record_at_every_entry_point(tmp_path: Path, entry: str, name: str) -> None:
    guardrail, expected = GUARDRAILS[name], reference(tmp_path, name, "run")
    answered = [event["result"] for event in expected if event["type"] == "call.answered"]
    if guardrail.code != "approval_required":
        assert code_of(answered[-1]) == guardrail.code
    if entry == REFERENCE:
        return
    folder = written(tmp_path / "own", guardrail)
    ENTRY_POINTS[entry].run(folder, guardrail.calls)
    assert record(folder) == expected


@pytest.mark.parametrize("name", [name for name, guardrail in GUARDRAILS.items() if guardrail.alone])
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_a_call_has_the_same_error_and_the_same_record_at_every_entry_point(
    tmp_path: Path, entry: str, name: str
) -> None:
    guardrail, (result, recorded) = GUARDRAILS[name], reference(tmp_path, name, "call")
    assert code_of(result) == guardrail.code
    if entry == REFERENCE:
        return
    folder = written(tmp_path / "own", guardrail)
    made = [ENTRY_POINTS[entry].call(folder, *call) for call in guardrail.calls]
    if made[-1] is None:  # a graph is interrupted where a person must answer
        assert guardrail.code == "approval_required"
    else:
        assert without(made[-1]) == result
    assert record(folder) == recorded
