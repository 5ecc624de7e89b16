"""The money of a run: each turn is priced by itself, and a limit of money that cannot be counted is not ignored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from remit.broker.budgets import check_counted
from remit.core.errors import Refusal, UsageError, WorkspaceError
from remit.core.events import ModelResponded, Usage
from remit.journal import RunState, StoredRecord, list_runs
from remit.runtime.runner import RunRequest, start_run
from remit.workspace.session import open_session
from support.lifecycle import PRICE, RUN, TAKES, Killed, Metered, die_at, metered, replayed, resumed_after_kill
from support.principals import OPERATOR
from support.runs import DONE, Play, Played

LIMIT = '[[limit]]\nnote = "So much is enough"\nof = "money"\nmost = 1.0\nper = "1h"\n'
SONNET = """
[[model]]
name = "openai:sonnet"
input = 3
output = 15
cache_read = 0.3
cache_write = 3.75
[[model.tier]]
over = 200_000
input = 6
output = 22.5
cache_read = 0.6
cache_write = 7.5
"""
# Twenty turns of a conversation that grows from 30,000 to 182,000 tokens, of which all but 8,000 are read from the cache.
CONVERSATION = [
    Usage(input_tokens=30_000 + 8_000 * turn, output_tokens=600, cache_read=max(0, 22_000 + 8_000 * turn))
    for turn in range(20)
]


def costs(played: Played) -> list[Decimal | None]:
    return [item.event.cost for item in played.records if isinstance(item.event, ModelResponded)]


def state_of(played: Played) -> RunState:
    return StoredRecord(played.opened.journal, played.ended.run).state


def test_twenty_turns_that_read_the_cache_cost_what_the_provider_bills(clerk: Callable[..., Path]) -> None:
    """By input and output alone they would cost 6.54, and by the tier of their sum 12.99."""
    folder = clerk([DONE], steps=20, budget="money = 1.26", prices=SONNET)
    played = metered(folder, *CONVERSATION, name="openai:sonnet")
    each = [(usage.input_tokens or 0, usage.cache_read or 0) for usage in CONVERSATION]
    expected = sum((read - cached) * 3 + cached * Decimal("0.3") + 600 * 15 for read, cached in each) / 1_000_000
    assert len(costs(played)) == 20
    assert state_of(played).cost == sum(filter(None, costs(played))) == expected
    assert f"{expected:.2f}" == "1.25"
    assert replayed(played).reproduced


def test_the_turn_that_reaches_the_money_of_a_run_is_its_last(clerk: Callable[..., Path]) -> None:
    folder = clerk([DONE], steps=20, budget="money = 1.16", prices=SONNET)
    played = metered(folder, *CONVERSATION, name="openai:sonnet")
    assert len(costs(played)) == 19
    assert played.ended.finished is not None
    assert played.ended.finished.code == "budget_exhausted"
    assert "of its 1.16" in played.ended.finished.message


def test_a_turn_beyond_a_tier_pays_the_tier_for_all_of_its_tokens_and_the_sum_of_a_run_reaches_none(
    clerk: Callable[..., Path],
) -> None:
    short, long = Usage(input_tokens=150_000, output_tokens=0), Usage(input_tokens=200_001, output_tokens=0)
    played = metered(clerk([DONE], steps=3, prices=SONNET), short, short, long, name="openai:sonnet")
    assert costs(played) == [Decimal("0.45"), Decimal("0.45"), Decimal("1.200006")]


@pytest.mark.parametrize("options", [{"budget": "money = 1.0"}, {"limits": LIMIT}])
def test_limited_money_without_a_price_of_the_agents_model_is_reported(
    clerk: Callable[..., Path], options: dict[str, str]
) -> None:
    clerk([DONE])  # its tool is pinned in a workspace that loads
    folder = clerk([DONE], model="openai:gpt-5", **options)
    with pytest.raises(WorkspaceError) as found:
        open_session(folder)
    (problem,) = found.value.problems
    assert problem.file == "agent/clerk/agent.toml"
    assert "policies/prices.toml has no price of its model 'openai:gpt-5'" in problem.what
    assert "remit prices sync" in problem.fix


@pytest.mark.parametrize("options", [{"budget": "money = 1.0"}, {"limits": LIMIT}])
def test_a_run_with_limited_money_does_not_start_with_another_model_that_has_no_price(
    clerk: Callable[..., Path], options: dict[str, str]
) -> None:
    folder = clerk([DONE], **options)
    with pytest.raises(
        UsageError, match="has no price of 'openai:gpt-5': run `remit prices sync --model openai:gpt-5`"
    ):
        metered(folder, TAKES, name="openai:gpt-5")
    assert list(list_runs(open_session(folder).journal)) == []


@pytest.mark.parametrize("options", [{"budget": "money = 1.0"}, {"limits": LIMIT}])
def test_a_model_that_stops_reporting_its_tokens_gets_no_further_turn_under_limited_money(
    clerk: Callable[..., Path], options: dict[str, str]
) -> None:
    played = metered(clerk([DONE], prices=PRICE, **options), TAKES, Usage())
    assert costs(played) == [Decimal("0.0019"), None]
    assert played.ended.finished is not None
    message = "the model does not report its tokens, so the money limit cannot be enforced"
    assert (played.ended.finished.outcome, played.ended.finished.message) == ("exhausted", message)
    assert replayed(played).reproduced


def test_money_of_a_model_whose_price_was_removed_cannot_be_counted() -> None:
    with pytest.raises(Refusal, match="has no known price, so the money limit cannot be enforced"):
        check_counted(RunState(unpriced=1), ["tokens", "money"])
    check_counted(RunState(unpriced=1), ["tokens"])


def test_a_script_needs_no_price_and_costs_nothing(play: Play) -> None:
    played = play([{"say": "x", "calls": [{"ledger__look": {"name": "a"}}]}, DONE], budget="money = 0.01", limits=LIMIT)
    assert played.ended.finished is not None
    assert played.ended.finished.outcome == "completed"
    assert costs(played) == [Decimal(0), Decimal(0)]


def test_a_resumed_run_keeps_the_cost_of_its_earlier_turns_though_the_prices_have_changed(
    clerk: Callable[..., Path],
) -> None:
    folder = clerk([DONE, DONE], prices=PRICE)
    opened = open_session(folder)
    die_at(opened.journal, "call.answered")
    start = RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=Metered(TAKES), run=RUN)
    with pytest.raises(Killed):
        asyncio.run(start_run(opened, start))
    (folder / "policies/prices.toml").unlink()
    played = resumed_after_kill(folder)
    assert costs(played) == [Decimal("0.0019"), Decimal(0)]
    assert replayed(played).reproduced


def test_the_cost_of_a_turn_is_text_in_the_record_and_an_attribute_of_its_span(clerk: Callable[..., Path]) -> None:
    cached = Usage(input_tokens=900, output_tokens=100, cache_read=300, cache_write=200, reasoning=40)
    played = metered(clerk([DONE], steps=1, prices=SONNET), cached, name="openai:sonnet")
    trace = played.ended.trace.read_text()
    event = next(json.loads(line) for line in trace.splitlines() if "chat sonnet" in line)
    found = {
        item["key"]: item["value"]
        for resource in event["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
        if span["name"] == "chat sonnet"
        for item in span["attributes"]
    }
    assert found["remit.cost"] == {"stringValue": "0.00354"}
    assert found["gen_ai.usage.cache_read.input_tokens"] == {"intValue": "300"}
    assert found["gen_ai.usage.cache_creation.input_tokens"] == {"intValue": "200"}
    assert found["gen_ai.usage.reasoning.output_tokens"] == {"intValue": "40"}


def test_a_model_of_a_program_has_a_price_under_its_own_name(clerk: Callable[..., Path]) -> None:
    prices = PRICE.replace("script:script.yaml", "own:model")
    played = metered(clerk([DONE], steps=1, budget="money = 1.0", prices=prices), TAKES, name="own:model")
    assert costs(played) == [Decimal("0.0019")]
    assert Metered(TAKES).name == "script:script.yaml"
