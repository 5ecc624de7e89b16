"""Protections of evaluations, each with the tests that must fail without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.evals import ScenarioInfo, judges, player
from remit.evals.reports import junit, markdown, report
from remit.evals.statistics import outcomes, significance
from remit.evals.statistics.outcomes import ScenarioOutcomes
from remit.evals.worlds import WorldExecutor
from remit.runtime import lifecycle
from remit.runtime.approvals_wait import ApprovalWaiter
from remit.runtime.live import LivePorts
from remit.tracing.reports.html import document

STATISTICS: Final = "evals/test_statistics.py::"
REPORTS: Final = "evals/test_reports.py::"
PLAYER: Final = "evals/test_player.py::"


def without_gaps(played: Mapping[tuple[str, int], str], scenario: ScenarioInfo) -> Iterator[str]:
    """The outcomes of a scenario in the order in which its runs ended."""
    return (outcome for (name, _), outcome in played.items() if name == scenario.name)


def played(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of how the runs of an evaluation are played; its grades are still right."""
    still = (f"{PLAYER}test_every_run_of_an_evaluation_can_be_replayed_and_none_can_be_resumed",)
    named = tuple(f"{PLAYER}{test}" for test in tests)
    return Mutation(name=name, remove=remove, tests=named, still=still, fixtures=True)


def evaluated(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of what an evaluation says; a harmless change still passes."""
    return Mutation(name=name, remove=remove, tests=tests, still=(f"{STATISTICS}test_a_harmless_change_passes",))


ROWS: Final = (
    Mutation(
        name="a call that leaves the world of a scenario never happens",
        remove=(replaced(WorldExecutor, "_is_inside", lambda self, call: True),),
        fixtures=True,
        tests=(
            f"{PLAYER}test_a_call_that_leaves_the_world_gets_the_answer_of_the_scenario_or_an_error_and_never_happens",
        ),
        still=(f"{PLAYER}test_an_evaluation_without_recorded_content_does_not_begin",),
    ),
    played(
        "an evaluation takes nothing from shared limits and opens no circuit",
        replaced(lifecycle, "EvaluationPorts", LivePorts),
        tests=("test_runs_of_an_evaluation_take_nothing_from_limits_open_no_circuit_and_are_exported_nowhere",),
    ),
    played(
        "nobody is asked to approve a call of an evaluation",
        replaced(ApprovalWaiter, "_reject", lambda self, requested, by: None),
        tests=("test_nobody_is_asked_to_approve_a_call_of_an_evaluation",),
    ),
    played(
        "a run that failed by its model has no grade",
        replaced(player, "_infrastructure", lambda timeline, result: ""),
        tests=("test_a_run_whose_model_or_operator_ends_it_has_no_grade_and_is_not_left_out",),
    ),
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
        replaced(outcomes, "_until_the_first_gap", without_gaps),
        tests=(f"{STATISTICS}test_runs_that_end_early_do_not_count_before_those_that_take_longer",),
    ),
    evaluated(
        "the chance of a false alarm is shared by all scenarios",
        replaced(significance, "SCENARIO_ALPHA", 0.9),
        tests=(
            f"{STATISTICS}test_an_equal_candidate_is_called_worse_in_at_most_five_percent_though_looked_at_after_every_run[20-4]",
        ),
    ),
    Mutation(
        name="a judge counts only with enough labelled answers",
        remove=(replaced(judges, "LEAST_ROWS", 1),),
        tests=(
            "evals/test_judges.py::test_a_judge_that_does_not_count_starts_no_evaluation_and_is_a_problem_of_the_scenario[few]",
        ),
        fixtures=True,
        still=("evals/test_judges.py::test_what_the_judge_denies_fails_the_run",),
    ),
    evaluated(
        "a scenario that the baseline does not have must pass",
        replaced(report, "_failed", lambda *_: ()),
        tests=(
            f"{REPORTS}test_a_scenario_that_the_baseline_does_not_have_as_it_is_now_must_pass_in_every_run",
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
        tests=(f"{REPORTS}test_junit_xml_is_valid_and_its_counts_are_right[hostile]",),
    ),
)  # fmt: skip
