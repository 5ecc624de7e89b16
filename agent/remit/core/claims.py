"""What is spent against limits that all runs of a workspace share, checked and written in one step by the store."""

from __future__ import annotations

from dataclasses import dataclass

from remit.core.errors import RemitError


@dataclass(frozen=True, kw_only=True)
class Claim:
    """So much of one limit, for one place of one run. Amounts are whole: calls, milliseconds, bytes, tokens, millionths.

    `scope` names the limit and whom it is counted for; `most` in any `window_ns` nanoseconds is granted. `most` None says
    what a claim that was granted came to in the end.
    """

    scope: str
    amount: int
    most: int | None = None
    window_ns: int = 0


class Exhausted(RemitError):
    """The claim would pass its limit; nothing was recorded. `free_at` (Unix nanoseconds) is when it would fit, None: never."""

    def __init__(self, claim: Claim, free_at: int | None) -> None:
        self.claim = claim
        self.free_at = free_at
        super().__init__(f"{claim.scope} is used up")
