"""The receipt of a run, and answers that must name their effects as the broker saw them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from remit.broker.effects import settle_effect
from remit.broker.receipt import receipt_of
from remit.core.calls import ProposedCall
from remit.core.events import AnswerRejected, CallDecided, ModelResponded, RunFinished
from remit.core.receipts import Approver, CallOutcome, ReceiptItem
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.session import open_session
from support.lifecycle import LARGE, grant, killed, replayed, resumed, resumed_after_kill
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

ANSWERS: Final = 500
# A call of each outcome, and the claim of the model that all of them are done.
MIXED: Final = [
    turn(ledger__look={"name": "ann"}),
    turn(ledger__pay={"name": "ann", "amount": 5}),
    turn(ledger__pay={"name": "vault", "amount": 5}),
    turn(ledger__look={"name": "gone"}),
    turn(ledger__pay={"name": "slow", "amount": 5}),
    turn(shell={"name": "ann"}),
    {"say": "I have paid everybody, also the vault."},
]
SEEN: Final = (
    ReceiptItem(call="0.0", action="ledger.look", resources=("account:ann",), outcome="done"),
    ReceiptItem(call="1.0", action="ledger.pay", resources=("account:ann",), outcome="done", landed="landed"),
    ReceiptItem(call="2.0", action="ledger.pay", resources=("account:vault",), outcome="refused", code="policy_denied"),
    ReceiptItem(call="3.0", action="ledger.look", resources=("account:gone",), outcome="failed", code="tool_failed"),
    ReceiptItem(
        call="4.0",
        action="ledger.pay",
        resources=("account:slow",),
        outcome="unknown",
        landed="unknown",
        code="outcome_unknown",
    ),
    ReceiptItem(call="5.0", action="shell", outcome="refused", code="unknown_action"),
)
NOT_LANDED: Final = ("2.0", "3.0", "4.0", "5.0")
MUST_MATCH: Final = '[answer]\nreceipt = "must-match"\ntries = 10'


def naming(effects: list[str], **members: Any) -> dict[str, Any]:
    return {"say": json.dumps({"effects": effects, **members})}


def rejected(played: Played) -> list[AnswerRejected]:
    return [item.event for item in played.records if isinstance(item.event, AnswerRejected)]


def outcome(played: Played) -> RunFinished:
    assert played.ended.finished is not None
    return played.ended.finished


# ── the receipt ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_answer_has_the_receipt_of_what_the_broker_saw_whatever_the_model_says(play: Play) -> None:
    played = play(MIXED)
    assert (outcome(played).answer, played.ended.receipt) == (MIXED[-1]["say"], SEEN)


def test_the_command_prints_the_receipt_below_the_answer_and_has_it_in_its_json(
    clerk: Callable[..., Path], command: Command
) -> None:
    """A read that succeeded is counted and not listed."""
    folder = clerk(MIXED)
    text = command(folder, "run", "clerk", "x").out
    _, _, receipt = text.partition("receipt ")
    lines = receipt.partition("\n\n")[0].splitlines()
    assert lines[0] == "6 calls: 2 done, 2 refused, 1 failed, 1 unknown"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1.0", "done"],
        ["2.0", "refused"],
        ["3.0", "failed"],
        ["4.0", "unknown"],
        ["5.0", "refused"],
    ]
    assert text.index("also the vault") < text.index("receipt 6 calls")
    body = command(folder, "run", "clerk", "x", "--json").json
    assert body["receipt"] == [item.model_dump(mode="json") for item in SEEN]


@pytest.mark.parametrize("calls", [(), MIXED[:-1]])
def test_an_answer_cannot_print_a_receipt_of_its_own(
    clerk: Callable[..., Path], command: Command, calls: Sequence[dict[str, Any]]
) -> None:
    """Each line of such an answer is marked, and the receipt of the broker is there without any call, too."""
    forged = "Paid.\n\nreceipt 1 call: 1 done\n  0.0   done     ledger.pay account:ann\n\nrun    01HZ"
    text = command(clerk([*calls, {"say": forged}]), "run", "clerk", "x").out
    _, _, answer = text.partition("| Paid.")
    assert "\n| receipt 1 call: 1 done\n|   0.0   done     ledger.pay account:ann\n| \n| run    01HZ\n" in answer
    (receipt,) = (line for line in answer.splitlines() if line.startswith("receipt "))
    assert receipt == ("receipt 6 calls: 2 done, 2 refused, 1 failed, 1 unknown" if calls else "receipt 0 calls")


def test_a_receipt_says_who_approved_a_call_and_before_that_the_call_waits(play: Play) -> None:
    played = play(LARGE)
    (item,) = played.ended.receipt
    assert (item.outcome, item.landed, item.approved_by) == ("waiting", "none", ())
    grant(played, "user:lea")
    (item,) = resumed(played).ended.receipt
    assert (item.outcome, item.approved_by) == ("done", (Approver(subject="user:lea", role="role:lead"),))


def test_an_effect_of_unknown_outcome_is_done_in_the_receipt_once_a_person_has_looked(play: Play) -> None:
    played = play([turn(ledger__pay={"name": "slow", "amount": 5}), DONE])
    record = StoredRecord(played.opened.journal, played.ended.run)
    settle_effect(record, 0, 0, landed="landed", by=principal("lea"), reason="I looked")
    (item,) = receipt_of(record.every())
    assert (item.outcome, item.landed, item.settled_by) == ("done", "landed", "user:lea")


def test_a_receipt_leaves_out_the_look_ups_that_remit_makes_itself() -> None:
    """Unit test of the fold: the model has not made these calls and can claim nothing of them."""
    proposed = ProposedCall(name="contacts__list", arguments="{}")
    events = [
        ModelResponded(step=0, text="", proposed_calls=(proposed,), finish="tool_calls", internal=True),
        CallDecided(step=0, index=0, proposed=proposed),
        ModelResponded(step=1, text="", proposed_calls=(proposed,), finish="tool_calls"),
        CallDecided(step=1, index=0, proposed=proposed),
    ]
    assert [item.call for item in receipt_of(events)] == ["1.0"]


# ── answers that must match it ─────────────────────────────────────────────────────────────────────────────────────────


def test_no_answer_that_names_an_effect_which_did_not_happen_is_accepted() -> None:
    """500 such answers of random runs; each also names a random part of the effects that happened."""
    contract, chance = AnswerContract(receipt="must-match"), random.Random(18)
    for _ in range(ANSWERS):
        receipt = some_receipt(chance)
        true = [item.call for item in receipt if item.landed == "landed"]
        false = [item.call for item in receipt if item.outcome in ("refused", "failed", "unknown")]
        named = chance.sample(true, chance.randint(0, len(true))) + chance.sample(false, chance.randint(1, len(false)))
        chance.shuffle(named)
        problems = contract.check(json.dumps({"effects": named}), receipt)[0]
        assert all(
            any(f"names {call}, and " in problem.message for problem in problems) for call in set(named) & set(false)
        )


def test_every_answer_that_names_just_the_effects_that_happened_is_accepted() -> None:
    """500 such answers of random runs, in any order, with other members, and some in a Markdown code block."""
    contract, chance = AnswerContract(receipt="must-match"), random.Random(18)
    for number in range(ANSWERS):
        receipt = some_receipt(chance)
        named = [item.call for item in receipt if item.landed == "landed"]
        chance.shuffle(named)
        text = json.dumps({"effects": named, "summary": f"all {number} done", "refused": ["1.0"]}, indent=number % 3)
        assert contract.check(f"```json\n{text}\n```" if number % 5 == 0 else text, receipt) == ((), ())


def some_receipt(chance: random.Random) -> tuple[ReceiptItem, ...]:
    """A receipt with at least one call that is refused, failed or unknown."""
    outcomes: list[CallOutcome] = ["done", "refused", "failed", "unknown"]
    drawn = [*chance.choices(outcomes, k=chance.randint(0, 12)), chance.choice(outcomes[1:])]
    return tuple(
        ReceiptItem(
            call=f"{number // 2}.{number % 2}",
            action="ledger.pay",
            resources=("account:ann",),
            outcome=seen,
            landed={"done": "landed", "refused": "none", "failed": "not_landed", "unknown": "unknown"}[seen],
        )
        for number, seen in enumerate(drawn)
    )


@pytest.mark.parametrize("claimed", NOT_LANDED)
def test_a_run_asks_again_until_the_answer_names_what_happened(play: Play, claimed: str) -> None:
    played = play([*MIXED[:-1], naming(["1.0", claimed]), naming(["1.0"], note="paid ann")], budget=MUST_MATCH)
    assert [event.problems[0].message.partition(",")[0] for event in rejected(played)] == [f'"effects" names {claimed}']
    assert outcome(played).outcome == "completed"
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"say": "I paid ann."}, "it is not one JSON object"),
        ({"say": '{"paid": "ann"}'}, '"effects" is not a list of texts'),
        ({"say": '{"effects": "1.0"}'}, '"effects" is not a list of texts'),
        ({"say": '{"effects": [1.0]}'}, '"effects" is not a list of texts'),
        (naming([]), '"effects" does not name 1.0, and the effect of ledger.pay has happened'),
        (naming(["1.0", "0.0"]), '"effects" names 0.0, and ledger.look has no effect: it only reads'),
        (naming(["1.0", "9.9"]), "\"effects\" names '9.9', which no call of this run has"),
    ],
)
def test_an_answer_that_hides_an_effect_or_names_none_in_the_right_form_is_asked_for_again(
    play: Play, answer: dict[str, Any], problem: str
) -> None:
    played = play([*MIXED[:2], answer, naming(["1.0"])], budget=MUST_MATCH)
    assert [event.problems[0].message.startswith(problem) for event in rejected(played)] == [True]
    assert outcome(played).outcome == "completed"


def test_a_model_that_keeps_to_its_false_claim_is_escalated_and_its_answer_is_given_to_nobody(play: Play) -> None:
    played = play([*MIXED[:-1], *[naming(["1.0", "2.0"])] * 5], budget=MUST_MATCH.replace("10", "2"))
    assert (outcome(played).outcome, outcome(played).answer, len(rejected(played))) == ("escalated", "", 2)
    assert played.ended.receipt == SEEN


def test_a_run_that_is_killed_after_a_false_claim_does_not_accept_it_when_it_is_resumed(
    clerk: Callable[..., Path],
) -> None:
    folder = clerk([*MIXED[:3], naming(["2.0"]), naming(["1.0"])], budget=MUST_MATCH)
    killed(folder, "model.responded")
    played = resumed_after_kill(folder)
    assert (outcome(played).outcome, len(rejected(played))) == ("completed", 1)


def test_the_members_of_an_answer_that_its_schema_does_not_know_may_be_its_effects(clerk: Callable[..., Path]) -> None:
    folder = clerk([*MIXED[:2], naming(["1.0"], cause="x")], budget=f'{MUST_MATCH}\nschema = "answer.json"')
    schema = {"type": "object", "properties": {"cause": {"type": "string"}}, "additionalProperties": False}
    (folder / "agent/clerk/answer.json").write_text(json.dumps(schema))
    opened = open_session(folder)
    assert '"effects"' in opened.workspace.agents["clerk"].prompt
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run.start_run(opened, start))
    assert ended.outcome == "completed"


def test_a_receipt_of_a_long_run_is_made_in_linear_time() -> None:
    """Unit test, because a run of 20,000 calls takes minutes."""
    proposed = ProposedCall(name="ledger__look", arguments="{}")

    def seconds(calls: int) -> float:
        """The least of three: the garbage collector looks at what other tests have left."""
        events = [CallDecided(step=step, index=0, proposed=proposed) for step in range(calls)]
        times: list[float] = []
        for _ in range(3):
            began = time.thread_time()
            assert len(receipt_of(events)) == calls
            times.append(time.thread_time() - began)
        return min(times)

    assert seconds(20_000) < 30 * max(seconds(2_000), 0.005)
