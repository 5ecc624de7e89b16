"""Circuit breakers: a tool that keeps failing is not called for a while; then one trial call finds out if it works again.

The state of a circuit is computed from the events of a stream of its own, so all runs and processes agree on it. No library is
used, because its state would exist in one process only and a restart would lose it.
"""

from __future__ import annotations

from typing import Final

from remit.core import Call, Code, Refusal
from remit.core.events import NANO, ToolFailed, ToolRecovered, ToolTrialStarted
from remit.journal import CIRCUIT_STREAM, AlreadyRecorded, Journal
from remit.workspace.manifest import Breaker

FAILURES: Final[frozenset[Code]] = frozenset({"timeout", "resource_exhausted", "tool_crashed"})


async def check_circuit(journal: Journal, call: Call, now: int) -> None:
    """Raise `circuit_open` while the circuit of the call's tool is open; after that, admit exactly one trial call.

    `now` is in Unix nanoseconds.
    """
    tool = call.action.partition(".")[0]
    circuit = journal.circuits().get(tool)
    if circuit is None or not circuit.opened_at:
        return
    if now < circuit.rests_until:
        raise _open_refusal(tool, circuit.failures, circuit.rests_until - now)
    # A trial without an end (its process died) blocks the circuit for one more pause only.
    if circuit.trials and now < circuit.tried_at + int(circuit.rest_s * NANO):
        raise _open_refusal(tool, circuit.failures, circuit.tried_at + int(circuit.rest_s * NANO) - now)
    trial = ToolTrialStarted(tool=tool, run=call.run, opened_at=circuit.opened_at, number=circuit.trials + 1)
    try:
        await journal.run_in_thread(journal.append_shared, f"{CIRCUIT_STREAM}{tool}", trial, durable=False)
    except AlreadyRecorded:  # another process started this trial first
        raise _open_refusal(tool, circuit.failures, int(circuit.rest_s * NANO)) from None


async def count_attempt(journal: Journal, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
    """Record how an attempt ended: each failure, and the first success after a failure."""
    tool = call.action.partition(".")[0]
    step, index, run = call.step, call.index, call.run
    event: ToolFailed | ToolRecovered
    if code in FAILURES:
        assert code is not None
        limit, rest_s = breaker.failures, breaker.rest
        event = ToolFailed(
            tool=tool, run=run, step=step, index=index, attempt=attempt, code=code, limit=limit, rest_s=rest_s
        )
    elif code is None and tool in journal.circuits():
        event = ToolRecovered(tool=tool, run=run, step=step, index=index, attempt=attempt)
    else:
        return
    try:
        await journal.run_in_thread(journal.append_shared, f"{CIRCUIT_STREAM}{tool}", event, durable=False)
    except AlreadyRecorded:
        return  # another worker of this run has recorded it


def _open_refusal(tool: str, failures: int, left: int) -> Refusal:
    seconds = round(max(left, 0) / NANO + 0.05, 1)
    return Refusal(
        "circuit_open",
        f"tool {tool!r} failed {failures} times in a row and is not called for {seconds:g} s",
        details={"tool": tool, "failures": failures},
        next_step=f"continue without this tool, or call it again after {seconds:g} s",
        retryable=True,
        retry_after_s=seconds,
    )
