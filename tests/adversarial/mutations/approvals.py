"""Protections of approvals, each with the tests that must fail without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from adversarial.mutations.row import DECIDES, Mutation, brokered, never, replaced
from remit.broker import decisions
from remit.broker.approvals import bounded, break_glass, requests, summary
from remit.core import principals
from remit.core.events import ApprovalGranted, ApprovalRejected, ApprovalState, approval_state
from remit.core.principals import Principal
from remit.workspace import own_actions


def of_the_first(kind: type[Any]) -> Callable[..., Any]:
    """Every answer is for the first call of the step, as if answers were a list."""
    return lambda **given: kind(**{**given, "index": 0})


def same_name(one: Principal, other: Principal) -> bool:
    """Only the names are compared."""
    return one.subject == other.subject


ROWS: Final = (
    Mutation(
        name="an emergency approval needs a reason and an end",
        remove=(lambda patch: patch.setattr(requests, "_check_emergency", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_an_emergency_approval_needs_a_reason_and_an_end",),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="a second person reviews an emergency approval",
        remove=(lambda patch: patch.setattr(break_glass, "_check_reviewer", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_only_a_second_person_with_a_role_reviews_it",),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="continuation lines of a summary are marked",
        remove=(replaced(summary, "wrapped", lambda text, *_: text),),
        tests=("broker/test_approval_text.py::test_no_line_of_a_summary_is_too_wide",),
        still=("core/parsing/test_bounded_readers.py::test_ordinary_texts_are_read_as_before",),
    ),
    brokered(
        "an approval request expires",
        replaced(requests, "approval_expired", lambda *_: False),
        threats="D3",
        tests=(
            "broker/test_broker.py::test_an_expired_request_cannot_be_approved",
            "broker/test_approvals.py::test_a_request_that_nobody_answered_in_time_ends_as_expired",
        ),
    ),
    brokered(
        "only another person with the role approves",
        never(requests, "_check_approver"),
        threats="D5",
        tests=(
            "broker/test_broker.py::test_a_call_is_approved_only_by_another_person_with_the_role",
            "broker/test_broker.py::test_the_person_who_started_a_run_for_another_user_cannot_approve_its_calls",
        ),
    ),
    Mutation(
        name="nobody is a second person under another account",
        remove=(replaced(principals, "same_person", same_name),),
        tests=(
            "client/test_principals.py::test_nobody_approves_their_own_call_under_another_account_or_name",
            "client/test_principals.py::test_one_person_under_two_names_is_one_of_two_approvers",
        ),
        fixtures=True,
        still=DECIDES,
    ),
    brokered(
        "an answer belongs to its own call",
        replaced(requests, "ApprovalGranted", of_the_first(ApprovalGranted)),
        replaced(requests, "ApprovalRejected", of_the_first(ApprovalRejected)),
        replaced(decisions, "decision_digest", lambda *_: "sha256:0"),
        threats="D8 D12",
        tests=("broker/test_approvals.py::test_answers_belong_to_their_calls_and_not_to_a_position",),
    ),
    brokered(
        "only open requests can be answered",
        replaced(requests, "_check_open", lambda _, requested: ApprovalState(requested=requested, seq=0, at=0)),
        tests=("broker/test_approvals.py::test_an_approval_that_was_taken_back_does_not_count_and_another_may_be_given",),
    ),
    brokered(
        "an approval that was revoked or became void does not count",
        replaced(approval_state, "_without", lambda state, *_: state),
        tests=(
            "broker/test_approval_machine.py::test_an_approval_that_was_revoked_can_be_given_again_by_the_same_person",
        ),
    ),
    brokered(
        "a later role waits until its time has come",
        replaced(
            ApprovalState,
            "accepts",
            lambda state, _: tuple(item.role for item in (*state.requested.missing, *state.requested.escalations)),
        ),
        tests=(
            "broker/test_approval_machine.py::test_a_later_role_may_answer_once_its_time_has_come_and_no_answer_is_no",
        ),
    ),
    brokered(
        "a bounded approval covers its scope only",
        replaced(bounded, "is_in_scope", lambda *_: True),
        tests=(
            "broker/test_bounded_approvals.py::test_a_call_beyond_it_is_asked_about",
            "broker/test_bounded_approvals.py::test_a_wider_pattern_covers_other_resources",
        ),
    ),
    brokered(
        "what people do with Remit itself is decided by the rules",
        replaced(own_actions, "_refusal", lambda *_: None),
        tests=(
            "workspace/test_own_actions.py::test_who_may_not_run_starts_and_resumes_nothing",
            "workspace/test_own_actions.py::test_who_may_not_hold_settle_approve_or_erase_does_none_of_it",
        ),
    ),
    brokered(
        "once a row says who may do one thing with Remit, what no row allows is refused",
        replaced(own_actions, "_is_closed", lambda *_: False),
        tests=("workspace/test_own_actions.py::test_once_a_row_says_who_may_do_one_of_them_the_others_are_refused",),
    ),
    brokered(
        "deceptive characters are escaped for approvers",
        replaced(summary, "_escape_text", lambda text: text),
        replaced(summary, "_escape_word", lambda text: text),
        threats="D9",
        tests=("broker/test_approvals.py::test_deceptive_characters_are_escaped",),
    ),
    brokered(
        "long values are shortened with both ends shown",
        replaced(summary, "LONGEST", 10**9),
        threats="D9",
        tests=("broker/test_approvals.py::test_a_long_value_shows_both_ends_its_length_and_its_digest",),
    ),
    brokered(
        "unreadable values are marked for approvers",
        replaced(summary, "_OPAQUE", 10**9),
        threats="D10",
        tests=("broker/test_approvals.py::test_a_value_that_nobody_can_read_is_marked",),
    ),
    brokered(
        "approvers read no text that the model wrote about a call",
        replaced(requests, "approval_summary", lambda call, *_: str(call.arguments.get("memo", ""))),
        threats="D10",
        tests=("broker/test_approvals.py::test_an_approver_reads_no_description_of_the_call_by_the_model",),
    ),
    brokered(
        "rapid approvals are flagged",
        replaced(requests, "approved_within_a_minute", lambda *_, **__: []),
        threats="D11",
        tests=("broker/test_approvals.py::test_rapid_approvals_of_different_actions_are_warned_about_and_recorded",),
    ),
    brokered(
        "the number of waiting approval requests is limited",
        never(requests, "check_waiting_approvals"),
        threats="D11",
        tests=("broker/test_approvals.py::test_the_number_of_calls_that_wait_for_approval_is_limited",),
    ),
)  # fmt: skip
