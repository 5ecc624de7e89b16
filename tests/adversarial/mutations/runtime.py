"""Protections of the runtime, each with the tests that must fail without it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker import holds, refusals
from remit.broker.host.results import ResultReader
from remit.cli import live_output
from remit.core import threads
from remit.core.calls import Call
from remit.core.messages import ToolSpec
from remit.core.principals import Principal
from remit.guardrails.sanitizer import Sanitizer
from remit.policy import reload
from remit.replay import replayer
from remit.rollout import recorded
from remit.runtime import assembly, live, one_call, runner
from remit.runtime.custom_graph.messages import spec_of
from remit.runtime.custom_graph.parts import GraphModel
from remit.runtime.custom_graph.turns import Turns
from remit.runtime.live import LivePorts
from remit.runtime.models.wire import event_stream, turns
from remit.runtime.models.wire.chat_completions import ChatCompletionsModel
from remit.runtime.upkeep import retention
from remit.workspace import files
from remit.workspace.definitions import GraphFactory, Workspace
from remit.workspace.session import WorkspaceSession

GRAPHS: Final = "runtime/test_custom_graphs.py"
HOSTILE: Final = "runtime/test_hostile_providers.py"
_CHECK_REVOKED: Final = holds.check_revoked


async def slept(self: LivePorts, call: Call, seconds: float) -> None:
    await asyncio.sleep(seconds)


def any_user(opened: WorkspaceSession, by: Principal, user: str | None) -> str:
    return f"user:{(user or 'operator').removeprefix('user:')}"


def unreviewed(self: Workspace, agent: str) -> GraphFactory | None:
    return self.agents[agent].graph


def as_written(self: Turns, name: str, arguments: object, identifier: str) -> tuple[int, int] | None:
    """The place of the call that has this id, whatever the graph made of its arguments."""
    found = self._proposed.get(identifier)
    return None if found is None else found[0]


def offered(self: GraphModel, tool: Any, known: Mapping[str, ToolSpec]) -> ToolSpec:
    return spec_of(tool)


def of_tools(known: Any, tool: str, code: str) -> None:
    """The revocations of tools count, those of graphs do not."""
    if not tool.startswith("agent:"):
        _CHECK_REVOKED(known, tool, code)


ROWS: Final = (
    brokered(
        "a graph that nobody has reviewed drives no run",
        replaced(Workspace, "graph_of", unreviewed),
        tests=(f"{GRAPHS}::test_a_graph_that_nobody_has_reviewed_neither_runs_nor_is_replayed",),
    ),
    brokered(
        "a run makes no further call once its graph is revoked",
        replaced(live, "check_revoked", of_tools),
        threats="D2",
        tests=(f"{GRAPHS}::test_a_graph_that_is_revoked_while_it_runs_makes_no_further_call",),
    ),
    brokered(
        "no run starts or goes on with a revoked graph",
        replaced(assembly, "check_revoked", of_tools),
        threats="D2",
        tests=(f"{GRAPHS}::test_a_revoked_graph_neither_starts_nor_goes_on_and_makes_no_further_call",),
    ),
    brokered(
        "a replay executes reviewed graphs only",
        never(replayer, "_check_graph"),
        tests=(f"{GRAPHS}::test_a_graph_that_nobody_has_reviewed_neither_runs_nor_is_replayed",),
    ),
    brokered(
        "a call that a graph changed is decided again",
        replaced(Turns, "_place", as_written),
        tests=(f"{GRAPHS}::test_a_call_that_the_graph_makes_or_changes_is_decided_like_one_of_the_model",),
    ),
    brokered(
        "a model is offered only functions of its graph that agent.toml names",
        replaced(GraphModel, "_own_spec", offered),
        tests=(f"{GRAPHS}::test_a_graph_that_cannot_give_an_answer_fails_with_what_to_do",),
    ),
    brokered(
        "stock Casbin is asked before a policy is in force",
        never(runner, "check_agreement"),
        never(reload, "check_agreement"),
        threats="E11",
        tests=(
            "broker/test_casbin_decides_too.py::test_a_run_does_not_start_if_the_two_engines_disagree",
            "policy/test_agreement.py::test_an_edit_on_which_the_engines_disagree_is_not_in_force",
        ),
    ),
    brokered(
        "acting for another user needs a rule",
        replaced(runner, "acting_subject", any_user),
        threats="E5",
        tests=("workspace/test_check.py::test_acting_for_another_user_needs_a_rule",),
    ),
    brokered(
        "a hold ends the delay between two attempts",
        replaced(LivePorts, "sleep", slept),
        threats="F6",
        tests=("broker/test_retries.py::test_stop_ends_the_wait_between_two_attempts",),
    ),
    brokered(
        "an answer of a provider is valid Unicode",
        replaced(turns, "readable", lambda text: text),
        tests=(f"{HOSTILE}::test_half_a_character_anywhere_in_an_answer_is_recorded_as_a_whole_one",),
    ),
    brokered(
        "words of a provider are recorded without known secrets",
        replaced(Sanitizer, "without_known_secrets", lambda self, text: text),
        tests=(
            f"{HOSTILE}::test_a_known_secret_is_recorded_from_no_part_of_an_answer",
            "runtime/test_provider_state.py::test_a_known_secret_in_the_state_is_not_recorded",
        ),
    ),
    brokered(
        "an answer that is compressed more than once is not unpacked",
        never(ChatCompletionsModel, "_check_encoding"),
        tests=(f"{HOSTILE}::test_an_answer_that_may_grow_without_a_bound_is_not_unpacked",),
    ),
    brokered(
        "an answer cannot look like a receipt",
        replaced(live_output, "_distinct", lambda answer: answer),
        tests=("runtime/test_receipts.py::test_an_answer_cannot_print_a_receipt_of_its_own",),
    ),
    brokered(
        "words of a tool that refused arguments keep their labels when they are read again",
        replaced(ResultReader, "labels", lambda self, call: ()),
        tests=("runtime/test_context.py::test_words_of_a_tool_that_refused_arguments_have_its_labels_when_they_are_read_again",),
    ),
    brokered(
        "a decision answers the same question only under the rules and in the minute that it was made for",
        replaced(one_call._Kept, "decisions", lambda self, *_: self.decided),
        tests=(
            "client/test_remit.py::"
            "test_the_same_question_has_the_same_answer_while_the_rules_the_user_and_the_minute_are_the_same",
        ),
    ),
    brokered(
        "a function of a host tool that never returns holds up no other call",
        replaced(threads, "in_own_thread", asyncio.to_thread),
        tests=(
            "broker/test_decoding.py::"
            "test_validators_and_functions_that_never_return_hold_up_neither_other_calls_nor_the_end_of_the_run",
        ),
    ),
    brokered(
        "the values of one event of a stream are bounded",
        replaced(event_stream, "MOST_VALUES", 1 << 40),
        tests=("runtime/test_event_stream.py::test_the_values_of_one_event_are_bounded",),
    ),
    brokered(
        "a run goes on with the agent and the tools that it had",
        replaced(recorded, "with_definition", lambda session, *_: session),
        threats="D2",
        tests=(
            "runtime/test_deploy.py::test_every_run_that_waited_goes_on_as_it_began[new code]",
            "broker/test_approvals.py::test_an_approval_of_a_tool_that_changed_since_runs_the_reviewed_code_or_nothing",
        ),
    ),
    brokered(
        "no run starts or goes on with revoked code",
        never(assembly, "check_code"),
        threats="D2",
        tests=("runtime/test_deploy.py::test_revoked_code_starts_and_resumes_nowhere_although_it_is_still_pinned",),
    ),
    brokered(
        "a call of revoked code is refused before its attempt",
        never(holds, "check_revoked"),
        threats="D2",
        tests=("runtime/test_deploy.py::test_code_that_is_revoked_while_a_run_goes_on_makes_no_further_call",),
    ),
    brokered(
        "a call that another manifest made canonical does not run",
        never(refusals, "check_definition"),
        threats="D2",
        tests=(
            "runtime/test_deploy.py::test_a_person_may_accept_the_definition_on_disk_and_the_record_says_what_changed",
        ),
    ),
    brokered(
        "the code that a waiting run needs is not pruned",
        replaced(retention, "_code_objects", lambda *_: set()),
        tests=(
            "runtime/test_deploy.py::test_pruning_other_runs_keeps_what_a_waiting_run_needs",
            "sandbox/test_environments.py::test_a_run_finds_its_packages_without_network_after_every_cache_is_gone",
        ),
    ),
    brokered(
        "a run goes on with the script that it had",
        replaced(files, "_scripts", lambda _: []),
        tests=("runtime/test_deploy.py::test_a_scripted_model_goes_on_with_the_script_that_the_run_has",),
    ),
    brokered(
        "prompts and code of deleted runs are deleted with them",
        never(retention, "remove_unused_definitions"),
        tests=("runtime/test_deploy.py::test_the_folder_of_a_definition_is_removed_with_the_last_run_that_has_it",),
    ),
    brokered(
        "revoked code is not pinned",
        never(holds, "check_revoked"),
        threats="D2",
        tests=("runtime/test_deploy.py::test_revoked_code_is_not_pinned",),
    ),
)  # fmt: skip
