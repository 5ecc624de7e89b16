"""The mutations of `make ablate`: each protection, how to remove it, and the tests that must fail without it.

There is one file for each package of Remit. `remove` patches the process of one run of pytest. Code that runs inside the sandbox is
bound as files, so there a line is replaced in a copy of the file, which the sandbox binds instead. Production code has no switch.
"""

from __future__ import annotations

from typing import Final

from adversarial.mutations import (
    approvals,
    authzen,
    broker,
    cli,
    console,
    core,
    counterfactual,
    egress,
    evals,
    guardrails,
    hooks,
    importing,
    inspect_ai,
    journal,
    langchain,
    live,
    mcp_clients,
    notifications,
    policy,
    remote,
    rollout,
    runtime,
    sandbox,
    search,
    server,
    service,
    tracing,
    workers,
    workspace,
)
from adversarial.mutations.row import Mutation

MUTATIONS: Final[tuple[Mutation, ...]] = (
    *sandbox.ROWS,
    *live.ROWS,
    *remote.ROWS,
    *egress.ROWS,
    *policy.ROWS,
    *authzen.ROWS,
    *approvals.ROWS,
    *core.ROWS,
    *tracing.ROWS,
    *broker.ROWS,
    *journal.ROWS,
    *workspace.ROWS,
    *langchain.ROWS,
    *runtime.ROWS,
    *rollout.ROWS,
    *guardrails.ROWS,
    *hooks.ROWS,
    *importing.ROWS,
    *evals.ROWS,
    *search.ROWS,
    *service.ROWS,
    *workers.ROWS,
    *counterfactual.ROWS,
    *inspect_ai.ROWS,
    *notifications.ROWS,
    *server.ROWS,
    *console.ROWS,
    *mcp_clients.ROWS,
    *cli.ROWS,
)
