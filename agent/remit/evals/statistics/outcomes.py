"""The outcomes of one variant, by scenario and repeat: what a comparison reads, and what a baseline keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from remit.core import FrozenModel
from remit.evals.results import Evaluation, GradeOutcome, ScenarioInfo, Variant


class ScenarioOutcomes(FrozenModel):
    """The outcomes of one scenario, in the order of its repeats: as many as `repeats` once all are played.

    `digest` is that of `ScenarioInfo`.
    """

    name: str
    digest: str
    repeats: int
    outcomes: tuple[GradeOutcome, ...]

    @property
    def passed(self) -> int:
        """How many repeats passed. An infrastructure failure is a repeat that did not."""
        return self.outcomes.count("passed")

    def first(self, repeats: int) -> ScenarioOutcomes:
        """The first repeats only."""
        return self.model_copy(update={"repeats": repeats, "outcomes": self.outcomes[:repeats]})


class VariantOutcomes(FrozenModel):
    """All outcomes of one variant of an agent."""

    agent: str
    variant: Variant
    scenarios: tuple[ScenarioOutcomes, ...]


def outcomes_of(evaluation: Evaluation, variant: str) -> VariantOutcomes:
    """The outcomes of one variant, by its name. Raises KeyError if the evaluation has no such variant.

    While runs are played in parallel, a repeat counts once all repeats before it have a grade: otherwise quick failures
    would count before slow successes.
    """
    found = {each.name: each for each in evaluation.variants}[variant]
    played: dict[tuple[str, int], GradeOutcome]
    played = {(grade.scenario, grade.repeat): grade.outcome for grade in evaluation.grades if grade.variant == variant}
    return VariantOutcomes(
        agent=evaluation.agent,
        variant=found,
        scenarios=tuple(
            ScenarioOutcomes(
                name=scenario.name,
                digest=scenario.digest,
                repeats=scenario.repeats,
                outcomes=tuple(_until_the_first_gap(played, scenario)),
            )
            for scenario in evaluation.scenarios
        ),
    )


def _until_the_first_gap(
    played: Mapping[tuple[str, int], GradeOutcome], scenario: ScenarioInfo
) -> Iterator[GradeOutcome]:
    for repeat in range(scenario.repeats):
        if (scenario.name, repeat) not in played:
            return
        yield played[scenario.name, repeat]
