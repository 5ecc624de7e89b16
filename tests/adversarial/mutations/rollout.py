"""Protections of rollouts, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Any, Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker.decisions import Decider
from remit.core.calls import Call, Request, Verdict
from remit.core.errors import RemitError
from remit.core.events import RunArm
from remit.evals import rollouts as driver
from remit.journal.storage import arm_counts
from remit.rollout import placement, rollouts
from remit.rollout.placement import CandidateRules, Placement
from remit.rollout.rollouts import find_rollout
from remit.runtime import resuming
from remit.workspace.session import WorkspaceSession


def passed_on(session: WorkspaceSession, rollout: str, failure: RemitError) -> Placement:
    raise failure


def as_on_disk(session: WorkspaceSession, arm: RunArm | None) -> Placement:
    return Placement(session=session, arm=arm)


def tried_openly(self: Decider, call: Call, request: Request, verdict: Verdict, tried: Any) -> None:
    tried.policy.judge(request)


ROWS: Final = (
    brokered(
        "opening and widening a rollout needs a rule",
        never(driver, "check_right"),
        tests=("rollout/test_rollouts.py::test_opening_and_widening_need_a_right_and_going_back_needs_none",),
    ),
    brokered(
        "the cases of the rules hold with a candidate",
        never(driver, "_check_cases"),
        tests=("rollout/test_rollouts.py::test_a_candidate_that_is_not_one_is_refused_and_nothing_is_opened",),
    ),
    brokered(
        "a stage without data is not left",
        never(driver, "missing_data"),
        tests=("rollout/test_rollouts.py::test_no_data_is_never_a_reason_to_go_on",),
    ),
    brokered(
        "a candidate's rules count only while the rollout is open and the rules on disk are the same",
        replaced(CandidateRules, "count", lambda *_: True),
        tests=(
            "rollout/test_rollouts.py::test_rules_that_are_taken_back_decide_no_further_call_of_a_run_that_goes_on",
            "rollout/test_rollouts.py::test_an_edit_of_the_rules_on_disk_counts_at_once_for_runs_of_the_candidate",
            "rollout/test_shadow.py::test_a_rollout_that_ends_in_the_middle_of_a_run_tries_nothing_more",
        ),
    ),
    brokered(
        "a candidate that cannot be used never stops a run",
        replaced(placement, "give_up", passed_on),
        tests=("rollout/test_rollouts.py::test_a_candidate_that_cannot_be_used_is_taken_back_and_the_run_goes_on_without_it",),
    ),
    brokered(
        "an exception of rules that are tried is only noted",
        replaced(Decider, "_shadow", tried_openly),
        tests=("rollout/test_shadow.py::test_a_candidate_that_fails_is_noted_and_never_touches_the_run",),
    ),
    brokered(
        "a resumed run is decided by the rules of its candidate",
        replaced(resuming, "place_again", as_on_disk),
        tests=(
            "rollout/test_rollouts.py::test_a_run_that_another_process_resumes_is_decided_by_the_rules_of_its_candidate_while_they_count[False]",
        ),
    ),
    brokered(
        "the bars are looked at before a run begins, too",
        replaced(placement, "check_bars", find_rollout),
        tests=("rollout/test_rollouts.py::test_a_process_that_dies_before_it_looks_at_the_bars_loses_no_evidence",),
    ),
    brokered(
        "an alert says that a candidate was taken back without a person",
        never(rollouts, "raise_alert"),
        tests=("rollout/test_rollouts.py::test_a_candidate_whose_runs_fail_is_taken_back_with_its_evidence_and_the_next_run_has_nothing_of_it",),
    ),
    brokered(
        "a user counts once for each bar",
        replaced(arm_counts, "_who", lambda _, run: run.run),
        tests=("rollout/test_evidence.py::test_ten_failures_of_one_user_are_one_observation",),
    ),
)  # fmt: skip
