"""When a failed attempt is tried again, and how long until then."""

from __future__ import annotations

import hashlib
from typing import Final

from remit.call import Effect
from remit.errors import Code
from remit.manifest import Retry

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0

# Codes after which the same call may succeed later, if its effect allows a second try at all.
PASSING: Final[frozenset[Code]] = frozenset(
    {"timeout", "resource_exhausted", "tool_crashed", "rate_limited", "held", "circuit_open"}
)


def again(effect: Effect, retry: Retry, *, attempt: int, code: Code, error: str | None) -> bool:
    """Whether attempt number `attempt` (from 1) is followed by another; never for an irreversible action."""
    return effect != "once" and attempt < retry.attempts and (error in retry.on or code in retry.on)


def retryable(effect: Effect, retry: Retry, *, code: Code, error: str | None) -> bool:
    """Whether the model may sensibly ask the same again: what the manifest calls passing, or a limit that passes."""
    if error is not None:
        return error in retry.on
    return code in PASSING and (effect != "once" or code in ("held", "rate_limited", "circuit_open"))


def delay(run: str, step: int, index: int, attempt: int) -> float:
    """Seconds until the next attempt: exponential with full jitter and a cap (the AWS "full jitter" rule).

    The jitter is drawn from the call's own key, so a run waits the same when it is told again.
    """
    draw = int.from_bytes(hashlib.sha256(f"{run}/{step}/{index}/{attempt}".encode()).digest()[:8]) / 2**64
    return round(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (attempt - 1)) * draw, 3)
