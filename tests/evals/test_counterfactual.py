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
from remit.core import Model, Succeeded
from remit.core.events import CallAnswered
from remit.evals import World
from remit.evals.counterfactual import Candidate, Counterfactual, Place, RecordedRun, play_from
from remit.runtime import RunRequest, open_model_of, start_run
from remit.runtime.models import ScriptedModel
from remit.tracing import Trace, open_trace
from remit.workspace import WorkspaceSession, open_session
from support.bulk_runs import play_run, turns_of
from support.principals import OPERATOR
from support.workspaces.shelf import shelf_workspace, worlds_after

RUNS = int(os.environ.get("REMIT_COUNTERFACTUAL_RUNS", "12"))
CASES = int(os.environ.get("REMIT_COUNTERFACTUAL_CASES", "25"))


def played_from(session: WorkspaceSession, trace: Trace, step: int, *models: Model, **changes: Any) -> Counterfactual:
    """The recorded run from that step, with these models, or with the recorded turns."""
    run = RecordedRun.of(trace)

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
    for step in range(RecordedRun.of(trace).last_step + 1):
        played = played_from(opened, trace, step)
        assert outcomes(played.records) == outcomes(trace.records), step
        assert played.sources["re-run"] == played.sources["assumed"] == 0
    assert ((folder / "ledger.jsonl").read_bytes() if (folder / "ledger.jsonl").exists() else b"") == before


def outcomes(records: Sequence[Any]) -> list[Any]:
    """What a run decided, answered and came to, by place."""
    kinds = ("call.decided", "call.answered", "attempt.ended", "run.finished", "model.responded")
    return sorted((item.key, item.event.model_dump_json()) for item in records if item.type in kinds)


NAMES = ("a", "d/a", "d/b")


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


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> WorkspaceSession:
    return open_session(shelf_workspace(tmp_path_factory.mktemp("shelf") / "workspace"))


def test_no_answer_that_an_effect_may_have_changed_is_served(
    shelf: WorkspaceSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of each run that goes on fit one order of its calls, on a shelf with all effects before them."""
    monkeypatch.syspath_prepend(str(shelf.root / "hosted"))
    served = recorded = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        monkeypatch.setenv("SHELF", str(tmp_path / f"{seed}.json"))
        turns = calls_of(chance)
        trace = record(shelf, "porter", ScriptedModel([*turns, {"say": "done"}]))
        shelf_before = (tmp_path / f"{seed}.json").read_bytes() if (tmp_path / f"{seed}.json").exists() else b""
        for step in range(len(turns) + 1):
            after = [*changed(chance, turns[step:]), {"say": "done"}]
            played = played_from(shelf, trace, step, ScriptedModel(after))
            assert fits(played), (seed, step)
            served += played.sources["recorded"]
            recorded += len(played.answers)
        now = (tmp_path / f"{seed}.json").read_bytes() if (tmp_path / f"{seed}.json").exists() else b""
        assert now == shelf_before, "an effect has landed"
    assert served > recorded / 4, "too few answers are from the record for the test to say anything"


def fits(played: Counterfactual) -> bool:
    """True if some order of the calls of each step gives the answers that the run got. Assumed answers may be anything."""
    assumed = {answer.name for answer in played.answers if answer.source == "assumed"}
    results = {
        (item.event.step, item.event.index): item.event.result
        for item in played.records
        if isinstance(item.event, CallAnswered)
    }
    calls: dict[int, list[tuple[str, dict[str, Any], Any]]] = {}
    for item in played.records:
        if item.type == "call.decided" and (result := results.get((item.event.step, item.event.index))) is not None:
            assert isinstance(result, Succeeded), result
            call = item.event.call
            value = None if f"{call.step}.{call.index}" in assumed else result.value
            calls.setdefault(call.step, []).append((call.action, call.arguments, value))
    worlds: list[dict[str, int]] = [{}]
    for step in sorted(calls):
        worlds = worlds_after(worlds, calls[step])
    return bool(worlds)
