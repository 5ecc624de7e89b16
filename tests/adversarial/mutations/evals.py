"""Protections of evaluations, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.evals.reports import junit, markdown
from remit.evals.statistics import outcomes, significance
from remit.evals.statistics.outcomes import ScenarioOutcomes
from remit.tracing.reports.html import document

STATISTICS: Final = "evals/test_statistics.py::"
REPORTS: Final = "evals/test_reports.py::"


def evaluated(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of what an evaluation says; a harmless change still passes."""
    return Mutation(name=name, remove=remove, tests=tests, still=(f"{STATISTICS}test_a_harmless_change_passes",))


ROWS: Final = (
    evaluated(
        "an infrastructure failure counts as not passed",
        replaced(ScenarioOutcomes, "passed", property(lambda self: sum(each != "failed" for each in self.outcomes))),
        tests=(f"{STATISTICS}test_an_infrastructure_failure_counts_as_not_passed_on_both_sides_and_is_named",),
    ),
    evaluated(
        "both sides of a comparison have equally many repeats",
        replaced(ScenarioOutcomes, "first", lambda self, _: self),
        tests=(f"{STATISTICS}test_a_base_with_fewer_repeats_is_compared_with_as_many_of_the_candidate",),
    ),
    evaluated(
        "repeats count in their order",
        replaced(outcomes, "takewhile", filter),
        tests=(f"{STATISTICS}test_runs_that_end_early_do_not_count_before_those_that_take_longer",),
    ),
    evaluated(
        "the chance of a false alarm is shared by all scenarios",
        replaced(significance, "SCENARIO_ALPHA", 0.9),
        tests=(
            f"{STATISTICS}test_an_equal_candidate_is_called_worse_in_at_most_five_percent_though_looked_at_after_every_run",
        ),
    ),
    evaluated(
        "a comment has no markup of a run",
        replaced(markdown, "code", lambda text: text),
        tests=(f"{REPORTS}test_a_comment_has_no_markup_of_a_run",),
    ),
    evaluated(
        "a page has no markup of a run",
        replaced(document, "escaped", str),
        tests=(f"{REPORTS}test_the_page_is_one_file_without_script_whose_texts_are_no_markup",),
    ),
    evaluated(
        "JUnit XML has no character that XML does not have",
        replaced(junit, "_text", str),
        tests=(f"{REPORTS}test_junit_xml_is_valid_and_its_counts_are_right",),
    ),
)  # fmt: skip
