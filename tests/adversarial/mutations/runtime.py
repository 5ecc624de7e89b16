"""Protections of the runtime, each with the tests that must fail without it."""

from __future__ import annotations

import asyncio
from typing import Final

from adversarial.mutations.row import brokered, never, replaced
from remit.core.calls import Call
from remit.core.principals import Principal
from remit.policy import reload
from remit.runtime import runner
from remit.runtime.live import LivePorts
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
)  # fmt: skip
