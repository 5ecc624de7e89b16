"""An author's own graph under `graph =`: run, approved, killed, resumed, replayed, evaluated and rolled out like the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.client import replay_trace, reviewed_graphs
from remit.core import UsageError
from remit.core.events import CallDecided, ModelRequested, ModelResponded
from remit.tracing import read_trace
from remit.workspace.session import open_session
from support.lifecycle import grant, killed, resumed, resumed_after_kill
from support.rollouts import RULE, candidate_of, opened_at, ran
from support.runs import Played
from support.scenarios import evaluate
from support.workspaces.ledger import effects
from support.workspaces.supervisor import ANSWER, SHOP, TURNS, paying, pin_graph, with_graph

Clerk = Callable[..., Path]
LARGE = 5000  # needs the approval of a lead
PAID = {"action": "pay", "name": "ann", "amount": 5}


@pytest.fixture
def shop(clerk: Clerk) -> Callable[..., Path]:
    def write(turns: list[dict[str, Any]] = TURNS, source: str = SHOP, **options: Any) -> Path:
        return with_graph(clerk(turns), source, **options)

    return write


def replayed(played: Played) -> Any:
    """The run, replayed in its own workspace from its trace file."""
    graphs = reviewed_graphs(played.opened, played.ended.run)
    return asyncio.run(replay_trace(read_trace(played.ended.trace), graphs=graphs))


def events(played: Played, kind: type[Any]) -> list[Any]:
    return [item.event for item in played.records if isinstance(item.event, kind)]


def test_a_supervisor_with_two_sub_agents_is_decided_recorded_and_reproduced_like_the_loop(
    shop: Callable[..., Path],
) -> None:
    played = ran(open_session(shop()))
    assert (played.ended.outcome, played.ended.answer) == ("completed", ANSWER)
    assert played.effects == [PAID]
    assert [decided.call.action for decided in events(played, CallDecided)] == ["ledger.look", "ledger.pay"]
    assert [len(response.own_calls) for response in events(played, ModelResponded)] == [1, 0, 0, 1, 0, 0, 0]
    assert [item.action for item in played.ended.receipt] == ["ledger.look", "ledger.pay"]
    found = replayed(played)
    assert found.reproduced, found.divergences
    assert (found.decisions, found.turns, found.results) == (2, 7, 2)
    assert played.effects == [PAID]


def test_a_call_that_needs_an_approval_pauses_the_graph_and_goes_on_after_it(shop: Callable[..., Path]) -> None:
    played = ran(open_session(shop(paying(LARGE))))
    assert played.ended.outcome is None
    assert [requested.step for requested in played.ended.waiting] == [4]
    assert played.effects == []
    grant(played, "user:lea")
    again = resumed(played)
    assert (again.ended.outcome, again.ended.answer) == ("completed", ANSWER)
    assert again.effects == [{**PAID, "amount": LARGE}]
    assert replayed(again).reproduced


@pytest.mark.parametrize(
    "at",
    ["model.requested/3/-/-", "model.responded/4/-/-", "attempt.begun", "attempt.ended/4/0/1", "model.responded/6/-/-"],
)
def test_a_graph_whose_process_is_killed_goes_on_and_pays_once(shop: Callable[..., Path], at: str) -> None:
    folder = shop()
    killed(folder, at)
    played = resumed_after_kill(folder)
    assert (played.ended.outcome, played.ended.answer) == ("completed", ANSWER)
    assert played.effects == [PAID]
    assert len(events(played, ModelRequested)) == len(TURNS)  # nothing was asked a second time
    assert replayed(played).reproduced


def test_a_waiting_graph_goes_on_with_the_code_that_it_had(shop: Callable[..., Path]) -> None:
    folder = shop(paying(LARGE))
    played = ran(open_session(folder))
    (folder / "shop.py").write_text("raise RuntimeError('another version')\n")
    pin_graph(folder)
    grant(played, "user:lea")
    ended = resumed(Played(folder=folder, opened=open_session(folder), ended=played.ended))
    assert ended.ended.answer == ANSWER
    assert replayed(ended).reproduced


def test_a_graph_that_nobody_has_reviewed_neither_runs_nor_is_replayed(shop: Callable[..., Path]) -> None:
    folder = shop()
    played = ran(open_session(folder))
    trace = read_trace(played.ended.trace)
    with pytest.raises(UsageError, match=r"executes its graph, shop\.py, and this version of it is not reviewed here"):
        asyncio.run(replay_trace(trace))
    (folder / "shop.py").write_text(SHOP + "\n# one more line\n")
    with pytest.raises(UsageError, match=r"review shop\.py, then run `remit tool pin agent:clerk`"):
        ran(open_session(folder))
    assert played.effects == [PAID]


def test_an_evaluation_plays_the_graph_and_a_worse_prompt_of_a_sub_agent_is_a_changed_definition(
    shop: Callable[..., Path],
) -> None:
    folder = shop()
    answers = [
        {"action": "ledger.look", "arguments": {"name": "ann"}, "value": {"name": "ann", "text": ""}},
        {"action": "ledger.pay", "arguments": {"name": "ann"}, "value": "paid"},
    ]
    scenario = {"world": {"answers": answers}, "expect": {"effects": [{"action": "ledger.pay"}]}}
    assert evaluate(folder, scenario).grade.outcome == "passed"
    assert effects(folder) == []


def test_a_rollout_gives_its_users_the_graph_of_the_candidate(shop: Callable[..., Path]) -> None:
    folder = shop()
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + RULE)
    candidate = candidate_of(folder)
    (candidate / "shop.py").write_text(SHOP.replace("(asked", "(the candidate asked"))
    pin_graph(candidate)
    session = open_session(folder)
    opened_at(session, candidate, "full")
    played = ran(session)
    assert played.ended.answer == ANSWER.replace("(asked", "(the candidate asked")
    assert replayed(played).reproduced
