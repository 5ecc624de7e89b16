"""Protections of the workspace and its manifests, each with the tests that must fail without it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker import holds, receipt
from remit.broker.attempts import LiveExecutor
from remit.client import access
from remit.core import KeyScope
from remit.guardrails.grounding import numbers
from remit.guardrails.grounding.claims import Grounding
from remit.policy import engine
from remit.policy.engine import Policy
from remit.runtime import live
from remit.workspace import identity, limits, loader, own_actions, session
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.bundle import vocabulary
from remit.workspace.definitions import Tool, Workspace
from remit.workspace.manifest import manifest, pins, resolution, schema
from remit.workspace.manifest.sections import command


def read_twice(root: Path) -> tuple[Workspace, Policy]:
    """Read the rules a second time, after the recorded read."""
    found = loader.load_workspace(root)
    return found, engine.load_policy(session.policy_files(root), vocabulary(found))


class Same(str):
    """A digest that is equal to every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


ROWS: Final = (
    brokered(
        "an action with a line that is not decided does not load",
        replaced(manifest, "undecided_actions", lambda text, document: {}),
        tests=(
            "workspace/test_undecided.py::test_an_action_with_a_line_that_is_not_decided_does_not_load_and_is_named_with_its_line",
            "workspace/test_undecided.py::test_a_workspace_with_an_open_line_works_but_for_that_action",
        ),
    ),
    brokered(
        "a pin covers no action that is not decided",
        replaced(manifest, "_without_actions", lambda document, left_out: document),
        tests=("workspace/test_undecided.py::test_a_pin_never_covers_an_action_that_is_not_decided",),
    ),
    brokered(
        "the approver is the account of the operating system",
        replaced(identity, "_os_account", lambda: os.environ.get("USER", "")),
        threats="D5",
        tests=("broker/test_approvals.py::test_the_approver_is_the_account_and_what_it_may_not_do_is_in_the_trace",),
    ),
    brokered(
        "a workspace has one tenant",
        never(identity, "check_tenant"),
        tests=("client/test_principals.py::test_a_principal_of_another_tenant_may_do_nothing_here",),
    ),
    brokered(
        "a disabled principal asks for nothing",
        never(own_actions, "check_enabled"),
        tests=(
            "client/test_access.py::test_what_a_disabled_person_asked_for_is_void_and_they_can_ask_for_nothing_more",
            "client/test_access.py::test_what_a_disabled_person_approved_does_not_begin",
        ),
    ),
    brokered(
        "runs of a disabled person are held",
        replaced(holds, "requesters", lambda _: ()),
        tests=("client/test_access.py::test_a_run_of_a_disabled_person_does_not_go_on_by_the_hand_of_another",),
    ),
    brokered(
        "what a disabled person asked for is rejected",
        replaced(access, "_concerns", lambda *_: False),
        tests=("client/test_access.py::test_what_a_disabled_person_asked_for_is_void_and_they_can_ask_for_nothing_more",),
    ),
    brokered(
        "what a disabled person approved does not begin",
        replaced(access, "_concerns", lambda *_: False),
        replaced(live.LivePorts, "_approvers", lambda *_: ()),
        tests=("client/test_access.py::test_what_a_disabled_person_approved_does_not_begin",),
    ),
    brokered(
        "an API key is bounded by its scope",
        replaced(KeyScope, "covers", lambda *_: True),
        tests=("client/test_access.py::test_a_key_does_only_what_it_names_and_only_what_the_rules_allow",),
    ),
    brokered(
        "only reviewed versions of tools run",
        replaced(Tool, "pinned", True),
        never(LiveExecutor, "_check_code"),
        threats="D2 E1",
        tests=(
            "broker/test_broker.py::test_a_tool_that_changed_after_its_review_does_not_run",
            "broker/test_broker.py::test_a_tool_that_changes_in_the_middle_of_a_run_does_not_run_either",
        ),
    ),
    brokered(
        "an edited lock file is detected",
        replaced(pins, "pin_digest", lambda *_: Same("sha256:0")),
        threats="E1",
        tests=("workspace/test_pins.py::test_a_lock_that_was_edited_by_hand_is_refused",),
    ),
    brokered(
        "descriptions of tools have no hidden characters",
        never(pins, "hidden_character"),
        never(schema, "hidden_character"),
        threats="E4",
        tests=(
            "workspace/test_pins.py::test_text_that_a_reviewer_does_not_see_cannot_be_pinned_and_any_language_can",
            "workspace/test_manifest.py::test_each_invalid_key_of_a_manifest_is_one_problem_on_its_line",
        ),
    ),
    brokered(
        "arguments are validated against their schema",
        replaced(resolution, "validate", lambda _, value, **__: value),
        threats="E6",
        tests=(
            "broker/test_broker.py::test_arguments_that_are_not_exact_are_refused_and_never_repeated",
            "workspace/test_resolution.py::test_arguments_are_checked_without_coercion_and_never_repeated",
        ),
    ),
    brokered(
        "no argument of a command line becomes an option",
        replaced(command, "_reads_as_option", lambda _: False),
        threats="E6",
        tests=(
            "workspace/test_command_lines.py::test_a_value_of_another_type_or_one_that_would_be_an_option_is_refused",
            "workspace/test_command_lines.py::test_no_value_becomes_an_option_or_more_than_one_argument",
        ),
    ),
    brokered(
        "a line of a manifest that could be read in two ways is refused",
        replaced(schema, "command_rules", lambda *_: ()),
        threats="E6",
        tests=("workspace/test_command_lines.py::test_a_command_line_that_could_be_read_in_two_ways_is_refused",),
    ),
    brokered(
        "the policy and its digest come from the same read",
        replaced(session, "load_workspace_and_policy", read_twice),
        threats="E11",
        tests=(
            "policy/test_reload.py::test_a_run_records_the_rules_by_which_it_decides_even_if_the_file_changes_meanwhile",
        ),
    ),
    brokered(
        "shared limits count all runs",
        replaced(limits, "limit_claims", lambda *_, **__: {}),
        tests=("broker/test_budgets.py::test_calls_beyond_a_shared_limit_are_refused_in_the_models_order_with_the_time_to_wait",),
    ),
    brokered(
        "answers must satisfy their contract",
        replaced(AnswerContract, "check", lambda *_: ((), ())),
        tests=(
            "runtime/test_answers.py::test_an_answer_stands_on_results_of_this_run",
            "runtime/test_answers.py::test_a_guess_is_no_answer",
        ),
    ),
    brokered(
        "a grounded answer cites what the run retrieved, in its words and with its numbers",
        never(Grounding, "_check"),
        tests=(
            "guardrails/test_grounding.py::test_no_mutated_answer_is_accepted_and_each_is_refused_for_its_reason",
            "runtime/test_grounded_answers.py::test_the_right_number_from_the_wrong_section_is_refused",
            "search/test_injected_documents.py::test_an_answer_that_a_document_asks_for_has_no_source",
        ),
    ),
    brokered(
        "an answer without claims stands on a search that answered",
        replaced(receipt, "_answers", lambda _: True),
        tests=("runtime/test_grounded_answers.py::test_a_search_that_could_not_be_made_is_no_reason_to_say_that_the_documents_do_not_answer",),
    ),
    brokered(
        "each number of a claim is in its quote",
        never(Grounding, "_check_numbers"),
        tests=(
            "guardrails/test_grounding.py::test_no_mutated_answer_is_accepted_and_each_is_refused_for_its_reason",
            "runtime/test_grounded_answers.py::test_a_claim_without_its_source_is_asked_for_again_with_the_reason",
        ),
    ),
    brokered(
        "a claim adds no unit to a number of its quote",
        replaced(numbers, "units_in", lambda _: frozenset((*numbers.UNITS.values(), *numbers.QUALIFIERS))),
        tests=("guardrails/test_grounding.py::test_a_claim_adds_no_unit_that_its_quote_does_not_name",),
    ),
    brokered(
        "each link, address and account number of a claim is in its quote",
        never(Grounding, "_check_names"),
        tests=(
            "guardrails/test_grounding.py::test_no_mutated_answer_is_accepted_and_each_is_refused_for_its_reason",
            "guardrails/test_grounding.py::test_a_claim_names_nothing_outside_that_its_quote_does_not_name",
        ),
    ),
    brokered(
        "the source of a claim is unchanged and in force",
        never(Grounding, "_check_source"),
        tests=(
            "runtime/test_grounded_answers.py::test_a_document_that_is_not_in_force_is_no_source",
            "runtime/test_grounded_answers.py::test_a_text_that_changed_on_its_way_or_since_is_no_source",
        ),
    ),
    brokered(
        "an answer has one version of a document, and one number on a topic",
        never(Grounding, "_check_together"),
        tests=(
            "runtime/test_grounded_answers.py::test_two_versions_and_two_documents_that_disagree_are_refused_in_one_answer",
        ),
    ),
    brokered(
        "names inside of an argument are resolved",
        replaced(resolution, "_named_at", lambda template, path, value: (value, [])),
        tests=(
            "policy/test_ownership.py::test_one_card_of_another_customer_among_own_ones_is_denied",
            "workspace/test_resolution.py::test_names_may_stand_inside_of_an_argument_and_are_spelled_canonically_there",
        ),
    ),
    brokered(
        "an older version refuses a workspace that asks for a newer one",
        replaced(loader, "check_version", lambda files: None),
        tests=(
            "workspace/test_upgrade.py::"
            "test_an_older_program_refuses_a_newer_journal_and_workspace_with_both_versions",
        ),
    ),
)  # fmt: skip
