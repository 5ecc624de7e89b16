"""When a failed attempt is tried again, how long until then, and when trying has to end.

One budget counts every try in vain, whoever makes it: the broker again, the model anew, in these words or in others. So
layers do not multiply. A retry library was not taken: the waits must follow from the record, so that a replay has them.
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
LONGEST_WAIT_S: Final = 60.0  # that a tool may ask for; a longer one is the model's to plan with

# Codes after which the same call may succeed later, if its effect allows a second try at all.
TRANSIENT: Final[frozenset[Code]] = frozenset(
    {"timeout", "resource_exhausted", "tool_crashed", "rate_limited", "held", "circuit_open"}
)


def check_tries(facts: RunState, budget: Budget, wanted: str) -> None:
    """Raise where what is `wanted` was tried in vain too often: `denial_loop` if it was refused each time, else
    `budget_exhausted`."""
    tries = facts.tries.get(wanted, Tries())
    if tries.count >= budget.tries:
        if not tries.failed:
            raise Refusal(
                "denial_loop",
                f"the same was refused {tries.refused} times, and is not looked at any more",
                details={"refused": tries.refused},
                next_step="do without it, and say so in the answer",
            )
        raise _exhausted("tries", budget.tries, f"the same was tried {tries.count} times in vain")
    if tries.count and facts.retried >= budget.retries:
        raise _exhausted("retries", budget.retries, f"this run has tried {facts.retried} times again")


def has_tries_left(facts: RunState, budget: Budget, wanted: str) -> bool:
    """Whether the run may try that once more, after the failure that is about to be recorded."""
    return facts.retried < budget.retries and facts.tries.get(wanted, Tries()).count + 1 < budget.tries


def allows_retry(effect: Effect, retry: Retry, *, attempt: int, code: Code, error: str | None) -> bool:
    """Whether attempt number `attempt` (from 1) is followed by another; never for an irreversible action."""
    return effect != "once" and attempt < retry.attempts and (error in retry.on or code in retry.on)


def model_may_retry(effect: Effect, retry: Retry, *, code: Code, error: str | None) -> bool:
    """Whether the model may sensibly ask the same again: what the manifest calls passing, or a limit that passes."""
    if error is not None:
        return error in retry.on
    return code in TRANSIENT and (effect != "once" or code in ("held", "rate_limited", "circuit_open"))


def retry_delay(run: str, step: int, index: int, attempt: int, asked_s: float | None = None) -> float:
    """Seconds until the next attempt: exponential with full jitter and a cap (the AWS "full jitter" rule), never less than
    the tool itself asked for.

    The jitter is drawn from the call's own key, so a run waits the same when it is told again.
    """
    draw = int.from_bytes(hashlib.sha256(f"{run}/{step}/{index}/{attempt}".encode()).digest()[:8]) / 2**64
    backoff = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 30))
    return round(max(asked_s or 0.0, backoff * draw), 3)


def _exhausted(limit: str, of: int, why: str) -> Refusal:
    return Refusal(
        "budget_exhausted", why, details={"limit": limit, "of": of}, next_step="do without it, and say so in the answer"
    )
