"""Protections of the runtime, each with the tests that must fail without it."""

from __future__ import annotations

import asyncio
from typing import Final

from adversarial.mutations.row import brokered, never, replaced
from remit.broker import holds, refusals
from remit.core.calls import Call
from remit.core.principals import Principal
from remit.policy import reload
from remit.rollout import recorded
from remit.runtime import assembly, runner
from remit.runtime.live import LivePorts
from remit.runtime.upkeep import retention
from remit.workspace.session import WorkspaceSession


async def slept(self: LivePorts, call: Call, seconds: float) -> None:
    await asyncio.sleep(seconds)


def any_user(opened: WorkspaceSession, by: Principal, user: str | None) -> str:
    return f"user:{(user or 'operator').removeprefix('user:')}"


ROWS: Final = (
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
        tests=("runtime/test_deploy.py::test_pruning_other_runs_keeps_what_a_waiting_run_needs",),
    ),
)  # fmt: skip
