"""Protections of approvals, each with the tests that must fail without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from adversarial.mutations.row import DECIDES, Ablation, brokered, never, replaced
from remit.broker import decisions
from remit.broker.approvals import break_glass, requests, summary
from remit.core.events import ApprovalGranted, ApprovalRejected


def of_the_first(kind: type[Any]) -> Callable[..., Any]:
    """What somebody answers is about the step's first call, as where answers are a list."""
    return lambda **given: kind(**{**given, "index": 0})


ROWS: Final = (
    Ablation(
        name="reason and end of an emergency approval",
        remove=(lambda patch: patch.setattr(requests, "_check_emergency", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_an_emergency_approval_needs_a_reason_and_an_end",),
        fixtures=True,
        still=DECIDES,
    ),
    Ablation(
        name="a second person reviews",
        remove=(lambda patch: patch.setattr(break_glass, "_check_reviewer", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_only_a_second_person_with_a_role_reviews_it",),
        fixtures=True,
        still=DECIDES,
    ),
    Ablation(
        name="a line that goes on says so",
        remove=(replaced(summary, "wrapped", lambda text, *_: text),),
        tests=("broker/test_approval_text.py::test_no_line_of_a_summary_is_too_wide",),
        still=("core/parsing/test_outside.py::test_ordinary_texts_are_read_as_before",),
    ),
    brokered(
        "the time of an approval",
        replaced(requests, "approval_expired", lambda *_: False),
        threats="D3",
        tests=(
            "broker/test_broker.py::test_an_expired_request_cannot_be_approved",
            "broker/test_approvals.py::test_a_request_that_nobody_answered_in_time_ends_as_expired",
        ),
    ),
    brokered(
        "who may approve",
        never(requests, "_check_approver"),
        threats="D5",
        tests=(
            "broker/test_broker.py::test_a_call_is_approved_only_by_another_person_with_the_role",
            "broker/test_broker.py::test_the_person_who_started_a_run_for_somebody_else_cannot_approve_its_calls",
        ),
    ),
    brokered(
        "answers for their own call",
        replaced(requests, "ApprovalGranted", of_the_first(ApprovalGranted)),
        replaced(requests, "ApprovalRejected", of_the_first(ApprovalRejected)),
        replaced(decisions, "decision_digest", lambda *_: "sha256:0"),
        threats="D8 D12",
        tests=("broker/test_approvals.py::test_answers_belong_to_their_calls_and_not_to_a_position",),
    ),
    brokered(
        "answers to open requests only",
        never(requests, "_check_open"),
        tests=("broker/test_approvals.py::test_an_approval_that_was_taken_back_does_not_count_and_another_may_be_given",),
    ),
    brokered(
        "what deceives an approver's eye",
        replaced(summary, "_escape_text", lambda text: text),
        replaced(summary, "_escape_word", lambda text: text),
        threats="D9",
        tests=("broker/test_approvals.py::test_deceptive_characters_are_escaped",),
    ),
    brokered(
        "long values told by both ends",
        replaced(summary, "LONGEST", 10**9),
        threats="D9",
        tests=("broker/test_approvals.py::test_a_long_value_shows_both_ends_its_length_and_its_digest",),
    ),
    brokered(
        "what nobody can read is said",
        replaced(summary, "_OPAQUE", 10**9),
        threats="D10",
        tests=("broker/test_approvals.py::test_a_value_that_nobody_can_read_is_marked",),
    ),
    brokered(
        "a text of the broker's own",
        replaced(requests, "approval_summary", lambda call, *_: str(call.arguments.get("memo", ""))),
        threats="D10",
        tests=("broker/test_approvals.py::test_an_approver_reads_no_description_of_the_call_by_the_model",),
    ),
    brokered(
        "a warning of haste",
        replaced(requests, "approved_within_a_minute", lambda *_, **__: []),
        threats="D11",
        tests=("broker/test_approvals.py::test_rapid_approvals_of_different_actions_are_warned_about_and_recorded",),
    ),
    brokered(
        "few requests at once",
        never(requests, "check_waiting_approvals"),
        threats="D11",
        tests=("broker/test_approvals.py::test_the_number_of_calls_that_wait_for_approval_is_limited",),
    ),
)  # fmt: skip
