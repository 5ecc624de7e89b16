"""What the methods of the client return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remit.core import Call, Decision, Error, Failed, Json, ModelCode, Result, Succeeded
from remit.policy import Evaluated

if TYPE_CHECKING:  # it would load what drives runs
    from remit.runtime import RunResult


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """The result of one call, and the run that recorded it.

    `result` is what a model would read. A call that waits for approval has the error `approval_required`; once a person has
    approved it, `Remit.resume(run)` continues it. `trace` is the file of its trace.
    """

    run: str
    trace: Path
    result: Result

    @property
    def ok(self) -> bool:
        """True if the call succeeded."""
        return self.result.ok

    @property
    def value(self) -> Json:
        """The value that the tool returned. None if the call failed: check `ok` first, because a tool may return None."""
        return self.result.value if isinstance(self.result, Succeeded) else None

    @property
    def error(self) -> Error | None:
        """Why the call failed; None if it succeeded."""
        return self.result.error if isinstance(self.result, Failed) else None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A decision about one call, with every rule that matches the call.

    `rules` are in the order in which they count for the decision; if no rule allows or denies the call, they include rules that
    almost match. The rules are for the operator: a model reads `decision.for_model` only.
    """

    call: Call
    decision: Decision
    rules: tuple[Evaluated, ...]


def call_result(ran: RunResult) -> CallResult:
    """The result of the one call of a run. A call without a result has an error that says what it waits for."""
    return CallResult(run=ran.run, trace=ran.trace, result=ran.first or Failed(error=_unanswered(ran)))


def _unanswered(ran: RunResult) -> Error:
    if ran.finished is not None:
        code = ran.finished.code
        if code is None or code == "sandbox_unavailable" or code == "unrecorded":  # no codes of a call
            code = "cancelled"
        return _error(code, ran.finished.message)
    if ran.held:
        step = f"lift the hold with remit start, then remit run --resume {ran.run[:8]}"
        return _error("held", ran.held, step)
    roles = ", ".join(item.role for item in ran.waiting[0].missing) if ran.waiting else "an approver"
    return _error("approval_required", f"waits for {roles}", f"remit approve show {ran.run[:8]}")


def _error(code: ModelCode, message: str, next_step: str | None = None) -> Error:
    return Error(code=code, message=message, next_step=next_step)
