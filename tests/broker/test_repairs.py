"""Repaired calls in a whole run: recorded, shown, decided as they were repaired, replayed; one setting turns them off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remit.broker import refusals
from remit.core.calls import Repair
from remit.core.events import CallDecided
from remit.runtime import runner as run
from remit.workspace import session
from support.lifecycle import replayed
from support.principals import OPERATOR
from support.runs import DONE, Command, Play, Played, turn

PAID = '{"name": "ann", "amount": 5, "memo": null}'


def decided(played: Played, step: int) -> CallDecided:
    (event,) = [
        item.event for item in played.records if isinstance(item.event, CallDecided) and item.event.step == step
    ]
    return event


def raw(name: str, arguments: str) -> dict[str, Any]:
    return {"say": "x", "calls": [{name: arguments}]}


def test_a_repaired_call_is_recorded_as_written_with_its_repairs_and_runs_as_it_was_read(play: Play) -> None:
    played = play([raw("functions.ledger__pay", PAID), DONE])
    assert played.effects == [{"action": "pay", "name": "ann", "amount": 5}]
    event = decided(played, 0)
    assert (event.proposed.name, event.proposed.arguments) == ("functions.ledger__pay", PAID)
    assert event.repairs == (Repair(kind="name"), Repair(kind="absent", at="memo"))
    assert event.call is not None
    assert (event.call.action, event.call.arguments) == ("ledger.pay", {"name": "ann", "amount": 5, "memo": ""})


def test_policy_decides_on_the_repaired_arguments(play: Play) -> None:
    played = play([raw("ledger__pay", '"{\\"name\\": \\"vault\\", \\"amount\\": 5}"'), DONE])
    assert played.error(0)["code"] == "policy_denied"
    assert decided(played, 0).repairs == (Repair(kind="decoded"),)
    assert played.effects == []


def test_a_repaired_call_and_the_same_call_written_right_are_one_irreversible_call(play: Play) -> None:
    calls = [{"ledger__pay": PAID}, {"ledger__pay": {"name": "ann", "amount": 5}}]
    played = play([{"say": "two", "calls": calls}, DONE])
    assert len(played.effects) == 1


def test_an_agent_whose_calls_are_not_repaired_refuses_them(clerk: Callable[..., Path]) -> None:
    turns = [raw("ledger__pay", PAID), raw(" ledger__look", '{"name": "ann"}'), DONE]
    folder = clerk(turns)
    agent = folder / "agent" / "clerk" / "agent.toml"
    agent.write_text(agent.read_text().replace("\nprompt =", "\nrepair_calls = false\nprompt =", 1))
    opened = session.open_session(folder)
    start = run.RunRequest(
        agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=run.open_model_of(opened, "clerk")
    )
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    assert [played.error(step)["code"] for step in (0, 1)] == ["invalid_arguments", "unknown_action"]
    assert played.effects == []
    assert replayed(played).reproduced


def test_a_run_with_repaired_calls_is_reproduced(play: Play) -> None:
    played = play([raw("functions.ledger__pay", PAID), DONE])
    assert replayed(played).reproduced


def test_trace_show_lists_what_was_repaired(play: Play, command: Command) -> None:
    played = play([raw(" ledger__pay", PAID), DONE])
    out = command(played.folder, "trace", "show", played.ended.run).out
    assert "repaired: the name of the call was read without what surrounds it" in out
    assert "repaired: memo: null was read as left out" in out


def test_an_unknown_action_names_near_ones_and_those_that_exist(play: Play) -> None:
    error = play([turn(ledger__payy={"name": "a"}), DONE]).error(0)
    assert error["details"]["near"][0] == "ledger__pay"
    assert "ledger__look" in error["details"]["tools"]
    assert "ledger__pay" in error["next_step"]


def test_the_names_in_the_refusal_of_an_unknown_action_are_bounded() -> None:
    refusal = refusals.unknown_action("x" * 100_000, "agent:a", [f"tool{number}.act" for number in range(5_000)])
    assert len(refusal.message) < 700
    assert len(refusal.details["tools"]) == 20
    assert "and 4980 more" in refusal.message
