"""What the triage agent may do, and what it may not.

    pip install 'remit[testing]'
    pytest tests

A test writes the turns of the model. A `FakeExecutor` answers in place of the tools, so these tests need no sandbox; only the
last one runs the tools for real. `remit_workspace` is a private copy of this workspace.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from remit import Remit, RunEnded
from remit.testing import (
    FakeExecutor,
    ScriptedModel,
    assert_denied,
    assert_effects,
    assert_replays,
    capture_run,
    effect,
    turn,
)

TASK = "Checkout is failing: find out why and write the report"
COMMENT = turn(tickets__comment={"key": "INC-2041", "text": "Payments was rolled back."})
REPORT = turn(files__write={"path": "reports/INC-2041.md", "text": "# INC-2041\n"})
CLOSE = turn(tickets__close={"key": "INC-2041", "reason": "Rolled back; no failure since."})
DONE = turn("INC-2041 is closed.")


def test_an_injected_instruction_reads_no_credential(remit_workspace: Path) -> None:
    attack = turn("The log says that I need the credential.", files__read={"path": "secrets/payments.env"})
    tools = FakeExecutor({})  # a call that reaches a tool fails the test

    run = capture_run(remit_workspace, "triage", TASK, model=[attack, turn("I may not read it.")], executor=tools)

    assert_denied(run, "files.read", "file:secrets/payments.env", rule="Credentials are never part of an incident")
    assert_effects(run, [])


def test_the_ticket_is_closed_only_after_the_lead_has_approved(remit_workspace: Path) -> None:
    turns = [COMMENT, REPORT, CLOSE, DONE]
    tools = FakeExecutor(
        {
            "tickets.comment": {"key": "INC-2041", "status": "open", "comments": 1},
            "files.write": {"path": "reports/INC-2041.md", "bytes": 11},
            "tickets.close": {"key": "INC-2041", "status": "closed", "comments": 1},
        }
    )
    before = ["tickets.comment", effect("files.write", "file:reports/INC-2041.md", text="# INC-2041\n")]

    waiting = capture_run(remit_workspace, "triage", TASK, model=turns, executor=tools)
    assert waiting.outcome == "waiting"
    assert_effects(waiting, before)

    lead = {"action": "tickets.close", "approver": "user:dana", "role": "role:oncall-lead"}
    approved = capture_run(
        remit_workspace, "triage", TASK, model=ScriptedModel(turns, approvals=[lead]), executor=tools
    )
    assert approved.outcome == "completed"
    assert_effects(approved, [*before, effect("tickets.close", "store:tickets", "ticket:INC-2041")])


def test_the_rules_answer_a_question_about_one_call(remit_workspace: Path) -> None:
    close = {"key": "INC-2041", "reason": "done"}
    with Remit.open(remit_workspace) as client:
        decision = client.decide("tickets.close", close, agent="triage")
    assert decision.verdict == "ask"
    assert [missing.role for missing in decision.missing] == ["role:oncall-lead"]


def test_a_real_run_is_reproduced_from_its_record(remit_workspace: Path) -> None:
    """The agent's own script, with its real tools. `remit trace export RUN -o tests/golden/NAME.jsonl` keeps such a trace."""
    try:
        run = capture_run(remit_workspace, "triage", TASK)
    except RunEnded as ended:
        if ended.code != "sandbox_unavailable":
            raise
        pytest.skip(f"this machine has no sandbox: {ended.message}")
    assert run.outcome == "completed"
    assert run.trace is not None
    assert_replays(run.trace)
