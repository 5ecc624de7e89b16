"""Retries: if a failed attempt is repeated, after which delay, and when retries end.

One budget counts every failed try of the broker and of the model, also with other arguments, so the retries of the two layers
do not multiply. No retry library is used, because delays must follow from the record for a replay to reproduce them.
"""

from __future__ import annotations

import hashlib
from typing import Final

from remit.core import Code, Effect, Refusal
from remit.journal import RunState, Tries
from remit.workspace import Budget
from remit.workspace.manifest import Retry

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
LONGEST_WAIT_S: Final = 60.0  # the longest delay of a tool that the broker waits for; a longer one is left to the model

# Codes after which the same call can succeed later, if its effect allows a retry.
TRANSIENT: Final[frozenset[Code]] = frozenset(
    {"timeout", "resource_exhausted", "tool_crashed", "rate_limited", "held", "circuit_open"}
)


def check_tries(state: RunState, budget: Budget, purpose: str) -> None:
    """Raise if too many tries of the same purpose failed.

    `purpose` identifies equivalent calls (`journal.retry_key`).

    Raises:
        Refusal: `denial_loop` if every try was refused, else `budget_exhausted`.
    """
    tries = state.tries.get(purpose, Tries())
    if tries.count >= budget.tries:
        if not tries.failed:
            raise Refusal(
                "denial_loop",
                f"equivalent calls were refused {tries.refused} times; further ones are rejected",
                details={"refused": tries.refused},
                next_step="continue without this call, and report that it was refused",
            )
        raise _exhausted(
            "tries", budget.tries, f"equivalent calls failed {tries.count} times; further ones are rejected"
        )
    if tries.count and state.retried >= budget.retries:
        raise _exhausted("retries", budget.retries, f"the run has used all of its {budget.retries} retries")


def has_tries_left(state: RunState, budget: Budget, purpose: str) -> bool:
    """True if another try is allowed after the failure that is about to be recorded."""
    return state.retried < budget.retries and state.tries.get(purpose, Tries()).count + 1 < budget.tries


def allows_retry(effect: Effect, retry: Retry, *, attempt: int, code: Code, error: str | None) -> bool:
    """True if the broker repeats the call after attempt number `attempt` (from 1); never for an irreversible action."""
    return effect != "once" and attempt < retry.attempts and (error in retry.on or code in retry.on)


def model_may_retry(effect: Effect, retry: Retry, *, code: Code, error: str | None) -> bool:
    """True if the same call of the model can succeed later: the manifest lists the error, or the code is transient."""
    if error is not None:
        return error in retry.on
    return code in TRANSIENT and (effect != "once" or code in ("held", "rate_limited", "circuit_open"))


def retry_delay(run: str, step: int, index: int, attempt: int, asked_s: float | None = None) -> float:
    """Seconds until the next attempt: exponential backoff with full jitter and a cap, and at least `asked_s`, which the tool set.

    Full jitter is the rule of the AWS Architecture Blog ("Exponential Backoff And Jitter"). The jitter is derived from the key
    of the call, so a replay computes the same delay.
    """
    draw = int.from_bytes(hashlib.sha256(f"{run}/{step}/{index}/{attempt}".encode()).digest()[:8]) / 2**64
    backoff = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 30))
    return round(max(asked_s or 0.0, backoff * draw), 3)


def _exhausted(limit: str, of: int, why: str) -> Refusal:
    return Refusal(
        "budget_exhausted",
        why,
        details={"limit": limit, "of": of},
        next_step="continue without this call, and report its failure",
    )
