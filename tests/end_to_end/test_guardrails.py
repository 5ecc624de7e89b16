"""The table of guardrails and entry points: whichever way a call comes in, its code, its record and its error are the same."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.events import Recorded
from remit.journal import CIRCUIT_STREAM, WORKSPACE_RUN, list_runs
from remit.workspace import open_session
from support.entry_points import ENTRY_POINTS, Arguments, CodingAgent, Python, native_call
from support.workspaces.ledger import HOST, TOOL, ledger_workspace, pin, use
from support.workspaces.native import native_workspace

REFERENCE: Final = "Python"
CODING_AGENTS: Final = (
    "claude-code",
    "codex",
)  # their column has a workspace of its own: their calls are those of their own tools
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

    `alone` is False if it needs the calls of one run. `workspace` are options of the ledger workspace. `not_of_hooks` says why hooks have
    none of it.
    """

    calls: Sequence[tuple[str, Arguments]]
    code: str
    alone: bool = True
    workspace: dict[str, Any] = field(default_factory=dict[str, Any])
    not_of_hooks: str = ""


def look(name: str = "ann", text: str = "") -> tuple[str, Arguments]:
    return ("ledger.look", {"name": name, "text": text})


def pay(name: str = "ann", amount: int = 5) -> tuple[str, Arguments]:
    return ("ledger.pay", {"name": name, "amount": amount})


BY_CLIENT: Final = "the coding agent carries the call out: Remit"
GUARDRAILS: Final = {
    "blocked phrase": Guardrail(
        calls=[look(text="about project  FALCON")], code="content_blocked", workspace={"content": CONTENT}
    ),
    "rate limit": Guardrail(calls=[look(), look("ben")], code="rate_limited", workspace={"limits": RATE}),
    "retry cap": Guardrail(
        calls=[look("stuck")], code="tool_failed", not_of_hooks=f"{BY_CLIENT} makes no second attempt"
    ),
    "tries of a run": Guardrail(
        calls=[look("stuck"), look("stuck")],
        code="budget_exhausted",
        alone=False,
        workspace={"budget": "tries = 3"},
        not_of_hooks=f"{BY_CLIENT} counts its refusals (denial loop), and no failures",
    ),
    "denial loop": Guardrail(
        calls=[pay("vault", amount) for amount in range(1, 5)],
        code="denial_loop",
        alone=False,
        workspace={"budget": "tries = 3"},
    ),
    "budget": Guardrail(calls=[look()], code="budget_exhausted", workspace={"calls": 0}),
    "output schema": Guardrail(
        calls=[("odd.count", {"name": "ann"})],
        code="invalid_output",
        not_of_hooks=f"{BY_CLIENT} knows no type of its result",
    ),
    "circuit": Guardrail(
        calls=[*[look("crash", str(n)) for n in range(5)], look()],
        code="circuit_open",
        not_of_hooks=f"{BY_CLIENT} does not ask a service that may be down",
    ),
    "escalation": Guardrail(calls=[pay("ben", 500)], code="approval_required"),
    "redaction": Guardrail(
        calls=[look(text="ann@shop.test 4111 1111 1111 1111")], code="ok", workspace={"content": CONTENT}
    ),
}


def written(folder: Path, guardrail: Guardrail) -> Path:
    """The workspace of the guardrail, whose script makes its calls."""
    use(folder)
    ledger_workspace(folder, script(guardrail.calls), **guardrail.workspace)
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


def script(calls: Sequence[tuple[str, Arguments]]) -> list[dict[str, Any]]:
    """The turns of a model that makes the calls, one in a turn."""
    turns = [{"say": "next", "calls": [{action.replace(".", "__"): arguments}]} for action, arguments in calls]
    return [*turns, {"say": "done"}]


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


OF_HOOKS: Final = [name for name, guardrail in GUARDRAILS.items() if not guardrail.not_of_hooks]


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


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A workspace of that coding agent, and its twin that `REFERENCE` drives; `calls` of the guardrail are the same in both."""

    client: str
    guardrail: Guardrail
    hooked: Path
    twin: Path

    @property
    def reference(self) -> Python:
        return Python(agent=self.client)

    def records(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What was recorded of the calls in both, without the digests of manifests, which say who carries the calls out."""
        found = record(self.hooked), record(self.twin)
        for event in (*found[0], *found[1]):
            if event.get("call"):
                del event["call"]["manifest"]
        return found


def compared(tmp_path: Path, client: str, name: str) -> Compared:
    guardrail = GUARDRAILS[name]
    guardrail = replace(guardrail, calls=[native_call(client, *call) for call in guardrail.calls])
    hooked, twin = (
        native_workspace(
            tmp_path / name, script(guardrail.calls), client, hooked=name == "hooked", **guardrail.workspace
        )
        for name in ("hooked", "twin")
    )
    return Compared(client=client, guardrail=guardrail, hooked=hooked, twin=twin)


@pytest.mark.parametrize("name", OF_HOOKS)
@pytest.mark.parametrize("client", CODING_AGENTS)
def test_a_session_of_a_coding_agent_leaves_the_same_record_as_a_run(tmp_path: Path, client: str, name: str) -> None:
    both = compared(tmp_path, client, name)
    both.reference.run(both.twin, both.guardrail.calls)
    CodingAgent(client=client).run(both.hooked, GUARDRAILS[name].calls)
    by_hooks, by_twin = both.records()
    assert by_hooks == by_twin


@pytest.mark.parametrize("name", [name for name in OF_HOOKS if GUARDRAILS[name].alone])
@pytest.mark.parametrize("client", CODING_AGENTS)
def test_a_call_of_a_coding_agent_has_the_same_error_and_the_same_record(
    tmp_path: Path, client: str, name: str
) -> None:
    both = compared(tmp_path, client, name)
    expected = [both.reference.call(both.twin, *call) for call in both.guardrail.calls][-1]
    read = [CodingAgent(client=client).call(both.hooked, *call) for call in GUARDRAILS[name].calls][-1]
    assert code_of(expected) == both.guardrail.code
    if expected["ok"]:
        assert read is None, "the call runs, and its result is that of the coding agent"
    else:
        assert read is not None
        assert without(read) == without(expected)
    by_hooks, by_twin = both.records()
    assert by_hooks == by_twin


def test_each_guardrail_without_a_cell_for_hooks_belongs_to_the_execution_of_a_call() -> None:
    missing = {name: guardrail.not_of_hooks for name, guardrail in GUARDRAILS.items() if guardrail.not_of_hooks}
    assert set(missing) == {"retry cap", "tries of a run", "output schema", "circuit"}
    assert all(reason.startswith(BY_CLIENT) for reason in missing.values())


def test_a_native_tool_that_fails_is_recorded_once_and_its_next_call_is_decided(tmp_path: Path) -> None:
    """What hooks have in place of the cells that are missing: no second attempt, no check of the result, no open circuit."""
    hooked = native_workspace(tmp_path, [], "claude-code", hooked=True)
    CodingAgent(fails=True).run(hooked, [look(str(number)) for number in range(6)])
    types = [event["type"] for event in record(hooked)]
    assert types == ["call.decided", "attempt.begun", "attempt.ended", "call.answered"] * 6
