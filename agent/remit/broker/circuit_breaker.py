"""Circuits: a tool that fails by itself again and again rests for a while, then one call tries whether it works.

What is known of a tool is folded from events in the run named `workspace`, so every run and every process sees the same.
A library's breaker was not taken: its state would live in one process, and a restart would forget what failed.
"""

from __future__ import annotations

from typing import Final

from remit.core import Call, Code, Refusal
from remit.core.events import NANO, ToolFailed, ToolRecovered, ToolTrialStarted
from remit.journal import AlreadyRecorded, Record
from remit.workspace.manifest import Breaker

FAILURES: Final[frozenset[Code]] = frozenset({"timeout", "resource_exhausted", "tool_crashed"})


def check_circuit(shared: Record, call: Call, now: int) -> None:
    """Raise `circuit_open` while the call's tool rests; after its rest, let exactly one call through, whoever asks first.

    `shared` is the record of the run named `workspace`, `now` Unix nanoseconds.
    """
    tool = call.action.partition(".")[0]
    circuit = shared.facts.circuits.get(tool)
    if circuit is None or not circuit.opened_at:
        return
    if now < circuit.rests_until:
        raise _open_refusal(tool, circuit.failures, circuit.rests_until - now)
    # A trial that never came back, because its process died, gives way to another.
    if circuit.trials and now < circuit.tried_at + int(circuit.rest_s * NANO):
        raise _open_refusal(tool, circuit.failures, circuit.tried_at + int(circuit.rest_s * NANO) - now)
    trial = ToolTrialStarted(tool=tool, run=call.run, opened_at=circuit.opened_at, number=circuit.trials + 1)
    try:
        shared.append(trial, durable=False)
    except AlreadyRecorded:
        raise _open_refusal(tool, circuit.failures, int(circuit.rest_s * NANO)) from None


def count_attempt(shared: Record, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
    """Take note of how an attempt ended: of failures, and of the first success after one."""
    tool = call.action.partition(".")[0]
    shared.refresh()
    step, index, run = call.step, call.index, call.run
    event: ToolFailed | ToolRecovered
    if code in FAILURES:
        assert code is not None
        limit, rest_s = breaker.failures, breaker.rest
        event = ToolFailed(
            tool=tool, run=run, step=step, index=index, attempt=attempt, code=code, limit=limit, rest_s=rest_s
        )
    elif code is None and tool in shared.facts.circuits:
        event = ToolRecovered(tool=tool, run=run, step=step, index=index, attempt=attempt)
    else:
        return
    try:
        shared.append(event)
    except AlreadyRecorded:
        return  # another worker on this run has told


def _open_refusal(tool: str, failures: int, left: int) -> Refusal:
    seconds = round(max(left, 0) / NANO + 0.05, 1)
    return Refusal(
        "circuit_open",
        f"tool {tool!r} failed {failures} times in a row and rests for {seconds:g} s",
        details={"tool": tool, "failures": failures},
        next_step="go on with something else, or ask again after that",
        retryable=True,
        retry_after_s=seconds,
    )
