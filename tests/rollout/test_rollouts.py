"""A rollout as its users see it: who may open and widen it, who has the candidate, and how it is taken back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.client import Remit
from remit.core.errors import Refusal, RemitError, UsageError
from remit.core.events import Bar, CallDecided, Recorded, RolloutCompared, RolloutRolledBack, RunFinished
from remit.evals import Changes, RolloutPlan, backtest, open_for, play_finished_runs, widen
from remit.journal import Journal, RolloutState, StoredRecord, alerts_in_force, check_projections, used_bundles
from remit.rollout import arm_of, check_bars, evidence_of, find_rollout, open_of, roll_back
from remit.runtime import prunable, prune, resume_run
from remit.workspace import WorkspaceSession, open_session
from support.lifecycle import Killed, die_at, replayed
from support.principals import OPERATOR, principal
from support.rollouts import RULE, candidate_of, opened_at, ran, started
from support.runs import DONE, Command, turn
from support.workspaces.ledger import use

LOOK = turn(ledger__look={"name": "ann"})
PAY = turn(ledger__pay={"name": "ann", "amount": 50})
TWO = [PAY, turn(ledger__pay={"name": "ben", "amount": 50}), DONE]
CANARY = ("canary", "full")


def stricter(rules: str) -> str:
    return rules + "\n# Nobody is paid\np, agent:clerk, ledger.pay, account:*, True, deny\n"


@pytest.fixture
def folder(clerk: Callable[..., Path]) -> Path:
    return clerk([LOOK, DONE])


def allowed(folder: Path) -> WorkspaceSession:
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + RULE)
    return open_session(folder)


def compared(opened: WorkspaceSession, state: RolloutState) -> RolloutCompared:
    return backtest(opened, state, by=OPERATOR, limit=10, progress=lambda _, __: None)


# -- who may --


def test_opening_and_widening_need_a_right_and_going_back_needs_none(folder: Path) -> None:
    candidate = candidate_of(folder, prompt=lambda text: text + "Be brief.\n")
    with pytest.raises(Refusal, match=r"user:operator may not change what agent 'clerk' is: no rule"):
        open_for(open_session(folder), "clerk", candidate, RolloutPlan(), by=OPERATOR)
    opened = allowed(folder)
    candidate = candidate_of(folder, prompt=lambda text: text + "Be brief.\n")
    state = open_for(opened, "clerk", candidate, RolloutPlan(bars=["failed"]), by=OPERATOR)
    assert state.opened.changes == ("agent/clerk/prompt.md",)
    assert [stage.name for stage in state.opened.stages] == ["counterfactual", "canary", "canary", "full"]
    with pytest.raises(Refusal, match="user:bob may not change"):
        widen(opened, state, by=principal("bob"), least=0)
    back = roll_back(opened.journal, state.id, reason="no", by=principal("bob"))
    assert back.status == "rolled_back"
    with pytest.raises(UsageError, match="is rolled back: open a new one"):
        widen(opened, back, by=OPERATOR)


def test_a_candidate_that_is_not_one_is_refused_and_nothing_is_opened(folder: Path) -> None:
    opened = allowed(folder)
    same = candidate_of(folder)
    with pytest.raises(UsageError, match="the same files as this workspace"):
        open_for(opened, "clerk", same, RolloutPlan(bars=["failed"]), by=OPERATOR)
    (same / "remit.toml").write_text((same / "remit.toml").read_text() + '\n[redact]\nenv = ["HOME"]\n')
    with pytest.raises(UsageError, match=r"changes remit\.toml, which is the same for all runs"):
        open_for(opened, "clerk", same, RolloutPlan(bars=["failed"]), by=OPERATOR)
    case = "- note: the clerk pays small amounts\n  agent: clerk\n  user: operator\n  action: ledger.pay\n"
    (folder / "policies" / "cases.yaml").write_text(
        f"{case}  resources: [account:ann]\n  args: {{name: ann, amount: 50}}\n  effect: once\n  expect: allow\n"
    )
    with pytest.raises(
        UsageError, match=r"1 cases that must hold do not hold with the candidate: .*pays small amounts"
    ):
        open_for(opened, "clerk", candidate_of(folder, rules=stricter), RolloutPlan(bars=["failed"]), by=OPERATOR)
    with pytest.raises(
        UsageError,
        match="fewer than 20 recent completed runs of agent 'clerk' with a time, from which 'slow' is computed",
    ):
        open_for(opened, "clerk", candidate_of(folder, prompt=str.upper), RolloutPlan(bars=["slow"]), by=OPERATOR)
    with pytest.raises(UsageError, match="the shares of a canary must grow"):
        open_for(
            opened,
            "clerk",
            candidate_of(folder, prompt=str.upper),
            RolloutPlan(bars=["failed"], shares=(0.5, 0.1)),
            by=OPERATOR,
        )
    unpinned = candidate_of(folder)
    tool = unpinned / "tools" / "ledger" / "tool.toml"
    tool.write_text(tool.read_text().replace("Pay once;", "Pay one time;"))
    with pytest.raises(UsageError, match="not those that were reviewed: ledger; review them, and pin them"):
        open_for(opened, "clerk", unpinned, RolloutPlan(bars=["failed"]), by=OPERATOR)
    assert opened.journal.rollouts() == ()


def test_an_agent_has_one_open_rollout(folder: Path) -> None:
    opened = open_session(folder)
    candidate = candidate_of(folder, prompt=str.upper)
    first = opened_at(opened, candidate, *CANARY)
    with pytest.raises(UsageError, match=f"agent:clerk has an open rollout, {first.id}"):
        opened_at(opened, candidate, *CANARY)
    roll_back(opened.journal, first.id, reason="no")
    assert opened_at(opened, candidate, *CANARY).id != first.id


def test_no_data_is_never_a_reason_to_go_on(folder: Path) -> None:
    opened = allowed(folder)
    candidate = candidate_of(folder, rules=stricter)
    state = open_for(opened, "clerk", candidate, RolloutPlan(bars=["failed"], shares=(0.999999,)), by=OPERATOR)
    assert [stage.name for stage in state.opened.stages] == ["backtest", "shadow", "canary", "full"]
    with pytest.raises(UsageError, match="cannot leave stage 'backtest': nothing is known of any run"):
        widen(opened, state, by=OPERATOR, least=1)
    with pytest.raises(UsageError, match="has no recorded run to compare with"):
        compared(opened, state)
    ran(opened)
    compared(opened, state)
    state = widen(opened, state, by=OPERATOR, least=1)
    with pytest.raises(UsageError, match="cannot leave stage 'shadow': 0 runs have ended in it, and 1 are needed"):
        widen(opened, state, by=OPERATOR, least=1)
    ran(opened)
    state = widen(opened, state, by=OPERATOR, least=1)
    with pytest.raises(UsageError, match="cannot leave stage 'canary': 0 runs of the candidate have ended in it"):
        widen(opened, state, by=OPERATOR, least=1)
    ran(opened)
    state = widen(opened, state, by=OPERATOR, least=1)
    ran(opened)
    with pytest.raises(UsageError, match=r"are not those of the candidate yet: policies/rules\.csv"):
        widen(opened, state, by=OPERATOR, least=1)
    shutil.copyfile(candidate / "policies" / "rules.csv", folder / "policies" / "rules.csv")
    assert widen(open_session(folder), state, by=OPERATOR, least=1).status == "finished"
    assert opened.journal.rollouts() == ()


def test_the_candidate_plays_finished_runs_again_and_nothing_of_it_lands(folder: Path) -> None:
    """A prompt that changes nothing ends as before; where a call was never recorded, its end is not known."""
    opened = allowed(folder)
    ran(opened)
    for turns, different in (([LOOK, DONE], {"completed → completed": 1}), ([PAY, DONE], {"not known": 1})):
        candidate = candidate_of(folder, turns=turns, prompt=str.upper)
        state = open_for(opened, "clerk", candidate, RolloutPlan(bars=["failed"]), by=OPERATOR)
        assert state.stage.name == "counterfactual"
        played = play_finished_runs(opened, state, by=OPERATOR, limit=10, progress=lambda _, __: None)
        event = asyncio.run(played)
        assert (event.runs, event.different, event.counts) == (1, 0, different)
        if "not known" in different:
            with pytest.raises(UsageError, match="cannot leave stage 'counterfactual': nothing is known of any run"):
                widen(opened, state, by=OPERATOR)
        else:
            assert widen(opened, state, by=OPERATOR).stage.name == "canary"
        roll_back(opened.journal, state.id, reason="again")
    assert not (folder / "ledger.jsonl").exists()


def test_a_change_can_be_named_without_a_folder(folder: Path) -> None:
    opened = allowed(folder)
    (folder / "brief.md").write_text("Be brief.\n")
    changes = Changes(prompt=folder / "brief.md")
    state = open_for(
        opened, "clerk", changes, RolloutPlan(bars=["failed"], skip=["counterfactual"], shares=(0.999999,)), by=OPERATOR
    )
    assert state.opened.changes == ("agent/clerk/prompt.md",)
    assert started(ran(opened)).prompt == "Be brief.\n"


# -- who has the candidate --


def test_a_run_of_the_candidate_has_its_model_prompt_and_rules_and_the_others_have_nothing_of_it(folder: Path) -> None:
    opened = open_session(folder)
    candidate = candidate_of(folder, turns=[PAY, DONE], rules=stricter, prompt=str.upper)
    state = opened_at(opened, candidate, *CANARY, share=0.5)
    users = [f"user:u{number}" for number in range(20)]
    arms = {user: arm for user in users if (arm := arm_of(state, user=user, run="")) is not None}
    theirs = next(user for user in users if arms[user].arm == "candidate")
    ours = next(user for user in users if arms[user].arm == "live")
    tried, live = ran(opened, user=theirs), ran(opened, user=ours)
    assert (started(tried).arm, started(live).arm) == (arms[theirs], arms[ours])
    assert (started(tried).prompt, started(live).prompt) == ("KEEP THE LEDGER.\n", "Keep the ledger.\n")
    decided = [item.event for item in (*tried.records, *live.records) if isinstance(item.event, CallDecided)]
    assert [event.proposed.action for event in decided] == ["ledger.pay", "ledger.look"]
    assert decided[0].decision is not None
    assert decided[0].decision.policy_digest == state.opened.policy_digest != opened.policy.digest
    assert replayed(tried).reproduced
    assert replayed(live).reproduced
    assert check_projections(opened.journal) == []


def test_a_run_keeps_its_definition_when_the_rollout_ends_and_another_process_resumes_it(folder: Path) -> None:
    """A process is killed by `kill -9` at each of its events: the same arm, the same definition, and nothing is done twice."""
    opened = open_session(folder)
    candidate = candidate_of(folder, turns=TWO, prompt=str.upper)
    state = opened_at(opened, candidate, *CANARY)
    whole = ran(opened)
    keys = [item.key for item in whole.records[:-1]]
    runs = [f"{number + 1:032x}" for number in range(len(keys))]
    for key, run in zip(keys, runs, strict=True):
        assert killed_at(folder, key, run) == -signal.SIGKILL
    opened = open_session(folder)
    assert find_rollout(opened.journal, state.id) == state
    roll_back(opened.journal, state.id, reason="meanwhile")
    for key, run in zip(keys, runs, strict=True):
        ended = resumed(opened, run)
        assert ended.outcome == "completed", (key, ended)
        record = StoredRecord(opened.journal, run)
        assert record.state.started is not None
        assert record.state.started.arm == arm_of(state, user="user:operator", run=run)
        assert record.state.started.prompt == "KEEP THE LEDGER.\n"
    begun = sum(key.startswith("attempt.begun") for key in keys)
    assert len(whole.effects) == 2 * (len(keys) + 1) - begun, "a payment that may have begun is not made again"
    assert check_projections(opened.journal) == []


def killed_at(folder: Path, key: str, run: str) -> int:
    """Let a child process drive a run, and kill it once the event of that key is written, and nothing after it. Its exit code."""
    child = os.fork()
    if child == 0:
        try:
            use(folder)
            opened = open_session(folder)
            die_at(opened.journal, key, lambda: os.kill(os.getpid(), signal.SIGKILL))
            ran(opened, run=run)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def resumed(opened: WorkspaceSession, run: str) -> RunFinished:
    finished = asyncio.run(resume_run(opened, run, by=OPERATOR)).finished
    assert finished is not None
    return finished


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_run_that_another_process_resumes_is_decided_by_the_rules_of_its_candidate_while_they_count(
    folder: Path, taken_back: bool
) -> None:
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, turns=TWO, rules=stricter), *CANARY)
    run = f"{1:032x}"
    assert killed_at(folder, "call.answered/0/0/-", run) == -signal.SIGKILL
    if taken_back:
        roll_back(opened.journal, state.id, reason="meanwhile")
    assert resumed(open_session(folder), run).outcome == "completed"
    digests = [
        item.event.decision.policy_digest
        for item in opened.journal.events(run)
        if isinstance(item.event, CallDecided) and item.event.decision is not None
    ]
    assert digests == [state.opened.policy_digest, (opened.policy.digest if taken_back else state.opened.policy_digest)]


# -- taken back --


def test_rules_that_are_taken_back_decide_no_further_call_of_a_run_that_goes_on(folder: Path) -> None:
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, turns=TWO, rules=stricter), *CANARY)

    def tell(recorded: Recorded) -> None:
        if recorded.type == "call.answered" and recorded.event is not None and recorded.event.step == 0:
            roll_back(open_session(folder).journal, state.id, reason="from another process")

    played = ran(opened, on_event=tell)
    digests = [
        item.event.decision.policy_digest
        for item in played.records
        if isinstance(item.event, CallDecided) and item.event.decision is not None
    ]
    assert digests == [state.opened.policy_digest, opened.policy.digest]
    assert [played.result(0)["ok"], played.result(1)["ok"]] == [False, True]
    assert [effect["name"] for effect in played.effects] == ["ben"]
    assert replayed(played).reproduced


def test_an_edit_of_the_rules_on_disk_counts_at_once_for_runs_of_the_candidate(folder: Path) -> None:
    """A candidate is compared with the rules of its day: it must not hide a deny that was added since."""
    opened = open_session(folder)
    state = opened_at(
        opened,
        candidate_of(
            folder,
            turns=TWO,
            rules=lambda text: text + "\n# A note\np, role:people, ledger.look, account:x, True, deny\n",
        ),
        *CANARY,
    )
    rules = folder / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text() + "\n# Nobody is paid today\np, agent:clerk, ledger.pay, account:*, True, deny\n"
    )
    played = ran(open_session(folder))
    assert [played.error(step)["code"] for step in (0, 1)] == ["policy_denied"] * 2
    assert played.effects == []
    with pytest.raises(UsageError, match="the rules on disk have changed since it was opened"):
        widen(allowed(folder), state, by=OPERATOR)


@pytest.mark.parametrize("broken", ["object", "folder", "agent"])
def test_a_candidate_that_cannot_be_used_is_taken_back_and_the_run_goes_on_without_it(
    folder: Path, broken: str
) -> None:
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, prompt=str.upper), *CANARY)
    objects = opened.traces / "objects"
    if broken == "object":
        (objects / state.opened.candidate.removeprefix("sha256:")).unlink()
    elif broken == "folder":
        (opened.traces / "definitions").write_text("a file, where the folder should be")
    else:
        roll_back(opened.journal, state.id, reason="again")
        copy = candidate_of(folder, agent=lambda text: text.replace("script:script.yaml", "openai:none"))
        state = opened_at(opened, copy, *CANARY)
    try:
        played = ran(opened)
    except RemitError as failure:
        pytest.fail(f"the candidate stopped the run: {failure}")
    assert played.ended.outcome == "completed"
    assert started(played).arm is None
    assert started(played).prompt == "Keep the ledger.\n"
    ended = find_rollout(opened.journal, state.id).ended
    assert isinstance(ended, RolloutRolledBack)
    assert ended.reason.startswith("no run can start with the candidate: ")
    assert ended.by is None


def test_a_candidate_whose_runs_fail_is_taken_back_with_its_evidence_and_the_next_run_has_nothing_of_it(
    folder: Path,
) -> None:
    opened = open_session(folder)
    unfinished = [turn(ledger__look={"name": "ann"})]  # the script ends without an answer
    state = opened_at(
        opened, candidate_of(folder, turns=unfinished), *CANARY, share=0.5, unit="run", bars=[Bar(name="failed")]
    )
    for number in range(1, 80):
        ran(opened, run=f"{number:032x}")
        if open_of(opened.journal, "agent:clerk") is None:
            break
    ended = find_rollout(opened.journal, state.id).ended
    assert isinstance(ended, RolloutRolledBack)
    (evidence,) = ended.evidence
    assert evidence.broken
    assert (evidence.live, evidence.candidate) == (0, evidence.of_candidate)
    assert f"failed: {evidence.candidate} of {evidence.of_candidate} with the candidate, 0 of" in ended.reason
    assert evidence_of(opened.journal, find_rollout(opened.journal, state.id)) == ended.evidence
    assert started(ran(opened)).arm is None
    text = f"the candidate of rollout {state.id} was taken back: {ended.reason}"
    alerts = [(alert.alert, alert.text, alert.changes) for alert in alerts_in_force(opened.journal)]
    assert alerts == [(f"rollout:clerk:{state.id}", text, state.opened.changes)]


def test_a_program_lists_rollouts_and_takes_a_candidate_back_which_raises_no_alert(folder: Path) -> None:
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, prompt=str.upper), *CANARY)
    client = Remit.open(folder)
    with pytest.raises(UsageError, match="needs a reason: say why you roll back clerk"):
        client.roll_back("clerk", reason="")
    back = client.roll_back("clerk", reason="customers complain")
    assert client.rollouts() == (back,)
    assert (back.id, back.status) == (state.id, "rolled_back")
    with pytest.raises(UsageError, match="is rolled back already"):
        client.roll_back(state.id, reason="again")
    assert alerts_in_force(opened.journal) == []


def test_a_program_opens_and_widens_a_rollout_with_the_right_to_do_so(folder: Path) -> None:
    opened = allowed(folder)
    candidate = candidate_of(folder, prompt=lambda text: text + "Be brief.\n")
    plan = RolloutPlan(bars=["failed"], skip=["counterfactual"], shares=(0.999999,))
    client = Remit(opened, principal("bob"))
    with pytest.raises(Refusal, match="user:bob may not change what agent 'clerk' is"):
        client.open_rollout("clerk", candidate, plan=plan)
    client = Remit(opened, OPERATOR)
    state = client.open_rollout("clerk", str(candidate), plan=plan)
    assert (state.stage.name, client.rollouts()) == ("canary", (state,))
    with pytest.raises(UsageError, match="0 runs of the candidate have ended in it, and 1 are needed"):
        client.widen_rollout("clerk", least=1)
    ran(opened)
    assert client.widen_rollout("clerk", least=1).stage.name == "full"


def test_a_process_that_dies_before_it_looks_at_the_bars_loses_no_evidence(folder: Path) -> None:
    """The last event of a run and its row are one transaction; the next run looks before it begins."""
    opened = open_session(folder)
    unfinished = [turn(ledger__look={"name": "ann"})]
    state = opened_at(opened, candidate_of(folder, turns=unfinished), *CANARY, bars=[Bar(name="failed", hard=True)])
    die_at(opened.journal, "run.finished")
    with pytest.raises(Killed):
        ran(opened)
    opened = open_session(folder)
    assert find_rollout(opened.journal, state.id).status == "open"
    assert started(ran(opened)).arm is None
    assert find_rollout(opened.journal, state.id).status == "rolled_back"


def test_looking_again_records_nothing_twice(folder: Path) -> None:
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, turns=[LOOK]), *CANARY, bars=[Bar(name="failed", hard=True)])
    ran(opened)
    ended = [check_bars(journal, state.id) for journal in (opened.journal, open_session(folder).journal)]
    assert ended == [find_rollout(opened.journal, state.id)] * 2
    assert [item.type for item in events_of(opened.journal, state)] == ["rollout.opened", "rollout.rolled_back"]


def events_of(journal: Journal, state: RolloutState) -> list[Recorded]:
    return journal.events(f"rollout:{state.id}")


def test_runs_of_an_open_rollout_and_its_candidate_are_kept_whatever_the_retention_says(folder: Path) -> None:
    opened = open_session(folder)
    other = ran(opened)
    state = opened_at(opened, candidate_of(folder, prompt=str.upper), *CANARY)
    played = ran(opened)
    assert [row.run for row in prunable(opened, 0)] == [other.ended.run]
    roll_back(opened.journal, state.id, reason="no")
    assert {row.run for row in prunable(opened, 0)} == {other.ended.run, played.ended.run}
    prune(opened, prunable(opened, 0), by=OPERATOR)
    assert state.opened.candidate in used_bundles(opened.journal), "a run that waits needs it to go on"


# -- the command line --


def test_the_commands_open_show_compare_widen_and_roll_back(folder: Path, command: Command) -> None:
    allowed(folder)
    ran(open_session(folder))
    candidate = candidate_of(folder, rules=stricter)
    opened = command(folder, "rollout", "open", "clerk", "--candidate", str(candidate), "--json").json
    rollout = opened["rollout"]
    assert [stage["name"] for stage in opened["opened"]["stages"]] == ["backtest", "shadow", "canary", "canary", "full"]
    assert {delay["share"] for delay in opened["delays"]} == {0.1, 0.5}
    assert command(folder, "rollout", "widen", rollout).code == 2
    assert "0 of 1 runs differ: no difference" in command(folder, "rollout", "compare", rollout).out
    assert command(folder, "rollout", "widen", rollout, "--json").json["stage"]["name"] == "shadow"
    shown = command(folder, "rollout", "show").out
    assert shown.startswith(f"{rollout}  agent:clerk  open  stage 2 of 5: shadow")
    assert "changes policies/rules.csv" in shown
    assert (
        command(folder, "rollout", "rollback", rollout, "--reason", "not now").out
        == f"rollout {rollout} is rolled back\n"
    )
    assert command(folder, "rollout", "rollback", rollout, "--reason", "again").code == 2
    assert command(folder, "rollout", "show", rollout, "--json").json["ended"]["reason"] == "not now"
    assert command(folder, "rollout", "show").out.startswith(f"{rollout}  agent:clerk  rolled back")
