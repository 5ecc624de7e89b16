"""Shrink: the smallest run that still fails in the same way, and the test that is written for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.events import AttemptBegun, AttemptEnded, ModelResponded, Recorded, RunStarted
from remit.journal import list_runs
from remit.replay.minimize import shrink
from remit.runtime import runner as run
from remit.tracing import open_trace, read_trace
from remit.tracing.reports.failures import parse_failure_selector
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support.principals import OPERATOR
from support.runs import DONE, Command, turn

RULE = """
# After a look and a booking, late is not paid
p, agent:clerk, ledger.pay, account:late, 'seen' in labels and calls('ledger.book') >= 1, deny
"""
FIXED_RULE = RULE.replace("account:late, 'seen' in labels and", "account:late, 'secret' in labels and")
LATE = {"ledger__pay": {"name": "late", "amount": 1}}
KEEP = "code=policy_denied:ledger.pay:account:late"


def sixty_steps() -> list[dict[str, Any]]:
    """A long run that is refused at its end, for what was read at step 20 and booked at step 41."""
    turns = [turn(ledger__pay={"name": "dora", "amount": 1})] * 60
    turns[20] = turn(ledger__pay={"name": "cid", "amount": 2}, ledger__look={"name": "busy1", "text": "x" * 500})
    turns[41] = turn(ledger__book={"name": "ben", "amount": 2})
    turns[59] = {"say": "x", "calls": [{"ledger__pay": {"name": "vault", "amount": 1}}, LATE]}
    return [*turns, DONE]


def played(folder: Path, rule: str = RULE) -> tuple[session.WorkspaceSession, str]:
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + rule)
    opened = session.open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
    return opened, asyncio.run(run.start_run(opened, start)).run


def smallest(folder: Path, keep: str, rule: str = RULE) -> tuple[Recorded, ...]:
    opened, name = played(folder, rule)
    trace = open_trace(opened.traces, opened.journal, name)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    return asyncio.run(shrink(trace.records, books, parse_failure_selector(keep), run="f" * 32)).records


def test_a_failing_run_of_sixty_steps_is_reduced_to_its_three_causes_and_a_test(
    clerk: Callable[..., Path], command: Command
) -> None:
    """The written test fails under the rules that caused the failure, and passes after they are fixed."""
    patient = "tries = 100\nretries = 100\ndenials = 100"
    folder = clerk(sixty_steps(), steps=70, calls=200, budget=patient)
    opened, name = played(folder)
    done = command(folder, "trace", "shrink", name, "--keep", KEEP, "--to-test", "tests/test_late.py", "--json")
    assert done.code == 0, done.out + done.err
    assert [part["was"] for part in done.json["parts"]] == ["20.1", "41.0", "59.1"]
    assert done.json["before"] == [61, 63]
    assert done.json["written"] == ["traces/golden/late.jsonl", "tests/test_late.py"]

    golden = read_trace(folder / "traces" / "golden" / "late.jsonl")
    assert golden.faults() == ()
    assert isinstance(golden.records[0].event, RunStarted)
    assert golden.records[0].event.shrunk_from == name
    assert next(item.event.value for item in golden.records if isinstance(item.event, AttemptEnded)) == {
        "name": "",
        "text": "",
    }
    assert sum(isinstance(item.event, AttemptBegun) for item in golden.records) == 2  # the busy one is tried once now
    assert command(folder, "replay", "traces/golden/late.jsonl").code == 0
    assert {row.run for row in list_runs(opened.journal)} == {name}

    code = "import runpy, sys; runpy.run_path(sys.argv[1])['test_late_does_not_come_back']()"
    test = [sys.executable, "-c", code, str(folder / "tests" / "test_late.py")]
    before = subprocess.run(test, capture_output=True, text=True, timeout=120, check=False)
    assert before.returncode == 1
    assert f"not fixed: the failure {KEEP} still occurs at step 2.0" in before.stderr
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text().replace(RULE, FIXED_RULE))
    after = subprocess.run(test, capture_output=True, text=True, timeout=120, check=False)
    assert after.returncode == 0, after.stderr


def test_only_the_parts_that_the_failure_needs_are_kept(clerk: Callable[..., Path]) -> None:
    """The failure needs an approval, so the approval is kept; the call beside it is not."""
    turns = [
        turn(ledger__look={"name": "ann"}, ledger__pay={"name": "ann", "amount": 500}),
        turn(ledger__pay={"name": "ben", "amount": 500}),
        DONE,
    ]
    rule = "\n# Two large ones are too many\np, agent:clerk, ledger.pay, account:*, calls('ledger.pay') >= 1, deny\n"
    approvals = [{"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}]
    records = smallest(clerk(turns, approvals=approvals), "code=policy_denied:ledger.pay", rule)
    kinds = [item.type for item in records if item.type.startswith(("approval.", "attempt.begun"))]
    assert kinds == ["approval.requested", "approval.granted", "attempt.begun"]
    assert [len(item.event.proposed_calls) for item in records if isinstance(item.event, ModelResponded)] == [1, 1]


def test_a_final_answer_can_be_the_failure_to_keep(clerk: Callable[..., Path]) -> None:
    records = smallest(clerk([turn(ledger__look={"name": "ann"})] * 5 + [DONE]), "final~^do.e$")
    assert [item.type for item in records] == ["run.started", "model.requested", "model.responded", "run.finished"]


def test_a_decision_can_be_the_failure_to_keep(clerk: Callable[..., Path]) -> None:
    turns = [turn(ledger__look={"name": "ann"}, ledger__pay={"name": "ann", "amount": 500})] * 3
    records = smallest(clerk(turns), "decision=ask:ledger.pay")
    assert [item.type for item in records if item.type.startswith("call.")] == ["call.decided"]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (None, "failures of the run: code=tool_failed:ledger.look:account:gone"),
        ("code=polite", "'polite' is not a code"),
        ("decision=maybe", "'maybe' is not a verdict: write one of allow, ask, deny"),
        ("final~(", "is not a valid regular expression"),
        ("because", "is not a failure selector"),
        (
            "code=policy_denied",
            "the run does not have the failure code=policy_denied; its failures: code=tool_failed:ledger.look",
        ),
    ],
)
def test_an_invalid_selector_is_refused_with_the_valid_ones(
    clerk: Callable[..., Path], command: Command, keep: str | None, message: str
) -> None:
    folder = clerk([turn(ledger__look={"name": "gone"}), DONE])
    _, name = played(folder)
    done = command(folder, "trace", "shrink", name, *(["--keep", keep] if keep else []))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_nothing_is_overwritten_or_written_outside(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([turn(ledger__look={"name": "gone"}), DONE])
    _, name = played(folder)
    (folder / "kept.jsonl").write_text("precious")
    for args in (["-o", "kept.jsonl"], ["--to-test", "../test_x.py"]):
        assert command(folder, "trace", "shrink", name, "--keep", "code=tool_failed", *args).code == 2
    assert (folder / "kept.jsonl").read_text() == "precious"
    assert not (folder / "traces" / "golden").exists()


def test_a_forged_record_is_not_shrunk(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([turn(ledger__look={"name": "gone"}), DONE])
    _, name = played(folder)
    file = folder / "traces" / f"{name}.jsonl"
    file.write_text(file.read_text().replace("there is no such account", "there is a such account"))
    done = command(folder, "trace", "shrink", str(file), "--keep", "code=tool_failed")
    assert done.code == 2
    assert "fails its integrity check" in done.err


def test_a_failure_that_cannot_be_determined_is_not_called_fixed(clerk: Callable[..., Path], command: Command) -> None:
    """Other rules allow an earlier call that was refused, so later events are not recorded."""
    turns = [turn(ledger__pay={"name": "vault", "amount": 1}), turn(ledger__look={"name": "gone"})]
    folder = clerk(turns)
    _, name = played(folder)
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text().replace("p, role:people, *, account:vault, True, deny", ""))
    done = command(folder, "replay", name, "--policy", ".", "--fixed", "code=tool_failed", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert "cannot be determined" in done.json["what"]
    assert command(folder, "replay", name, "--policy", ".", "--fixed", "code=policy_denied", "--json").json["ok"]
    assert json.loads(command(folder, "replay", name, "--fixed", "code=policy_denied", "--json").out)["ok"] is False
