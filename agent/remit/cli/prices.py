"""`remit prices`: the prices of models, from which money is counted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.workspace import SyncedPrices

COLOURS = {"added": "green", "changed": "yellow", "unknown": "red"}


@click.group("prices", short_help="write the prices of models, from which money is counted")
def prices_command() -> None:
    """Write `policies/prices.toml`: what a turn of each model costs, for budgets and limits of money.

    \b
    Examples:
      remit prices sync
      remit prices sync --model openai:gpt-5
    """


@prices_command.command("sync")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="A model that no agent.toml names.")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if the file would change.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def sync_command(models: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Write today's prices of every model that an agent uses, from the package genai-prices.

    Review the file and commit it: a run reads no other prices. A table without `source` is yours and stays as it is. Exit code
    1 if a model is not known: write its table yourself.

    \b
    Examples:
      remit prices sync
      remit prices sync --model anthropic:claude-sonnet-4-5
      remit prices sync --check
    """
    from datetime import UTC, datetime

    from remit.workspace import PRICES, find_workspace, sync_prices

    root = find_workspace(Path.cwd())
    synced = sync_prices(root, models, now=datetime.now(UTC))
    if synced.changed and not check:
        (root / PRICES).parent.mkdir(exist_ok=True)
        (root / PRICES).write_text(synced.text, encoding="utf-8")
    if as_json:
        echo(json_text({"changed": synced.changed, "models": [asdict(model) for model in synced.models]}))
    else:
        _show(synced, PRICES, check=check)
    if any(model.state == "unknown" for model in synced.models) or (check and synced.changed):
        raise SystemExit(1)


def _show(synced: SyncedPrices, file: str, *, check: bool) -> None:
    for model in synced.models:
        note = f"  {model.note}" if model.note else ""
        echo(f"{style(f'{model.state:9}', fg=COLOURS.get(model.state))}  {model.name}{note}")
    if not synced.models:
        echo("no agent uses a model that has a price")
    elif synced.changed:
        echo(f"{file} would change" if check else f"wrote {file}: review it, then commit it")
