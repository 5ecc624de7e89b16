"""The audit export: every decision once, with user, call, rules and approvals; safe to open in a spreadsheet."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time

from remit.broker.approvals import requests as approval
from remit.journal import StoredRecord, erase
from remit.runtime import runner as run
from remit.tracing.reports import audit
from support.principals import OPERATOR, principal
from support.runs import DONE, Play, Remit, turn

TURNS = [
    turn(ledger__look={"name": "a"}),
    turn(ledger__pay={"name": "ann", "amount": 5000}),
    turn(ledger__pay={"name": "vault", "amount": 1}),
    turn(ledger__look={"nome": "a"}),
    DONE,
]


def test_every_decision_is_exported_with_its_rules_approvals_and_outcome(play: Play, remit: Remit) -> None:
    """As JSON Lines and as CSV, and both say the same."""
    played = play(TURNS)
    (requested,) = played.ended.waiting
    approval.grant_approval(StoredRecord(played.opened.journal, played.ended.run), requested, approval.Approval(by=principal("lea"), role="role:lead"), roles_of=played.opened.policy.roles_of, now=time.time_ns())  # fmt: skip
    asyncio.run(run.resume_run(played.opened, played.ended.run, by=OPERATOR))
    done = remit("trace", "list", "--decisions", "--format", "jsonl", cwd=played.folder)
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["step"], one["round"], one["verdict"], one["outcome"]) for one in found] == [
        (0, 0, "allow", "ok"),
        (1, 0, "ask", ""),
        (1, 1, "allow", "ok"),
        (2, 0, "deny", "policy_denied"),
        (3, 0, "refused", "invalid_arguments"),
    ]
    assert found[2]["approvals"] == ["approved by user:lea as role:lead"]
    assert "Nobody touches the vault" in found[3]["rules"][0]
    assert (found[0]["agent"], found[0]["user"], found[0]["account"]) == ("agent:clerk", "user:operator", "tester")
    assert {one["hash"] for one in found} <= {one.hash for one in played.records}
    table = list(
        csv.DictReader(io.StringIO(remit("trace", "list", "--decisions", "--format", "csv", cwd=played.folder).out))
    )
    assert list(table[0]) == list(audit.COLUMNS)
    assert [(row["run"], row["verdict"], row["message"]) for row in table] == [
        (one["run"], one["verdict"], one["message"]) for one in found
    ]
    assert json.loads(table[1]["arguments"])["amount"] == 5000


def test_an_erased_decision_is_still_a_row(play: Play) -> None:
    """The content of the decision is gone; the row shows that there was one."""
    played = play([turn(ledger__look={"name": "a"}), DONE])
    seq = next(one.seq for one in played.records if one.type == "call.decided")
    erase(played.opened.journal, played.ended.run, seq)
    (row,) = audit.decision_rows(played.records)
    assert (row.verdict, row.step, row.action, row.agent) == ("erased", 0, "", "agent:clerk")


def test_no_cell_is_a_formula_and_none_breaks_its_row(play: Play) -> None:
    """Names come from a model."""
    played = play([turn(ledger__look={"nome": "a"}), DONE])
    (row,) = audit.decision_rows(played.records)
    evil = audit.AuditRow(**{**vars(row), "action": "=HYPERLINK(1)", "message": '@a,"b"\nc', "resources": ("+1",)})
    (read,) = csv.DictReader(io.StringIO(f"{audit.decision_csv_header()}\n{audit.decision_as_csv(evil)}\n"))
    assert (read["action"], read["message"]) == ("'=HYPERLINK(1)", '\'@a,"b"\nc')
    assert json.loads(audit.decision_as_json(evil))["message"] == '@a,"b"\nc'


def test_a_format_without_decisions_is_a_usage_error(remit: Remit) -> None:
    assert remit("trace", "list", "--format", "csv").code == 2
