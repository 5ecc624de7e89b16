"""An evaluation: what reports, comparisons and baselines read, and the form in which it is stored as JSON.

An evaluation lets each variant of an agent play each scenario several times. Each repeat is one run and has one grade.
"""

from __future__ import annotations

from remit.core import FrozenModel
from remit.core.events import Check, Grade, GradeOutcome, ScenarioInfo, Variant

__all__ = ["Check", "Evaluation", "Grade", "GradeOutcome", "ScenarioInfo", "Variant"]


class Evaluation(FrozenModel):
    """All grades of one evaluation. `started` and `ended` are Unix nanoseconds; `ended` is None while it is played."""

    id: str
    agent: str
    started: int
    ended: int | None = None
    scenarios: tuple[ScenarioInfo, ...]
    variants: tuple[Variant, ...]  # the first one is the definition on disk
    grades: tuple[Grade, ...] = ()
