"""Writes `policies/prices.toml` from the package genai-prices, for the models in use. A run reads the file only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from remit.core import UsageError, WorkspaceError
from remit.core.parsing import TomlTable, load_toml, read_table, read_text
from remit.workspace.file_schema import AgentTable
from remit.workspace.files import WorkspaceFiles
from remit.workspace.prices import FREE, PRICES, PricesTable

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

_T = TypeVar("_T", bound=TomlTable)

SOURCE: Final = "genai-prices"
HEADER: Final = """\
#:schema ../.remit/schemas/prices.schema.json
# What turns of each model cost, for budgets and limits of money. A run reads this file and no other: review it like rules.
# `remit prices sync` writes every table whose source is genai-prices. A table of your own has no source, and stays.
"""
# The parts of a turn in the file, and their names in genai-prices.
_PARTS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "turn": "requests_kcount",
}
_BASE: Final = -1  # the level of a turn of any length
_HOURS: Final = 24
_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SyncedModel:
    """What the synchronization found for one model.

    `kept` is a table of the user's own; `unknown` is a model that genai-prices does not know: its table, if any, stays.
    """

    name: str
    state: Literal["added", "changed", "unchanged", "kept", "unknown"]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SyncedPrices:
    """The new text of `policies/prices.toml`, and what it says of each model. `changed` is True if the file differs."""

    text: str
    changed: bool
    models: tuple[SyncedModel, ...]


def sync_prices(root: Path, models: Sequence[str] = (), *, now: datetime) -> SyncedPrices:
    """The price file of the workspace with today's prices of every model that its agents use, and of `models`.

    Nothing is written. `now` decides which prices are in force.

    Raises:
        UsageError: genai-prices is not installed.
        WorkspaceError: the price file or an `agent.toml` is not valid.
    """
    before = read_text(root / PRICES, file=PRICES) if (root / PRICES).is_file() else ""
    table = _checked(PricesTable, before, PRICES)
    rows = {row.name: row.model_dump(exclude_unset=True) for row in table.model}
    addresses = {**dict.fromkeys([*rows, *models]), **_models_in_use(root)}
    found: list[SyncedModel] = []
    for name, address in sorted(addresses.items()):
        old = rows.get(name)
        if name.partition(":")[0] in FREE and old is None:
            continue
        if old is not None and not old.get("source", "").startswith(SOURCE):
            found.append(SyncedModel(name=name, state="kept"))
        elif (new := price_row(name, address, now=now)) is None:
            found.append(SyncedModel(name=name, state="unknown", note=f"write its table in {PRICES} yourself"))
        else:
            state: Literal["added", "changed", "unchanged"] = "changed"
            if old is None or _without_source(old) == _without_source(new):
                state = "added" if old is None else "unchanged"
            rows[name] = old if state == "unchanged" and old is not None else new
            found.append(SyncedModel(name=name, state=state, note=rows[name].get("note", "")))
    text = HEADER + f'currency = "{table.currency}"\n' + "".join(text_of(rows[name]) for name in sorted(rows))
    changed = any(model.state in ("added", "changed") for model in found)
    return SyncedPrices(text=text if changed else before, changed=changed, models=tuple(found))


def price_row(name: str, address: str | None, *, now: datetime) -> _Row | None:
    """The table of a model with the keys of the file; None if genai-prices has no price of its text.

    `address` is the base URL of its provider, if not the provider's own. Where the price depends on the time of day, it is the
    highest of the day.
    """
    by_hour = [_looked_up(name, address, now + timedelta(hours=hour)) for hour in range(_HOURS)]
    found = [calculation for calculation in by_hour if calculation is not None]
    levels = [_levels(calculation.model_price) for calculation in found]
    if len(levels) < _HOURS or any({"input", "output"} - level[_BASE].keys() for level in levels):
        return None
    model, provider = found[0].model, found[0].provider
    row: _Row = {"name": name, "source": f"{SOURCE} {version(SOURCE)}: {provider.id} {model.id}"[:200]}
    notes = ["the highest price of the day"] if any(level != levels[0] for level in levels) else []
    if notes := notes + _coming_changes(model.prices, now):
        row["note"] = "; ".join(notes)[:200]
    base, *tiers = _merged(levels).items()
    row |= base[1]
    if tiers:
        row["tier"] = [{"over": over, **{k: v for k, v in prices.items() if k != "turn"}} for over, prices in tiers]
    return row


def _merged(levels: Sequence[Mapping[int, Mapping[str, Decimal]]]) -> dict[int, dict[str, float]]:
    """The highest price of each part at each level, ascending."""
    merged: dict[int, dict[str, float]] = {}
    for over in sorted({over for level in levels for over in level}):
        reached = [level[max(start for start in level if start <= over)] for level in levels]
        parts = reached[0].keys()
        merged[over] = {part: float(max(prices.get(part, Decimal(0)) for prices in reached)) for part in parts}
    return merged


def _looked_up(name: str, address: str | None, at: datetime) -> PriceCalculation | None:
    """What genai-prices says of a model at that time; None if it does not know the model."""
    try:
        from genai_prices import Usage, calc_price
    except ImportError as error:
        raise UsageError("prices are read from the package 'genai-prices': pip install 'remit[prices]'") from error
    kind, _, model = name.partition(":")
    usage = Usage(input_tokens=1, output_tokens=1)
    try:
        if address is not None:
            return calc_price(usage, model, provider_api_url=address, genai_request_timestamp=at)
        return calc_price(usage, model, provider_id=kind, genai_request_timestamp=at)
    except (LookupError, ValueError):  # not known, or it has prices that do not fit together
        return None


def _levels(prices: object) -> dict[int, dict[str, Decimal]]:
    """The price of each part of a turn, by the number of tokens above which it holds."""
    given = {part: value for part, key in _PARTS.items() if (value := getattr(prices, key, None)) is not None}
    starts = {tier.start for value in given.values() for tier in getattr(value, "tiers", ())}
    levels = {over: {part: _price_above(value, over) for part, value in given.items()} for over in (_BASE, *starts)}
    if "turn" in given:
        for level in levels.values():
            level["turn"] /= 1000
    return levels


def _price_above(value: Any, over: int) -> Decimal:
    """One price of genai-prices for a turn of more than `over` tokens: a number, or a base with tiers."""
    if isinstance(value, Decimal):
        return value
    reached: list[tuple[int, Decimal]] = [(tier.start, tier.price) for tier in value.tiers if tier.start <= over]
    base: Decimal = value.base
    return max(reached)[1] if reached else base


def _coming_changes(prices: object, now: datetime) -> list[str]:
    """When the price changes, if it is known already."""
    conditional = cast("Sequence[Any]", prices) if isinstance(prices, list) else ()
    dates = [getattr(item.constraint, "start_date", None) for item in conditional]
    coming = sorted(date for date in dates if date is not None and date > now.date())
    return [f"changes on {coming[0]}: synchronize again then"] if coming else []


def _models_in_use(root: Path) -> dict[str, str | None]:
    """The models that agents name, each with the address of its provider, if agent.toml has one."""
    files = WorkspaceFiles(root).files
    models: dict[str, str | None] = {}
    for file, data in files.items():
        if file.startswith("agent/") and file.endswith("/agent.toml"):
            table = _checked(AgentTable, data.decode(), file)
            named = table.models if table.models is not None else [table.model] if table.model is not None else []
            models |= {model: table.base_url if model == named[0] else None for model in named} | table.base_urls
    return models


def _checked(kind: type[_T], text: str, file: str) -> _T:
    table, problems = read_table(kind, load_toml(text, file=file), file=file, text=text)
    if table is None:
        raise WorkspaceError(problems)
    return table


def _without_source(row: _Row) -> _Row:
    return {key: value for key, value in row.items() if key != "source"}


def text_of(row: _Row) -> str:
    """One table of the file, as TOML."""
    keys = ("name", "source", "note", *_PARTS)
    lines = ["", "[[model]]", *(f"{key} = {_toml(row[key])}" for key in keys if row.get(key) is not None)]
    for tier in row.get("tier", ()):
        keys = ("over", *_PARTS)
        lines += ["[[model.tier]]", *(f"{key} = {_toml(tier[key])}" for key in keys if tier.get(key) is not None)]
    return "\n".join(lines) + "\n"


def _toml(value: str | float) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value == int(value):
        return f"{int(value):_}"
    return format(Decimal(str(value)), "f")
