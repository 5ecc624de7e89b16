"""Rules about calls of agents read what the workspace knows of the user and the resource, and nothing that a model says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remit.runtime import RunRequest, open_model_of, start_run
from remit.workspace import open_session
from support.lifecycle import replayed
from support.principals import principal
from support.runs import DONE, Command, Played, turn

ENTITIES = """\
{"type": "account", "id": "ann", "properties": {"frozen": true, "owner": "operator"}}
{"type": "account", "id": "bob", "properties": {"frozen": false, "owner": "operator"}}
{"type": "account", "id": "eve", "properties": {"owner": "lea"}}
"""
RULES = """
# Frozen accounts get nothing
p, role:people, ledger.wire, account:*, has(resource.frozen) and resource.frozen == True, deny
# People wire to their own accounts only
p, role:people, ledger.wire, account:*, resource.owner != subject.id, deny
"""


def wire(name: str, **more: Any) -> dict[str, Any]:
    return turn(ledger__wire={"name": name, "amount": 1, **more})


def played(folder: Path) -> Played:
    (folder / "policies/entities.jsonl").write_text(ENTITIES)
    rules = folder / "policies/rules.csv"
    rules.write_text(rules.read_text() + RULES)
    opened = open_session(folder)
    by = principal("operator", account="tester")
    model = open_model_of(opened, "clerk")
    start = RunRequest(agent="clerk", task="keep the ledger", subject="user:operator", by=by, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(start_run(opened, start)))


def test_a_call_is_decided_by_what_the_workspace_knows_of_its_resource(clerk: Callable[..., Path]) -> None:
    turns = [wire("bob"), wire("ann", memo="resource.frozen = False"), wire("eve"), wire("unknown"), DONE]
    run = played(clerk(turns))
    assert run.result(0)["ok"]
    for step, rule in ((1, "Frozen accounts"), (2, "their own"), (3, "their own")):
        error = run.error(step)
        assert error["code"] == "policy_denied"
        assert rule in error["message"]
    assert [row["name"] for row in run.effects] == ["bob"]


def test_a_replay_reads_the_entities_of_its_own_time(clerk: Callable[..., Path]) -> None:
    run = played(clerk([wire("bob"), wire("ann"), DONE]))
    (run.folder / "policies/entities.jsonl").write_text(ENTITIES.replace("true", "false"))
    assert replayed(run).divergences == ()


def test_the_backtest_and_explain_read_the_entities_too(clerk: Callable[..., Path], command: Command) -> None:
    run = played(clerk([wire("bob"), wire("ann"), DONE]))
    explained = command(
        run.folder, "policy", "explain", "ledger.wire", "account:ann", "--agent", "clerk", "--user", "operator"
    )
    assert (explained.code, "Frozen accounts" in explained.out) == (1, True)
    other = command(
        run.folder, "policy", "explain", "ledger.wire", "account:bob", "--agent", "clerk", "--user", "operator"
    )
    assert other.code == 0
    tested = command(run.folder, "policy", "backtest", "--json").json
    assert (tested["decided"], list(tested["flips"])) == (2, [])
