"""At-most-once execution: effects with an unknown outcome, counted in a ledger of the tool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker import effects as effect
from remit.core.calls import Json
from remit.core.events import AttemptBegun, EffectSettled
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.workspace.session import open_session
from support.lifecycle import RUN, grant, killed, replayed, resumed_after_kill
from support.principals import OPERATOR, principal
from support.runs import DONE, Play, Played, turn


def settled(played: Played, landed: Any) -> EffectSettled:
    record = StoredRecord(played.opened.journal, played.ended.run)
    return effect.settle_effect(record, 0, 0, landed=landed, by=principal("lea"), reason="I looked")


WIRE = turn(ledger__wire={"name": "ann", "amount": 5})
SLOW = turn(ledger__wire={"name": "slow", "amount": 5})
BLIND = turn(ledger__wire={"name": "slow-and-blind", "amount": 5})


def test_a_read_whose_secret_was_lost_is_not_retried_and_replays_the_same(
    clerk: Callable[..., Path],
) -> None:
    """An attempt had begun and could be repeated, but one of its arguments is in no record."""
    folder = clerk([turn(ledger__look={"name": "ann", "text": "key AKIAIOSFODNN7EXAMPLE"}), DONE])
    killed(folder, "attempt.begun")
    played = resumed_after_kill(folder)
    error = played.error(0)
    assert (error["code"], error["attempts"], error["retryable"]) == ("cancelled", 1, True)
    assert replayed(played).reproduced


def test_a_probe_that_finds_the_effect_returns_the_lost_result(play: Play) -> None:
    """The call timed out after its effect. The probe of the tool finds it, and the model reads the real result."""
    played = play([SLOW, DONE])
    assert len(played.effects) == 1
    assert played.result(0) == {"ok": True, "value": "wired", "labels": []}
    found = [item.event for item in played.records if isinstance(item.event, EffectSettled)]
    assert [(item.landed, item.source) for item in found] == [("landed", "probe:ledger.wired")]
    assert replayed(played).reproduced


def test_a_call_whose_process_died_before_its_effect_runs_after_the_probe(
    clerk: Callable[..., Path],
) -> None:
    folder = clerk([WIRE, DONE])
    killed(folder, "attempt.begun")
    played = resumed_after_kill(folder)
    assert len(played.effects) == 1
    assert played.result(0)["ok"]
    assert replayed(played).reproduced


def test_a_call_whose_process_died_after_its_effect_does_not_run_again(clerk: Callable[..., Path]) -> None:
    folder = clerk([WIRE, DONE])
    opened = killed(folder, "attempt.begun")
    intended = opened.journal.get(RUN, "attempt.begun/0/0/1")
    assert intended is not None
    assert isinstance(intended.event, AttemptBegun)
    row = {"action": "wire", "name": "ann", "amount": 5, "key": intended.event.idempotency_key}
    (folder / "ledger.jsonl").write_text(json.dumps(row) + "\n")
    played = resumed_after_kill(folder)
    assert len(played.effects) == 1
    assert played.result(0) == {"ok": True, "value": "wired", "labels": []}


def jittered(amount: Json, memo: str) -> dict[str, Any]:
    return turn(ledger__wire={"name": "slow-and-blind", "amount": amount, "memo": memo})


def test_a_call_with_slightly_different_arguments_does_not_repeat_an_effect_in_doubt(play: Play) -> None:
    """The probe cannot find out. A call with the same effect and other arguments counts as the same (F1, F2)."""
    played = play([BLIND, jittered(5, "again"), jittered(6, "please"), BLIND, DONE])
    assert len(played.effects) == 1
    assert [played.error(step)["code"] for step in range(4)] == ["outcome_unknown"] * 4
    assert played.error(1)["details"] == {"effect": "unknown", "call": "0.0"}
    assert "remit settle" in played.error(1)["next_step"]
    assert replayed(played).reproduced


def test_an_effect_in_doubt_does_not_block_another_effect(play: Play) -> None:
    played = play([BLIND, WIRE, DONE])
    assert [row["name"] for row in played.effects] == ["slow-and-blind", "ann"]


def test_an_effect_that_a_person_settled_as_landed_is_not_repeated(clerk: Callable[..., Path]) -> None:
    folder = clerk(
        [turn(ledger__pay={"name": "ann", "amount": 5}), turn(ledger__pay={"name": "ann", "amount": 6}), DONE]
    )
    opened = killed(folder, "attempt.begun")
    (item,) = StoredRecord(opened.journal, RUN).state.in_doubt
    assert (item.step, item.index, item.action, item.answered) == (0, 0, "ledger.pay", False)
    effect.settle_effect(StoredRecord(opened.journal, RUN), 0, 0, landed="landed", by=principal("lea"), reason="seen")
    played = resumed_after_kill(folder)
    assert played.error(0)["details"]["effect"] == "landed"
    assert "user:lea" in played.error(0)["message"]
    assert [row["amount"] for row in played.effects] == [
        6
    ]  # the model reads that it happened, and makes another payment
    assert replayed(played).reproduced


def test_an_effect_that_a_person_settled_as_not_landed_is_executed(clerk: Callable[..., Path]) -> None:
    folder = clerk([turn(ledger__pay={"name": "ann", "amount": 5}), DONE])
    opened = killed(folder, "attempt.begun")
    effect.settle_effect(
        StoredRecord(opened.journal, RUN), 0, 0, landed="not_landed", by=principal("lea"), reason="seen"
    )
    played = resumed_after_kill(folder)
    assert played.result(0)["ok"]
    assert len(played.effects) == 1
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("landed", "effects", "says"), [("landed", 1, "already had this effect"), ("not_landed", 2, "")]
)
def test_a_later_settlement_decides_if_the_same_call_can_be_repeated(
    clerk: Callable[..., Path], landed: str, effects: int, says: str
) -> None:
    """The run continued with an unknown outcome, and waits for a lead when a person settles it."""
    large = turn(ledger__pay={"name": "ben", "amount": 5000})
    folder = clerk([BLIND, large, BLIND, DONE])
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run=RUN)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    settled(played, landed)

    grant(played, "user:lea")
    after = resumed_after_kill(folder)
    assert len([row for row in after.effects if row["action"] == "wire"]) == effects
    assert says in str(after.result(2))
    assert replayed(after).reproduced


def test_a_repeated_keyed_call_with_the_same_arguments_keeps_its_key(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service gets one key and runs the call once; with other arguments the call is refused."""
    monkeypatch.setenv("LEDGER_SLOW", "1.1")
    book = turn(ledger__book={"name": "ann", "amount": 1})
    other = turn(ledger__book={"name": "ann", "amount": 2})
    played = play([book, other, book, DONE])
    assert len({row["key"] for row in played.effects}) == 1
    assert played.error(1)["details"] == {"effect": "unknown", "call": "0.0"}
    assert played.error(1)["next_step"] == "repeat it with exactly the arguments of the call at step 0"


def test_the_same_irreversible_call_twice_in_one_turn_runs_once(play: Play) -> None:
    """Models repeat parallel calls by mistake; payments of different amounts are different calls."""
    calls = [{"ledger__pay": {"name": "ann", "amount": amount}} for amount in (5, 5, 7)]
    played = play([{"say": "x", "calls": calls}, DONE])
    assert sorted(row["amount"] for row in played.effects) == [5, 7]
    assert played.error(0, 1)["details"] == {"problem": "repeated_call", "call": "0.0"}


def test_two_workers_on_one_run_repeat_no_effect(clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock, for example on a shared folder, the journal still prevents repeated effects."""

    monkeypatch.setattr("remit.journal.lease.is_alive", lambda *_: False)  # each takes over from the other
    folder = clerk([turn(ledger__pay={"name": name, "amount": 1}) for name in ("ann", "ben", "cid")] + [DONE])
    killed(folder, "call.decided")

    async def both() -> list[Any]:
        return await asyncio.gather(
            *(run.resume_run(open_session(folder), RUN, by=principal(f"worker-{n}")) for n in (1, 2)),
            return_exceptions=True,
        )

    for failure in asyncio.run(both()):
        assert not isinstance(failure, Exception) or "another process" in str(failure)
    played = resumed_after_kill(folder) if not StoredRecord(open_session(folder).journal, RUN).state.finished else None
    rows = Played(folder=folder, opened=open_session(folder), ended=None).effects if played is None else played.effects  # type: ignore[arg-type] - only the ledger is read
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names))


def test_the_command_lists_effects_in_doubt_and_settles_one(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from remit.cli import remit

    folder = clerk([turn(ledger__pay={"name": "ann", "amount": 5}), DONE])
    killed(folder, "attempt.begun")
    monkeypatch.chdir(folder)

    def settle(*args: str) -> Any:
        return CliRunner().invoke(remit, ["settle", *args], catch_exceptions=False)

    assert f"{RUN[:8]}/0.0  ledger.pay: outcome unknown" in settle().output
    assert settle(RUN[:8]).exit_code == 2
    assert "has not happened" in settle(f"{RUN[:8]}/0.0", "--not-landed", "--reason", "looked").output
    assert "no effects with unknown outcome" in settle().output
