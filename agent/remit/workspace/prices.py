"""`policies/prices.toml`: what a turn of each model costs. One table is one model."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Final

from pydantic import Field

from remit.core import FrozenModel, Problem, WorkspaceError
from remit.core.events import Usage
from remit.core.parsing import Matching, Summary, TomlTable, load_toml, read_table, toml_line

PRICES: Final = "policies/prices.toml"
FREE: Final = ("script", "call")  # kinds of models that no provider bills: a script, and the one call of `remit call`

_MILLION: Final = 1_000_000
_Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class TierTable(TomlTable):
    """Other prices of a turn that reads more than `over` tokens: they are for all of its tokens. Absent: as below it."""

    over: Annotated[int, Field(ge=0)] = Field(
        description="The turn reads more tokens than this, those of the cache included"
    )
    input: _Price | None = Field(default=None, description="A million tokens that the model reads")
    output: _Price | None = Field(default=None, description="A million tokens that the model writes")
    cache_read: _Price | None = Field(default=None, description="A million tokens read from the cache")
    cache_write: _Price | None = Field(default=None, description="A million tokens written to the cache")
    cache_write_1h: _Price | None = Field(default=None, description="A million tokens written to the cache for an hour")
    reasoning: _Price | None = Field(default=None, description="A million tokens of reasoning")


class PriceTable(TomlTable):
    """What turns of one model cost, in the file's currency."""

    name: Annotated[str, Matching(r"\S+:\S+", "the name of a model", 'write it as in agent.toml: "openai:gpt-5"')] = (
        Field(description='The model as agent.toml names it: "openai:gpt-5"')
    )
    source: Summary | None = Field(
        default=None,
        description="Where the prices are from; `remit prices sync` writes again what it has written itself",
    )
    note: Summary | None = Field(default=None, description="One line for the person who reviews the prices")
    input: _Price = Field(description="A million tokens that the model reads")
    output: _Price = Field(description="A million tokens that the model writes")
    cache_read: _Price | None = Field(
        default=None, description="A million tokens read from the cache; absent: as input"
    )
    cache_write: _Price | None = Field(
        default=None, description="A million tokens written to the cache; absent: as input"
    )
    cache_write_1h: _Price | None = Field(
        default=None, description="A million tokens written to the cache for an hour; absent: as cache_write"
    )
    reasoning: _Price | None = Field(default=None, description="A million tokens of reasoning; absent: as output")
    turn: _Price = Field(default=0, description="Each turn, whatever its length")
    tier: list[TierTable] = Field(default=[], description="Other prices for long turns")


class PricesTable(TomlTable):
    """The whole file."""

    currency: Annotated[str, Matching(r"[A-Z]{3}", "a currency", 'write "USD"')] = Field(
        default="USD", description="The currency of every price, budget and limit of money"
    )
    model: list[PriceTable] = Field(default=[], description="One table for each model")


class Rates(FrozenModel):
    """Prices of a million tokens, by what they are."""

    input: Decimal  # read, and not from the cache
    output: Decimal  # written, without reasoning
    cache_read: Decimal
    cache_write: Decimal  # for less than an hour
    cache_write_1h: Decimal
    reasoning: Decimal

    def price(self, usage: Usage) -> Decimal:
        """The price of these tokens. More tokens of a part than of the whole are all paid."""
        read, write, hour = usage.cache_read or 0, usage.cache_write or 0, usage.cache_write_1h or 0
        reasoning = usage.reasoning or 0
        return (
            max(0, (usage.input_tokens or 0) - read - max(write, hour)) * self.input
            + read * self.cache_read
            + max(0, write - hour) * self.cache_write
            + hour * self.cache_write_1h
            + max(0, (usage.output_tokens or 0) - reasoning) * self.output
            + reasoning * self.reasoning
        ) / _MILLION


class ModelPrice(FrozenModel):
    """What turns of one model cost. `tiers` are (tokens, rates), ascending: a turn that reads more tokens has these rates."""

    rates: Rates
    turn: Decimal = Decimal(0)
    tiers: tuple[tuple[int, Rates], ...] = ()

    def cost(self, usage: Usage) -> Decimal | None:
        """The exact price of one turn; None without a number of tokens."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        return self.rates_of(usage.input_tokens).price(usage) + self.turn

    def rates_of(self, input_tokens: int) -> Rates:
        """The rates of a turn that reads so many tokens."""
        return next((rates for over, rates in reversed(self.tiers) if input_tokens > over), self.rates)

    def is_ever_dearer(self, other: ModelPrice) -> bool:
        """True if some turn costs more than under the other price."""
        lengths = {0, *(over + 1 for over, _ in (*self.tiers, *other.tiers))}
        return self.turn > other.turn or any(
            getattr(self.rates_of(length), name) > getattr(other.rates_of(length), name)
            for length in lengths
            for name in Rates.model_fields
        )


class Prices(FrozenModel):
    """The prices of the models, by the name that agent.toml gives them."""

    currency: str = "USD"
    models: Mapping[str, ModelPrice] = Field(default_factory=dict)

    def knows(self, model: str) -> bool:
        """True if turns of that model have a price. A script costs nothing."""
        return model in self.models or model.partition(":")[0] in FREE

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """The price of one turn; None if the model has no price, or the turn no number of tokens."""
        if (price := self.models.get(model)) is not None:
            return price.cost(usage)
        return Decimal(0) if self.knows(model) else None


def millionths(cost: Decimal) -> int:
    """The amount in millionths of the currency, rounded up: the unit in which shared limits count."""
    return int((cost * _MILLION).to_integral_value(ROUND_CEILING))


def read_prices(text: str) -> Prices:
    """The prices of the file.

    Raises:
        WorkspaceError: with every problem of the file, its line and its fix.
    """
    table, problems = read_table(PricesTable, load_toml(text, file=PRICES), file=PRICES, text=text)
    models: dict[str, ModelPrice] = {}
    for number, row in enumerate(table.model if table else ()):
        if row.name in models:
            line = toml_line(text, "model", str(number), "name")
            what = f"the model {row.name!r} has two prices"
            problems.append(Problem(file=PRICES, line=line, what=what, fix="remove one of the two tables"))
        overs = [tier.over for tier in row.tier]
        if overs != sorted(set(overs)):
            line = toml_line(text, "model", str(number), "tier")
            what = f"the tiers of {row.name!r} are not in ascending order of 'over'"
            problems.append(Problem(file=PRICES, line=line, what=what, fix="sort them, and keep one for each number"))
        models[row.name] = price_of(row)
    if problems or table is None:
        raise WorkspaceError(problems)
    return Prices(currency=table.currency, models=models)


def price_of(row: PriceTable) -> ModelPrice:
    """The prices of one table, each tier with all of its rates."""
    given = _given(row)
    rates, tiers = _rates(given), list[tuple[int, Rates]]()
    for tier in row.tier:
        given |= _given(tier)
        tiers.append((tier.over, _rates(given)))
    return ModelPrice(rates=rates, turn=_exact(row.turn), tiers=tuple(tiers))


def _given(table: PriceTable | TierTable) -> dict[str, Decimal]:
    return {name: _exact(value) for name in Rates.model_fields if (value := getattr(table, name)) is not None}


def _rates(given: Mapping[str, Decimal]) -> Rates:
    """The rates with those that are absent: input or output stand for their parts, and cache_write for what stays an hour."""
    write = given.get("cache_write", given["input"])
    absent = {"cache_read": given["input"], "cache_write": write, "cache_write_1h": write, "reasoning": given["output"]}
    return Rates.model_validate({**absent, **given})


def _exact(number: float) -> Decimal:
    """The number as the file has it: TOML's reader has rounded it to a binary fraction, of which this is the shortest text."""
    return Decimal(str(number))
