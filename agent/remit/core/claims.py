"""Claims on limits that all runs of a workspace share. The journal checks and stores them in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from remit.core.errors import RemitError


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A reservation against one shared limit, made by one call or turn of one run.

    `amount` is a whole number of calls, milliseconds, bytes, tokens or millionths of the currency. `scope` names the limit and
    for whom it is counted. The claim is granted if the sum within the `window_ns` nanoseconds before `at` (Unix nanoseconds;
    0: now) stays at or below `most`. `most` None corrects a claim that was granted `at` that time: `amount` is what was
    really used less what was claimed, and is always granted.
    """

    scope: str
    amount: int
    most: int | None = None
    window_ns: int = 0
    at: int = 0


class Exhausted(RemitError):
    """The claim is larger than what is left of its limit; nothing was recorded.

    `free_at` is when it would fit, in Unix nanoseconds; None: never, because it is larger than the limit itself.
    """

    def __init__(self, claim: Claim, free_at: int | None) -> None:
        self.claim = claim
        self.free_at = free_at
        super().__init__(f"{claim.scope} is used up")
