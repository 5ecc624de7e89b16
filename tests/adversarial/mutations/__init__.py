"""Each protection, how a test takes it away, and the tests that must then fail: the rows of `make ablate`.

One file for each package of Remit. A row's `remove` patches one run of pytest, in its own process. What runs inside the sandbox is
a file, so there the protection's line is replaced in a copy of it, which the runtime is told to bind; production code has no switch.
"""

from __future__ import annotations

from typing import Final

from adversarial.mutations import (
    approvals,
    broker,
    core,
    egress,
    guardrails,
    journal,
    langchain,
    policy,
    runtime,
    sandbox,
    tracing,
    workspace,
)
from adversarial.mutations.row import Ablation

ABLATIONS: Final[tuple[Ablation, ...]] = (
    *sandbox.ROWS,
    *egress.ROWS,
    *policy.ROWS,
    *approvals.ROWS,
    *core.ROWS,
    *tracing.ROWS,
    *broker.ROWS,
    *journal.ROWS,
    *workspace.ROWS,
    *langchain.ROWS,
    *runtime.ROWS,
    *guardrails.ROWS,
)
