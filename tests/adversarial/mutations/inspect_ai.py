"""Protections of what Inspect AI gets from Remit, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import brokered, never, replaced
from remit.runtime import one_call
from remit.runtime.live import EvaluationPorts

ROWS: Final = (
    brokered(
        "what another program has read puts its labels on what it asks next",
        replaced(one_call, "result_labels", lambda *_: ()),
        tests=(
            "inspect_ai/test_inspect.py::test_what_the_model_has_read_counts_for_the_next_call",
            "inspect_ai/test_inspect.py::test_a_result_of_a_tool_that_the_workspace_does_not_know_is_untrusted",
        ),
    ),
    brokered(
        "advice to another program looks at holds",
        never(EvaluationPorts, "admit"),
        tests=(
            "inspect_ai/test_inspect.py::test_a_hold_and_a_count_of_calls_reject_and_a_tool_of_another_name_is_the_action_that_it_is_named",
        ),
    ),
)  # fmt: skip
