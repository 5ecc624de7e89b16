"""A recorded run goes on from a step with another model, prompt, policy or tools: no stale answer, and nothing lands."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.broker.approvals import requests as approval
from remit.core import Failed, Model
from remit.core.events import CallAnswered
from remit.evals import World
from remit.evals.counterfactual import Candidate, Counterfactual, Place, RecordedRun, play_from
from remit.policy import load_policy
from remit.runtime import RunRequest, open_model_of, start_run
from remit.runtime.models import ScriptedModel
from remit.tracing import Trace, open_trace
from remit.tracing.reports import build_timeline
from remit.workspace import WorkspaceSession, load_workspace, open_session, policy_files
from support.bulk_runs import play_run, turns_of
from support.principals import OPERATOR
from support.runs import DONE, Play
from support.workspaces.ledger import pin
from support.workspaces.shelf import shelf_workspace, worlds_after

RUNS = int(os.environ.get("REMIT_COUNTERFACTUAL_RUNS", "6"))
CASES = int(os.environ.get("REMIT_COUNTERFACTUAL_CASES", "6"))


def played_from(
    session: WorkspaceSession, recorded: Trace | RecordedRun, step: int, *models: Model, **changes: Any
) -> Counterfactual:
    """The recorded run from that step, with these models, or with the recorded turns."""
    run = recorded if isinstance(recorded, RecordedRun) else RecordedRun.of(recorded)

    async def play() -> Counterfactual:
        candidate = Candidate(definition=run.with_changes(**changes), models=models)
        seed = candidate.definition.workspace.agents[run.agent].seed
        place = Place(workspace=session.workspace, world=World(seed=seed), root=session.root)
        async with play_from(run, step, candidate, place) as played:
            return played

    return asyncio.run(play())


def record(session: WorkspaceSession, agent: str, model: Model) -> Trace:
    """A run of that agent, as the journal has it."""
    request = RunRequest(agent=agent, task="count", subject="user:operator", by=OPERATOR, model=model)
    ran = asyncio.run(start_run(session, request))
    return open_trace(session.traces, session.journal, ran.run)


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_random_run_with_its_recorded_model_goes_on_as_recorded(
    clerk: Callable[..., Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every step on: also if the run was killed, held, approved, rejected or refused."""
    chance = random.Random(50_000 + seed)
    monkeypatch.setattr(approval, "LASTS_NS", chance.choice([approval.LASTS_NS] * 4 + [0]))
    folder = clerk(turns_of(chance), steps=chance.choice([30, 30, 2]), calls=chance.choice([60, 60, 3]))
    opened, name = play_run(folder, chance, open_model_of(open_session(folder), "clerk"))
    trace = open_trace(opened.traces, opened.journal, name)
    before = (folder / "ledger.jsonl").read_bytes() if (folder / "ledger.jsonl").exists() else b""
    run = RecordedRun.of(trace)
    for step in range(run.last_step + 1):
        played = played_from(opened, run, step)
        was, now = outcomes(trace.records), outcomes(played.records)
        if trace.records[-1].type == "run.finished":
            assert now == was, step
            assert played.sources.rerun == played.sources.assumed == 0
        else:  # the run goes on where the record ends
            assert set(was) <= set(now), step
    assert ((folder / "ledger.jsonl").read_bytes() if (folder / "ledger.jsonl").exists() else b"") == before


def outcomes(records: Sequence[Any]) -> list[Any]:
    """What a run decided, answered and came to, by place."""
    kinds = ("call.decided", "call.answered", "attempt.ended", "run.finished", "model.responded")
    return sorted((item.key, item.event.model_dump_json()) for item in records if item.type in kinds)


NAMES = ("e/a", "d/a", "d/b")


def calls_of(chance: random.Random) -> list[dict[str, Any]]:
    """Some steps of one or two calls of a few names, so that requests repeat."""

    def call() -> dict[str, Any]:
        action = chance.choice(["get", "get", "sum", "put", "add"])
        if action == "sum":
            return {"shelf__sum": {"folder": "d"}}
        value = {"value": chance.randint(1, 2)} if action in ("put", "add") else {}
        return {f"shelf__{action}": {"name": chance.choice(NAMES), **value}}

    return [
        {"say": "", "calls": [call() for _ in range(chance.choice([1, 1, 1, 2]))]} for _ in range(chance.randint(2, 6))
    ]


def changed(chance: random.Random, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with some left out, swapped or put in between, as another model might take them."""
    turns = [turn for turn in turns if chance.random() > 0.15]
    if len(turns) > 1 and chance.random() < 0.5:
        at = chance.randrange(len(turns) - 1)
        turns[at], turns[at + 1] = turns[at + 1], turns[at]
    if chance.random() < 0.7:
        at = chance.randint(0, len(turns))
        turns[at:at] = calls_of(chance)[:2]
    return turns


def test_no_answer_that_an_effect_may_have_changed_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of each run that goes on fit one order of its calls, on a shelf with all effects before them."""
    monkeypatch.syspath_prepend(str(tmp_path / "workspace" / "hosted"))
    shelf = open_session(shelf_workspace(tmp_path / "workspace"))
    served = recorded = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        monkeypatch.setenv("SHELF", str(tmp_path / f"{seed}.json"))
        turns = calls_of(chance)
        run = RecordedRun.of(record(shelf, "porter", ScriptedModel([*turns, {"say": "done"}])))
        shelf_before = (tmp_path / f"{seed}.json").read_bytes() if (tmp_path / f"{seed}.json").exists() else b""
        for step in range(len(turns) + 1):
            after = [*changed(chance, turns[step:]), {"say": "done"}]
            played = played_from(shelf, run, step, ScriptedModel(after))
            assert fits(played), (seed, step)
            served += played.sources.recorded
            recorded += len(played.answers)
        now = (tmp_path / f"{seed}.json").read_bytes() if (tmp_path / f"{seed}.json").exists() else b""
        assert now == shelf_before, "an effect has landed"
    assert served > recorded / 4, "too few answers are from the record for the test to say anything"


def fits(played: Counterfactual) -> bool:
    """True if some order of the calls of each step gives the answers that the run got. Assumed answers may be anything."""
    assumed = {answer.name for answer in played.answers if answer.source == "assumed"}
    calls: dict[int, list[tuple[str, dict[str, Any], Any]]] = {}
    for call in build_timeline(played.records).calls:
        if isinstance(call.result, Failed):  # a turn with the same irreversible call twice: the second one does not run
            assert call.result.error.details["problem"] == "repeated_call", call.result
            assert not call.attempts
        elif call.result is not None:
            value = None if call.place in assumed else call.result.value
            calls.setdefault(call.step, []).append((call.action, call.arguments, value))
    worlds: list[dict[str, int]] = [{}]
    for step in sorted(calls):
        worlds = worlds_after(worlds, calls[step])
    return bool(worlds)


PAYS = {"say": "", "calls": [{"ledger__pay": {"name": "ann", "amount": 1}}]}
LOOKS = {"say": "", "calls": [{"ledger__look": {"name": "ann"}}]}
ASKS = {"say": "", "calls": [{"ledger__pay": {"name": "ann", "amount": 500}}]}


def test_an_effect_that_the_record_does_not_have_does_not_happen_and_leaves_no_grade(play: Play) -> None:
    """A tool that runs unconfined is a tripwire: it writes each effect to a file outside of the workspace."""
    recorded = play([PAYS, LOOKS, DONE])
    before = contents(recorded.folder)
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    other = {
        "say": "",
        "calls": [{"ledger__pay": {"name": "ben", "amount": 2}}, {"ledger__book": {"name": "ben", "amount": 2}}],
    }
    played = played_from(recorded.opened, trace, 1, ScriptedModel([other, LOOKS, DONE]))
    assert [answer.source for answer in played.answers] == ["assumed", "assumed", "recorded"]
    assert played.ungraded.startswith("the run rests on the assumed value of ledger.pay at step 1.0")
    assert played.finished is not None
    assert contents(recorded.folder) == before


def test_a_read_after_an_effect_that_did_not_happen_ends_the_run_where_nobody_knows_its_answer(play: Play) -> None:
    recorded = play([LOOKS, DONE])
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    played = played_from(recorded.opened, trace, 0, ScriptedModel([LOOKS, PAYS, LOOKS, DONE]))
    assert [answer.source for answer in played.answers] == ["recorded", "assumed"]
    assert played.ends.startswith("the record does not say what ledger.look returns at step 2.0")
    assert played.finished is None


def test_an_answer_after_one_effect_is_not_served_after_another_one_on_the_same_thing(play: Play) -> None:
    """One effect is not like another: a count of them would not tell the two worlds apart."""
    recorded = play([PAYS, LOOKS, DONE])
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    more = {"say": "", "calls": [{"ledger__pay": {"name": "ann", "amount": 2}}]}
    played = played_from(recorded.opened, trace, 0, ScriptedModel([more, LOOKS, DONE]))
    assert [answer.source for answer in played.answers] == ["assumed"]
    assert played.ends.startswith("the record does not say what ledger.look returns at step 1.0")


def test_an_answer_that_an_effect_beside_it_may_have_changed_is_not_served_without_that_effect(play: Play) -> None:
    both = {"say": "", "calls": [*PAYS["calls"], *LOOKS["calls"]]}
    recorded = play([both, DONE])
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    assert played_from(recorded.opened, trace, 0, ScriptedModel([both, DONE])).sources.recorded == 2
    alone = played_from(recorded.opened, trace, 0, ScriptedModel([LOOKS, DONE]))
    assert alone.answers == ()
    assert alone.ends.startswith("the record does not say what ledger.look returns at step 0.0")


def test_an_approval_counts_only_where_the_same_question_is_asked(play: Play) -> None:
    script = {"approvals": [{"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}]}
    recorded = play([ASKS, DONE], **script)
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    same = played_from(recorded.opened, trace, 0, ScriptedModel([LOOKS, ASKS, DONE]))
    assert same.ends.startswith("the record does not say what ledger.look")
    later = played_from(
        recorded.opened, trace, 0, ScriptedModel([{"say": "first", "calls": [*ASKS["calls"], {"shell": {}}]}, DONE])
    )
    assert [answer.source for answer in later.answers] == ["recorded"]
    assert later.ungraded == ""
    more = {"say": "", "calls": [{"ledger__pay": {"name": "ann", "amount": 501}}]}
    other = played_from(recorded.opened, trace, 0, ScriptedModel([more, DONE]))
    assert other.ends == "the run waits for people, who answered nothing like this in the record"
    assert other.answers == ()


def test_the_recorded_turns_are_repeated_only_while_the_model_reads_what_it_read_then(play: Play) -> None:
    recorded = play([LOOKS, PAYS, DONE])
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    rules = dict(policy_files(recorded.folder))
    same = load_policy(
        {
            **rules,
            "policies/rules.csv": rules["policies/rules.csv"]
            + b"\n# nobody\np, user:bob, ledger.look, account:*, True, allow\n",
        }
    )
    played = played_from(recorded.opened, trace, 0, policy=same)
    assert (played.ends, played.finished and played.finished.outcome) == ("", "completed")
    stricter = load_policy(
        {
            **rules,
            "policies/rules.csv": rules["policies/rules.csv"]
            + b"\n# Nobody pays\np, agent:clerk, ledger.pay, account:*, True, deny\n",
        }
    )
    played = played_from(recorded.opened, trace, 0, policy=stricter)
    assert played.ends == "at step 2 the model reads something new, and no model is given that can answer it"
    assert outcome_of(played, 1, 0) == "policy_denied"
    assert played_from(recorded.opened, trace, 0, prompt="Pay nobody.").ends.startswith("at step 0 the model reads")


def outcome_of(played: Counterfactual, step: int, index: int) -> str | None:
    """The code of the error of a call; None if it succeeded."""
    answered = next(item.event for item in played.records if item.key == f"call.answered/{step}/{index}/-")
    assert isinstance(answered, CallAnswered)
    return answered.result.error.code if isinstance(answered.result, Failed) else None


def test_a_tool_of_another_version_is_not_answered_from_the_record(play: Play) -> None:
    recorded = play([LOOKS, DONE])
    trace = open_trace(recorded.opened.traces, recorded.opened.journal, recorded.ended.run)
    (recorded.folder / "tools/ledger/prices.py").write_text("PRICE = 2\n")
    pin(recorded.folder)
    played = played_from(recorded.opened, trace, 0, ScriptedModel([LOOKS, DONE]), tools=load_workspace(recorded.folder))
    assert played.answers == ()
    assert played.ends.startswith("the record does not say what ledger.look returns at step 0.0")


def contents(folder: Path) -> dict[str, bytes | float]:
    """Every file below the folder, with its content; of a database of the journal in use, only that it is there."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
