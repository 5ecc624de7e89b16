"""What each run of an agent says of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.core.events import NANO
from remit.evals.monitoring.detector import Observation
from remit.journal import RunSummary

Kind: TypeAlias = Literal[
    "refusals",  # runs in which at least one call was refused
    "failures",  # runs that did not complete
    "approvals",  # runs in which people were asked
    "latency",  # seconds of a run
    "cost",  # money of a run
    "actions",  # runs in which a call of one action succeeded
]
KINDS: Final = 6


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of an agent: a value for each of its `runs`, in the order in which they ended.

    `action` is that of "actions", "" for others. `weight` is the part of all false alarms that this measure may raise. The
    detector looks from `first` on.
    """

    kind: Kind
    runs: Sequence[RunSummary]
    values: Sequence[float]
    weight: float
    action: str = ""
    first: int = 0

    @property
    def name(self) -> str:
        return f"use of {self.action}" if self.action else self.kind

    @property
    def is_share(self) -> bool:
        """True if the values are 0 and 1, so that their mean is a share of the runs."""
        return self.kind not in ("latency", "cost")

    @property
    def observations(self) -> list[Observation]:
        return [Observation(run=run.run, value=value) for run, value in zip(self.runs, self.values, strict=True)]


def measures(runs: Sequence[RunSummary]) -> list[Measure]:
    """The measures of the finished runs of one agent, in the order in which they ended.

    Latency and cost are those of completed runs only: a run that is refused early is short and cheap. A run that asked people has
    no latency of its own, because it waited for them.
    """
    shares: dict[Kind, list[float]] = {
        "refusals": [float(run.denied > 0) for run in runs],
        "failures": [float(run.outcome != "completed") for run in runs],
        "approvals": [float(run.asked > 0) for run in runs],
    }
    found = [Measure(kind=kind, runs=runs, values=values, weight=1 / KINDS) for kind, values in shares.items()]
    completed = [run for run in runs if run.outcome == "completed"]
    timed = [run for run in completed if not run.asked]
    priced = [(run, float(run.cost)) for run in completed if run.cost is not None]
    found.append(Measure(kind="latency", runs=timed, values=[seconds(run) for run in timed], weight=1 / KINDS))
    found.append(
        Measure(
            kind="cost",
            runs=[run for run, _ in priced],
            values=[cost for _, cost in priced],
            weight=1 / KINDS,
        )
    )
    return found + _uses(runs)


def seconds(run: RunSummary) -> float:
    """How long a finished run took, from its start to its end."""
    return ((run.ended_at or run.started_at) - run.started_at) / NANO


def _uses(runs: Sequence[RunSummary]) -> list[Measure]:
    """A measure for each action. The detector looks at an action after its first use, because before it knows no such action."""
    first: dict[str, int] = {}
    for number, run in enumerate(runs):
        for action in run.actions:
            first.setdefault(action, number + 1)
    return [
        Measure(
            kind="actions",
            action=action,
            runs=runs,
            values=[float(run.actions.get(action, 0) > 0) for run in runs],
            weight=1 / (KINDS * len(first)),
            first=number,
        )
        for action, number in first.items()
    ]
