"""A deploy while runs wait: each goes on with the agent and the tools that it had, under the rules that are in force."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from remit.broker import lift_hold, set_hold
from remit.broker.approvals import requests as approval
from remit.client import replay_trace, who_continues
from remit.core import Refusal, UsageError
from remit.core.events import CODE, CallAnswered, RunResumed, RunStarted
from remit.journal import StoredRecord, check_projections, find_run
from remit.runtime import Continuation, prunable, prune, resume_obstacle
from remit.runtime import runner as run
from remit.tracing import open_trace
from remit.workspace.session import open_session
from support.principals import OPERATOR, principal
from support.runs import Command
from support.workspaces.ledger import pin
from support.workspaces.typed import Bank, bank

RUNS: Final = int(os.environ.get("REMIT_DEPLOYED_RUNS", "2"))
SOURCE: Final = '''
def pay(to: str, amount: int) -> str:
    """Pay."""
    return entered(f"v1 {to} {amount}")
'''
MANAGED: Final = 'users = ["user:lea"]\n'


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A workspace with runs that wait for an approval of one payment each."""

    shop: Bank
    runs: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.shop.folder

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def grant(self) -> None:
        opened = open_session(self.folder)
        for name in self.runs:
            record = StoredRecord(opened.journal, name)
            (requested,) = approval.waiting_approvals(record)
            lea = approval.Approval(by=principal("lea"), role="role:lead")
            approval.grant_approval(record, requested, lea, roles_of=opened.policy.roles_of, now=time.time_ns())

    def begun(self) -> run.RunResult:
        """Another run of the agent."""
        opened = open_session(self.folder)
        model = run.open_model_of(opened, "clerk")
        start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
        return asyncio.run(run.start_run(opened, start))

    def resumed(self, **goes_on: Any) -> list[run.RunResult]:
        """Every run, resumed by another process."""
        opened = open_session(self.folder)
        return [
            asyncio.run(run.resume_run(opened, name, by=OPERATOR, goes_on=Continuation(**goes_on)))
            for name in self.runs
        ]

    def events(self, kind: type[Any], name: str = "") -> list[Any]:
        opened = open_session(self.folder)
        return [item.event for item in opened.journal.events(name or self.runs[0]) if isinstance(item.event, kind)]

    def replayed(self, name: str = "") -> Any:
        opened = open_session(self.folder)
        return asyncio.run(replay_trace(open_trace(opened.traces, opened.journal, name or self.runs[0])))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Waiting:
    """The runs, before anything is deployed; each test has a copy."""
    shop = bank(tmp_path_factory.mktemp("deploy") / "shop", SOURCE, rules="approved('role:lead')")
    folder = shop.folder
    settings = folder / "remit.toml"
    settings.write_text(MANAGED + settings.read_text())
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "g, user:lea, role:lead\n")
    more = folder / "policies" / "more.csv"
    more.write_text("# Nobody pays the bank\np, agent:clerk, bank.pay, account:bank, True, deny\n")
    started = []
    for number in range(RUNS):
        shop.script({"pay": {"to": f"ann{number}", "amount": 5}})
        started.append(Waiting(shop=shop, runs=()).begun().run)
    assert shop.effects == []
    return Waiting(shop=shop, runs=tuple(started))


@pytest.fixture
def waiting(before: Waiting, tmp_path: Path) -> Waiting:
    folder = tmp_path / "shop"
    shutil.copytree(before.folder, folder, symlinks=True)
    return Waiting(shop=Bank(folder=folder), runs=before.runs)


def rules_changed(waiting: Waiting) -> None:
    """A rule about an action that only the new version of the tool has, and a file of rules less."""
    code_changed(waiting)
    (waiting.folder / "policies" / "more.csv").unlink()
    rules = waiting.folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "\n# New\np, agent:clerk, bank.refund, account:*, args.why == 'x', allow\n")


def another_tool_changed(waiting: Waiting) -> None:
    shutil.copytree(waiting.folder / "tools/bank", waiting.folder / "tools/till")
    waiting.edit("tools/till/tool.toml", 'name = "bank"', 'name = "till"')
    (waiting.folder / "tools/till/main.py").write_text("# a comment\n" + HEADLESS)


def identity_changed(waiting: Waiting) -> None:
    waiting.edit("remit.toml", '"*" = "user:operator"', '"*" = "user:operator"\ndana = "user:lea"')


def code_changed(waiting: Waiting) -> None:
    """Another function, another prompt, and an action more, all reviewed."""
    main = waiting.folder / "tools/bank/main.py"
    text = main.read_text().replace("v1 {to}", "v2 {to}")
    main.write_text(
        text + '\ndef refund(to: str, why: str) -> str:\n    """Refund."""\n    return entered(f"refund {to}")\n'
    )
    manifest = waiting.folder / "tools/bank/tool.toml"
    action = manifest.read_text().partition("[actions.pay]")[2]
    manifest.write_text(f"{manifest.read_text()}\n[actions.refund]{action}")
    (waiting.folder / "agent/clerk/prompt.md").write_text("Pay late.\n")
    pin(waiting.folder)


HEADLESS: Final = SOURCE.replace("entered(", "str(")
DEPLOYS: Final[dict[str, Callable[[Waiting], None]]] = {
    "rules": rules_changed,
    "another tool": another_tool_changed,
    "an identity line": identity_changed,
    "new code": code_changed,
}


@pytest.mark.parametrize("deploy", DEPLOYS)
def test_every_run_that_waited_goes_on_as_it_began(waiting: Waiting, deploy: str) -> None:
    DEPLOYS[deploy](waiting)
    opened = open_session(waiting.folder)
    if deploy == "rules":  # people who approved saw other rules
        waiting.resumed()
    assert {asyncio.run(resume_obstacle(opened, name)) for name in waiting.runs} == {""}
    waiting.grant()
    for name in waiting.runs:
        row = find_run(opened.journal, name)
        assert row is not None
        assert row.state == "ready"
        assert who_continues(opened, name) == (f"no process drives the run; continue it: remit run --resume {name[:8]}")
    assert {ended.outcome for ended in waiting.resumed()} == {"completed"}
    assert waiting.shop.effects == [f"v1 ann{number} 5" for number in range(RUNS)]
    assert waiting.events(RunStarted)[0].prompt == "Pay.\n"
    assert waiting.replayed().reproduced
    assert check_projections(opened.journal) == []


def test_the_printed_commands_continue_every_run_that_is_ready(waiting: Waiting, command: Command) -> None:
    code_changed(waiting)
    waiting.grant()
    command(waiting.folder, "--version")  # the first command of a process of tests imports Remit, which is not measured
    begun = time.monotonic()
    ready = json.loads(command(waiting.folder, "trace", "list", "--state", "ready", "--limit", "100", "--json").out)
    assert {row["run"] for row in ready} == set(waiting.runs)
    assert time.monotonic() - begun < 15
    opened = open_session(waiting.folder)
    chosen = waiting.runs if RUNS > 2 else waiting.runs[:1]
    for name in chosen:
        _, _, typed = who_continues(opened, name).partition("continue it: remit ")
        result = command(waiting.folder, *typed.split())
        assert result.code == 0, result
    assert waiting.shop.effects == [f"v1 ann{number} 5" for number in range(len(chosen))]


def test_a_new_deny_stops_every_run_that_waited(waiting: Waiting) -> None:
    code_changed(waiting)
    waiting.grant()
    rules = waiting.folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "\n# Nobody pays today\np, agent:clerk, bank.pay, account:*, True, deny\n")
    assert {ended.outcome for ended in waiting.resumed()} == {"completed"}
    assert waiting.shop.effects == []
    for name in waiting.runs:
        (answered,) = waiting.events(CallAnswered, name)
        assert answered.result.error.code == "policy_denied"
        assert waiting.replayed(name).reproduced


def test_revoked_code_starts_and_resumes_nowhere_although_it_is_still_pinned(waiting: Waiting) -> None:
    opened = open_session(waiting.folder)
    revoked = opened.workspace.tools["bank"].code
    waiting.grant()
    set_hold(opened.journal, f"{CODE}{revoked}", why="leaks", by=OPERATOR)
    with pytest.raises(UsageError, match="a revocation lasts"):
        lift_hold(opened.journal, f"{CODE}{revoked}", by=OPERATOR)
    for deployed in (False, True):
        with pytest.raises(Refusal, match="the code of tool 'bank' was revoked by tester: leaks"):
            waiting.resumed()
        assert "was revoked" in asyncio.run(resume_obstacle(open_session(waiting.folder), waiting.runs[0]))
        if not deployed:
            with pytest.raises(Refusal, match="was revoked"):
                waiting.begun()
            code_changed(waiting)
    assert waiting.begun().waiting, "other code of the tool starts"
    assert waiting.shop.effects == []


def test_code_that_is_revoked_while_a_run_goes_on_makes_no_further_call(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approved call is refused at the last moment, for another process has revoked its code."""
    opened = open_session(waiting.folder)
    code, name = opened.workspace.tools["bank"].code, waiting.runs[0]
    waiting.grant()

    def meanwhile(*_: object) -> None:
        set_hold(open_session(waiting.folder).journal, f"{CODE}{code}", why="leaks", by=OPERATOR)

    monkeypatch.setattr(run, "_check_rules", meanwhile)  # after the resumption has looked for revocations
    asyncio.run(run.resume_run(opened, name, by=OPERATOR))
    assert waiting.shop.effects == []
    (answered,) = waiting.events(CallAnswered, name)
    assert (answered.result.error.code, answered.result.error.details["reason"]) == ("policy_denied", "revoked")
    assert waiting.replayed(name).reproduced


def test_a_person_may_accept_the_definition_on_disk_and_the_record_says_what_changed(waiting: Waiting) -> None:
    code_changed(waiting)
    waiting.grant()
    (ended, *_) = waiting.resumed(accept_changes=True)
    assert ended.outcome == "completed"
    assert waiting.shop.effects == [], "the call was decided for another manifest, so it is made again or not at all"
    (resumed,) = waiting.events(RunResumed)
    assert resumed.accepted is not None
    assert resumed.accepted.changed == (
        "agent/clerk/prompt.md",
        "agent/clerk/script.yaml",
        "tools/bank/tool.toml",
        "the code of bank",
        "the pin of bank",
    )
    assert resumed.accepted.prompt == "Pay late.\n"
    (answered,) = waiting.events(CallAnswered)
    assert answered.result.error.details == {"problem": "changed_definition"}
    found = waiting.replayed()
    assert (found.reproduced, found.complete) == (True, False)


def test_an_approver_reads_what_a_run_would_lack(waiting: Waiting, command: Command) -> None:
    code = open_session(waiting.folder).workspace.tools["bank"].code
    (waiting.folder / "traces/objects" / code.removeprefix("sha256:")).unlink()
    name = waiting.runs[-1]
    assert asyncio.run(resume_obstacle(open_session(waiting.folder), name)) == "", "the definition on disk is the same"
    code_changed(waiting)
    shown, listed = (command(waiting.folder, "approve", *words) for words in (("show", name[:8]), ("list",)))
    missing = "the code of tool 'bank' that the run began with is not there"
    assert missing in shown.out
    assert f"remit run --resume {name[:8]} --accept-changes" in shown.out
    assert listed.out.count(missing) == RUNS
    with pytest.raises(UsageError, match=missing):
        waiting.resumed()


def test_pruning_other_runs_keeps_what_a_waiting_run_needs(waiting: Waiting) -> None:
    objects = waiting.folder / "traces/objects"
    for file in objects.iterdir():
        os.utime(file, (0, 0))
    prune(open_session(waiting.folder), [], by=OPERATOR)
    code_changed(waiting)
    assert asyncio.run(resume_obstacle(open_session(waiting.folder), waiting.runs[0])) == ""


def test_revoked_code_is_not_pinned(waiting: Waiting, command: Command) -> None:
    opened = open_session(waiting.folder)
    lock = waiting.folder / "policies/tools.lock"
    set_hold(opened.journal, f"{CODE}{opened.workspace.tools['bank'].code}", why="leaks", by=OPERATOR)
    lock.unlink()
    result = command(waiting.folder, "tool", "pin", "bank")
    assert (result.code, "the code of tool 'bank' was revoked by tester: leaks" in result.err) == (1, True), result
    assert not lock.exists()


def test_a_scripted_model_goes_on_with_the_script_that_the_run_has(waiting: Waiting) -> None:
    waiting.grant()
    waiting.shop.script({"pay": {"to": "zoe", "amount": 5}}, {"pay": {"to": "eve", "amount": 1}})
    assert {ended.outcome for ended in waiting.resumed()} == {"completed"}
    assert waiting.shop.effects == [f"v1 ann{number} 5" for number in range(RUNS)]


def test_the_folder_of_a_definition_is_removed_with_the_last_run_that_has_it(waiting: Waiting) -> None:
    code_changed(waiting)
    waiting.grant()
    waiting.resumed()
    opened = open_session(waiting.folder)
    definitions = waiting.folder / "traces/definitions"

    def left() -> set[str]:
        return {path.name for path in definitions.iterdir()}

    made = left()
    assert made
    for path in definitions.iterdir():
        os.utime(path, (0, 0))
    prune(opened, [], by=OPERATOR)
    assert left() == made
    prune(opened, prunable(opened, 0), by=OPERATOR)
    assert left() == set()
