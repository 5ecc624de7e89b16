"""`remit prices sync`: the file says what genai-prices says, and what people wrote stays.

REMIT_TURNS is the number of random turns whose price is compared, 10000 by default.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers

from remit.core.errors import UsageError
from remit.core.events import Usage
from remit.workspace import price_sync
from remit.workspace.price_sync import price_row, sync_prices
from remit.workspace.prices import ModelPrice, read_prices
from remit.workspace.session import open_session
from support.runs import DONE, Command

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TURNS = int(os.environ.get("REMIT_TURNS", "10000"))
MODELS = 200  # of those that genai-prices knows, chosen at random; each has many turns
OWN = '[[model]]\nname = "openai:local"\ninput = 0\noutput = 0\n'


def text_models() -> list[str]:
    """The models of genai-prices whose text has a price, as agent.toml would name them; not those that differ by the hour."""
    return [
        f"{provider.id}:{model.id}"
        for provider in providers
        for model in provider.models
        if not any("Time" in type(getattr(price, "constraint", None)).__name__ for price in _prices(model))
    ]


def _prices(model: Any) -> list[Any]:
    return model.prices if isinstance(model.prices, list) else []


def price(name: str) -> ModelPrice | None:
    """The price of the model, written to the file and read from it."""
    row = price_row(name, None, now=NOW)
    return None if row is None else read_prices(price_sync.text_of(row)).models[name]


def random_usage(choose: random.Random, edges: list[int]) -> Usage:
    """A turn with any parts; often one at or beside the edge of a tier."""
    length = choose.choice(
        [*edges, *(edge + 1 for edge in edges), choose.randrange(1_000_000), choose.randrange(2_000)]
    )
    read = choose.choice([0, choose.randint(0, length)])
    write = choose.choice([0, choose.randint(0, length - read)])
    output = choose.randrange(30_000)
    return Usage(
        input_tokens=length,
        output_tokens=output,
        cache_read=read,
        cache_write=write,
        cache_write_1h=choose.choice([0, choose.randint(0, write)]),
        reasoning=choose.choice([0, choose.randint(0, output)]),
    )


def theirs(name: str, usage: Usage) -> Decimal:
    provider, _, model = name.partition(":")
    counted = TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        cache_write_1h_tokens=usage.cache_write_1h,
        output_reasoning_tokens=usage.reasoning,
    )
    return calc_price(counted, model, provider_id=provider, genai_request_timestamp=NOW).total_price


def test_random_turns_of_random_models_cost_what_genai_prices_says_of_each_request() -> None:
    choose = random.Random(20261130)
    known = {name: found for name in choose.sample(text_models(), MODELS) if (found := price(name)) is not None}
    assert len(known) > MODELS / 2
    assert any(found.tiers for found in known.values())
    differing: list[tuple[str, Usage]] = []
    for turn in range(TURNS):
        name = list(known)[turn % len(known)]
        usage = random_usage(choose, [over for over, _ in known[name].tiers])
        if known[name].cost(usage) != theirs(name, usage):
            differing.append((name, usage))
    assert differing == []


@pytest.fixture
def workspace(clerk: Callable[..., Path]) -> Path:
    clerk([DONE])  # its tool is pinned in a workspace that loads
    return clerk([DONE], model="anthropic:claude-sonnet-4-5", budget="money = 5.0")


def test_a_workspace_that_does_not_load_for_want_of_a_price_loads_after_the_synchronization(
    workspace: Path, command: Command
) -> None:
    refused = command(workspace, "run", "clerk", "pay")
    assert (refused.code, "run `remit prices sync`" in refused.err) == (2, True)
    synced = command(workspace, "prices", "sync")
    assert (synced.code, synced.out.split()[:2]) == (0, ["added", "anthropic:claude-sonnet-4-5"])
    assert "review it, then commit it" in synced.out
    table = read_prices((workspace / "policies/prices.toml").read_text()).models["anthropic:claude-sonnet-4-5"]
    assert table.rates.cache_read == Decimal("0.3")
    assert [over for over, _ in table.tiers] == [200_000]
    assert open_session(workspace).workspace.limits_money("clerk")
    again = command(workspace, "prices", "sync", "--check", "--json")
    assert (again.code, json.loads(again.out)["changed"]) == (0, False)


def test_a_table_of_ones_own_stays_and_a_synchronized_one_is_corrected(workspace: Path) -> None:
    stale = '[[model]]\nname = "anthropic:claude-sonnet-4-5"\nsource = "genai-prices 0.0.1: x"\ninput = 1\noutput = 1\n'
    (workspace / "policies/prices.toml").write_text(f'currency = "EUR"\n{OWN}{stale}')
    synced = sync_prices(workspace, ["openai:gpt-5", "openai:no-such-model"], now=NOW)
    assert {model.name: model.state for model in synced.models} == {
        "anthropic:claude-sonnet-4-5": "changed",
        "openai:gpt-5": "added",
        "openai:local": "kept",
        "openai:no-such-model": "unknown",
    }
    prices = read_prices(synced.text)
    assert (prices.currency, prices.models["openai:local"].rates.input) == ("EUR", 0)
    assert prices.models["anthropic:claude-sonnet-4-5"].rates.input == 3


def test_nothing_is_written_where_nothing_has_changed_or_only_a_check_was_asked_for(
    workspace: Path, command: Command
) -> None:
    file = workspace / "policies/prices.toml"
    checked = command(workspace, "prices", "sync", "--check")
    assert (checked.code, file.exists(), "would change" in checked.out) == (1, False, True)
    command(workspace, "prices", "sync")
    written = file.read_text().replace("#:schema", "# mine\n#:schema")
    file.write_text(written)
    assert command(workspace, "prices", "sync").code == 0
    assert file.read_text() == written


def test_a_price_that_depends_on_the_hour_is_the_highest_of_the_day_and_the_file_says_so() -> None:
    hourly = next(iter(_hourly()))
    row = price_row(hourly, None, now=NOW)
    assert row is not None
    assert "the highest price of the day" in row["note"]
    provider, _, model = hourly.partition(":")
    usage = TheirUsage(input_tokens=1_000_000, output_tokens=0)
    by_hour = [
        calc_price(usage, model, provider_id=provider, genai_request_timestamp=NOW + timedelta(hours=hour)).total_price
        for hour in range(24)
    ]
    assert row["input"] == float(max(by_hour)) > float(min(by_hour))


def _hourly() -> Iterator[str]:
    for provider in providers:
        for model in provider.models:
            if any("Time" in type(getattr(item, "constraint", None)).__name__ for item in _prices(model)):
                row = price_row(f"{provider.id}:{model.id}", None, now=NOW)
                if row is not None and "note" in row:
                    yield row["name"]


def test_without_the_package_the_command_names_the_extra(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(UsageError, match=r"pip install 'remit\[prices\]'"):
        sync_prices(workspace, now=NOW)
