"""What a call reads from outside its run's record: the seam that a replay answers from the recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from remit.core import Call, Code, Failed, Request
from remit.journal import Record, RunState
from remit.policy import Policy
from remit.workspace import Measure
from remit.workspace.manifest import Breaker


class ExecutionPorts(Protocol):
    """What a call reads from outside its run's record, so that a replay can answer it from the recording."""

    def clock(self, step: int, index: int) -> int:
        """Unix nanoseconds, for what happens next in that call."""
        ...

    def policy(self, step: int, index: int) -> Policy:
        """The rules in force now."""
        ...

    def casbin_allows(self, call: Call, policy: Policy, request: Request) -> bool:
        """Whether stock Casbin allows, under those rules, what was decided about the call."""
        ...

    def quoted_by_user(self, step: int, index: int) -> bool | None:
        """Whether the user said all texts of that call, where its arguments were not recorded whole; None: look at them."""
        ...

    def run_state(self, record: Record, call: Call, decision_digest: str) -> RunState:
        """What that decision about the call may stand on."""
        ...

    def admit(self, call: Call) -> None:
        """Raise a refusal where something outside this run stands in the way: an operator's hold, a tool that rests, a graph
        that went on without the call."""
        ...

    def attempt_ended(self, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
        """Take note, for all runs, of how an attempt of that tool ended."""
        ...

    async def wait_until_stopped(self, call: Call, until: int) -> tuple[Code, str]:
        """Return once what the call does must end: its code, and why. `until` is Unix nanoseconds."""
        ...

    def awaits_answers(self, call: Call) -> bool:
        """Whether people have yet to be heard here; live, only the journal knows. Raises the refusal of a call that was given
        up while people were asked."""
        ...

    def lost_secret_result(self, step: int, index: int) -> Failed | None:
        """How a call ended whose secret only another process heard; None where that is not recorded."""
        ...

    async def sleep(self, call: Call, seconds: float) -> None:
        """Wait that long before the next attempt, or until somebody holds the call."""
        ...

    def reserve(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        """Reserve that much of what all runs share, for a call or (None) for the step's turn; once, however often asked.

        Raises a refusal `rate_limited` or `budget_exhausted`, with the time to come back.
        """
        ...

    def record_usage(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        """Say what a reservation came to."""
        ...
