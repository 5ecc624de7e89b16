"""The targets of an agent or of an action: what its live runs should take and cost. A target refuses nothing; `remit targets` compares."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from remit.core import FrozenModel
from remit.core.parsing import Duration, TomlTable, duration

Money = Annotated[float, Field(gt=0)]


class TargetTable(TomlTable):
    """What `remit targets` compares live runs with. Absent: nothing is compared."""

    p95: Duration | None = Field(
        default=None, description='The time within which 95 % of the calls, or of the completed runs, should end: "2s"'
    )
    money_per_run: Money | None = Field(
        default=None, description="What a run should cost on average, in the currency of policies/prices.toml"
    )
    money_per_month: Money | None = Field(default=None, description="What all runs of 30 days should cost")


class Target(FrozenModel):
    """The targets of an agent or of an action; None: there is none. `p95` is in seconds."""

    p95: float | None = None
    money_per_run: float | None = None
    money_per_month: float | None = None


def target_of(table: TargetTable) -> Target:
    """The targets that a file gives."""
    return Target(
        p95=None if table.p95 is None else duration(table.p95),
        money_per_run=table.money_per_run,
        money_per_month=table.money_per_month,
    )
