"""Protections of the broker, each with the tests that must fail without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker import (
    attempts,
    budgets,
    circuit_breaker,
    context,
    decisions,
    effects,
    execution,
    holds,
    retries,
)
from remit.broker.attempts import LiveExecutor
from remit.broker.broker import Broker
from remit.broker.decisions import Decider
from remit.broker.host import calls as host_calls
from remit.core.calls import Call, Decision
from remit.core.events import CallDecided
from remit.workspace.manifest import repairs

LOST: Final = effects.lost_attempt


def lenient(text: str) -> dict[str, object]:
    """Parse arguments as most frameworks do: errors become an empty object."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return dict(value) if isinstance(value, dict) else {}


DECIDE_CALL: Final = Broker._decide_call


def open_when_broken(self: Decider, call: Call, *, shadow: bool = False) -> Decision:
    """Fail open: an error of the engine allows the call."""
    try:
        return self._bound(call, shadow=shadow)
    except Exception:  # noqa: BLE001 - the mutation
        return Decision(verdict="allow", reason="allowed", message="")


async def spent_when_asked(self: Broker, *given: Any) -> CallDecided:
    """What a call takes from shared limits is taken when it waits for approval or is refused, too."""
    decided = await DECIDE_CALL(self, *given)
    if decided.call is not None and decided.decision is not None and decided.decision.verdict != "allow":
        await self._reserve(decided.call)
    return decided


def taken_for_done(function: Callable[[], Any]) -> tuple[None, Any]:
    """Every exception of the tool counts as a return."""
    try:
        return None, function()
    except BaseException:  # noqa: BLE001 - the mutation
        return None, None


def at_length(failure: BaseException) -> str:
    """The whole text of an exception."""
    try:
        return str(failure)
    except Exception:  # noqa: BLE001 - whatever a tool's own __str__ raises
        return ""


def uncut(decide: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, step, proposed_calls, *, cut=False: decide(self, step, proposed_calls)


READ_DIGEST: Final = LiveExecutor.read_digest
_TAKEN: Final[dict[tuple[str, int, int], str]] = {}


async def taken_once(self: LiveExecutor, call: Call, number: int) -> str:
    """What a call reads is looked at before it runs, and not again afterwards."""
    place = (call.run, call.step, call.index)
    if place not in _TAKEN:
        _TAKEN[place] = await READ_DIGEST(self, call, number)
    return _TAKEN[place]


ROWS: Final = (
    brokered(
        "a cached read is compared with what it would read now",
        replaced(attempts, "digest_of_reads", lambda _: "sha256:0"),
        tests=(
            "broker/test_cached_reads.py::test_a_read_after_a_write_of_the_run_runs_again",
            "broker/test_cached_reads.py::test_a_file_of_the_set_that_is_added_or_removed_makes_the_read_run_again",
            "broker/test_cached_reads.py::test_a_cached_result_is_always_what_a_fresh_read_would_be",
        ),
    ),
    brokered(
        "a read during which its files changed is not cached",
        replaced(LiveExecutor, "read_digest", taken_once),
        tests=("broker/test_cached_reads.py::test_a_file_that_changes_while_it_is_read_is_read_again",),
    ),
    brokered(
        "calls whose arguments held secrets are not cached",
        replaced(execution, "_is_exact", lambda *_: True),
        tests=("broker/test_cached_reads.py::test_reads_with_different_secrets_are_different_reads",),
    ),
    brokered(
        "an approval is bound to the call, the policy and the facts",
        replaced(decisions, "decision_digest", lambda *_: "sha256:0"),
        threats="D1 D2 D7",
        tests=(
            "broker/test_approvals.py::test_a_grant_for_another_call_or_other_arguments_runs_nothing",
            "broker/test_approvals.py::test_an_approval_is_void_once_the_rules_have_changed_and_approvers_are_asked_again",
            "broker/test_approvals.py::test_an_approval_is_void_once_a_fact_that_was_shown_has_changed",
        ),
    ),
    brokered(
        "remit stop holds calls and runs",
        replaced(holds, "hold_reason", lambda *_: None),
        tests=(
            "broker/test_broker.py::test_a_tool_on_hold_runs_nothing_until_the_hold_is_lifted",
            "broker/test_broker.py::test_a_run_on_hold_pauses_before_its_next_turn_and_continues_afterwards",
        ),
    ),
    brokered(
        "stock Casbin is asked before each effect",
        replaced(Decider, "_confirmed", lambda *_: True),
        threats="E9",
        tests=(
            "broker/test_casbin_decides_too.py::test_a_matcher_that_allows_too_much_causes_no_effect",
            "broker/test_casbin_decides_too.py::test_no_effect_happens_without_the_consent_of_casbin",
            "broker/test_casbin_decides_too.py::test_an_approved_call_that_casbin_denies_does_not_run",
        ),
    ),
    brokered(
        "error messages of tools add labels",
        replaced(execution, "WRITTEN_BY_TOOL", frozenset()),
        threats="E4",
        tests=("broker/test_broker.py::test_the_error_message_of_a_tool_labels_the_run_like_its_results",),
    ),
    brokered(
        "arguments are parsed strictly",
        replaced(repairs, "parse_arguments", lenient),
        threats="E6",
        tests=("broker/test_broker.py::test_arguments_that_are_not_exact_are_refused_and_never_repeated",),
    ),
    brokered(
        "changed arguments do not run",
        never(execution, "check_arguments_unchanged"),
        threats="E7",
        tests=("broker/test_broker.py::test_arguments_that_are_changed_after_the_decision_do_not_run",),
    ),
    brokered(
        "a validator changes nothing that was decided",
        never(execution, "check_decoded"),
        tests=(
            "broker/test_decoding.py::test_ten_validators_that_change_the_argument_of_the_resource_are_refused_and_ten_that_change_another_are_not",
            "broker/test_decoding.py::test_a_validator_that_changes_an_argument_that_a_condition_reads_is_refused",
        ),
    ),
    brokered(
        "each attempt gets a copy of the arguments",
        replaced(host_calls.copy, "deepcopy", lambda value: value),
        threats="E7",
        tests=("broker/test_broker.py::test_a_tool_that_changes_its_arguments_changes_no_later_attempt",),
    ),
    brokered(
        "a failing policy engine allows nothing",
        replaced(Decider, "decide", open_when_broken),
        threats="E9",
        tests=("broker/test_broker.py::test_a_policy_that_cannot_be_evaluated_allows_nothing",),
    ),
    brokered(
        "no call of a cut turn runs",
        replaced(Broker, "decide", uncut(Broker.decide)),
        tests=("broker/test_broker.py::test_a_turn_cut_by_length_runs_none_of_its_calls",),
    ),
    brokered(
        "an irreversible call is not retried",
        replaced(retries, "allows_retry", lambda *_, attempt, **__: attempt < 3),
        replaced(effects, "lost_attempt", lambda call, number: LOST(call, number).model_copy(update={"retry_in_s": 0.0})),
        threats="F1",
        tests=(
            "broker/test_broker.py::test_an_irreversible_call_that_times_out_after_its_effect_is_never_retried",
            "broker/test_broker.py::test_an_attempt_without_an_end_is_unknown_for_an_irreversible_call_and_retried_for_a_keyed_one",
        ),
    ),
    brokered(
        "an effect in doubt is not repeated",
        never(effects, "check_repeated_effect"),
        threats="F2",
        tests=("broker/test_effects.py::test_a_call_with_slightly_different_arguments_does_not_repeat_an_effect_in_doubt",),
    ),
    brokered(
        "the same irreversible call runs once in a turn",
        never(effects, "check_duplicate_in_step"),
        tests=("broker/test_effects.py::test_the_same_irreversible_call_twice_in_one_turn_runs_once",),
    ),
    brokered(
        "broker and model share one budget of tries",
        never(retries, "check_tries"),
        replaced(retries, "has_tries_left", lambda *_: True),
        threats="F2 F5",
        tests=(
            "broker/test_retries.py::test_the_retries_of_the_broker_and_of_the_model_share_one_budget",
            "broker/test_retries.py::test_the_number_of_retries_of_a_run_is_limited",
        ),
    ),
    brokered(
        "delays have a cap and jitter",
        replaced(retries, "retry_delay", lambda *given, **_: 2.0 ** given[3]),
        threats="F6",
        tests=("broker/test_retries.py::test_delays_grow_have_full_jitter_and_never_exceed_the_cap",),
    ),
    brokered(
        "only executed calls are charged",
        replaced(Broker, "_decide_call", spent_when_asked),
        threats="F4",
        tests=(
            "broker/test_budgets.py::test_a_call_that_is_refused_uses_no_budget",
            "broker/test_budgets.py::test_an_approved_call_spends_when_it_is_approved_and_only_once",
        ),
    ),
    brokered(
        "a host tool that exits ends only its own call",
        replaced(host_calls, "_call_and_catch", taken_for_done),
        threats="F8",
        tests=("broker/test_broker.py::test_a_host_tool_that_exits_ends_only_its_own_call",),
    ),
    brokered(
        "the circuit of a failing tool opens",
        never(circuit_breaker, "check_circuit"),
        tests=("broker/test_retries.py::test_the_circuit_of_a_failing_tool_is_open_in_every_run",),
    ),
    brokered(
        "error messages of tools are short and legible",
        replaced(execution, "LONGEST_TEXT", 10**9),
        replaced(host_calls, "message_of", at_length),
        threats="E4 F7",
        tests=(
            "guardrails/test_content.py::test_the_error_message_of_a_tool_is_short_legible_data_in_a_separate_field",
        ),
    ),
    brokered(
        "resources that the user did not name are recognized",
        replaced(context, "unnamed_resources", lambda *_: ()),
        tests=(
            "guardrails/test_open_agents.py::test_after_untrusted_text_mail_goes_only_to_recipients_that_the_user_named",
            "guardrails/test_open_agents.py::test_a_page_is_requested_only_if_the_user_or_a_named_sender_gave_its_link",
            "guardrails/test_open_agents.py::test_after_untrusted_text_own_things_are_changed_only_if_the_user_named_them",
            "search/test_injected_documents.py::test_a_call_that_a_document_asks_for_is_refused_and_the_question_is_answered",
        ),
    ),
    brokered(
        "unnamed links, addresses and accounts in arguments are recognized",
        replaced(context, "contained_kinds", lambda *_: frozenset()),
        tests=("guardrails/test_open_agents.py::test_an_outgoing_text_contains_no_unnamed_links_addresses_or_accounts",),
    ),
    brokered(
        "an action needs a request word of the user",
        replaced(context, "requests_action", lambda *_: True),
        tests=("guardrails/test_open_agents.py::test_an_action_without_resources_needs_a_request_word_of_the_user",),
    ),
    brokered(
        "values that the user did not write are recognized",
        replaced(context, "quotes_all", lambda *_: True),
        tests=("guardrails/test_open_agents.py::test_a_password_is_changed_only_to_a_value_that_the_user_wrote",),
    ),
    brokered(
        "labels of touched resources are added",
        replaced(execution, "labels_of", lambda *_: ()),
        tests=("guardrails/test_open_agents.py::test_results_of_a_labelled_resource_have_its_label",),
    ),
    brokered(
        "the scope of a run limits its calls",
        replaced(Decider, "_scope", property(lambda _: None)),
        tests=(
            "guardrails/test_open_agents.py::test_a_scope_lets_a_run_do_less_than_its_agent_may",
            "guardrails/test_open_agents.py::test_beyond_its_scope_a_run_asks_the_role_that_the_scope_names",
        ),
    ),
    brokered(
        "the number of calls in a turn is limited",
        replaced(budgets, "CALLS_PER_TURN", 200),
        tests=("adversarial/test_own_budget.py::test_a_turn_of_thousands_of_calls_costs_no_more_than_the_largest_allowed_turn",),
    ),
)  # fmt: skip
