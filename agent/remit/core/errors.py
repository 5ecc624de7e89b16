"""The errors of Remit, and who reads each.

* the model reads a `Refusal`, which becomes a `Result` with a code;
* the operator reads `RunEnded`: the run stops and the model does not see why;
* the author of the workspace reads `WorkspaceError`: nothing starts until the file is fixed.

    RemitError
    ├── WorkspaceError      a file of the workspace is not valid: file, line, what, fix
    ├── UsageError          a command was called with something that does not exist or does not fit
    ├── Refusal             a call ends with a code that the model reads
    └── RunEnded            the run ends with a code that the model never reads
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

ModelCode: TypeAlias = Literal[
    "unknown_action",
    "invalid_arguments",
    "policy_denied",
    "approval_required",
    "approval_rejected",
    "approval_expired",
    "approval_invalid",
    "held",
    "budget_exhausted",
    "rate_limited",
    "denial_loop",
    "circuit_open",
    "timeout",
    "resource_exhausted",
    "sandbox_violation",
    "tool_failed",
    "tool_crashed",
    "invalid_output",
    "content_blocked",
    "outcome_unknown",
    "cancelled",
    "diverged",
]
OperatorCode: TypeAlias = Literal["sandbox_unavailable", "unrecorded"]
Code: TypeAlias = Literal[ModelCode, OperatorCode]

# One sentence for each code; the README's table of codes is generated from these.
CODES: Final[Mapping[Code, str]] = {
    "unknown_action": "no tool of this agent has that action",
    "invalid_arguments": "the arguments are not what the action's schema accepts, or name no valid resource",
    "policy_denied": "a rule denies the call, or no rule allows it",
    "approval_required": "a person must approve the call first",
    "approval_rejected": "a person rejected the call",
    "approval_expired": "nobody approved the call in time",
    "approval_invalid": "the approval does not fit this call, or its approver may not give it",
    "held": "an operator stopped this run, agent or tool",
    "budget_exhausted": "the run has used up its budget",
    "rate_limited": "too many calls in too short a time",
    "denial_loop": "the same refused call was repeated too often",
    "circuit_open": "the tool failed repeatedly and is not called for a while",
    "timeout": "the call took longer than its limit",
    "resource_exhausted": "the call hit a limit of processor, memory, files or output",
    "sandbox_violation": "the tool tried to reach something that was not authorized",
    "tool_failed": "the tool reported one of its declared errors",
    "tool_crashed": "the tool ended without a result",
    "invalid_output": "the tool's result is not what its schema promises",
    "content_blocked": "a content rule blocks the content",
    "outcome_unknown": "the effect may or may not have happened",
    "cancelled": "the call was cancelled before it ended",
    "diverged": "the replay differs from the recorded run",
    "sandbox_unavailable": "the sandbox cannot confine tools on this machine",
    "unrecorded": "the journal cannot record, so nothing may happen",
}
assert set(CODES) == {*get_args(ModelCode), *get_args(OperatorCode)}

# Whose error it is: of Remit or its machine, of a tool, of the model, or none of theirs: rules, limits and people refuse.
ErrorSource: TypeAlias = Literal["remit", "tool", "model", "policy"]
_SOURCES: Final[Mapping[ErrorSource, tuple[Code, ...]]] = {
    "remit": ("sandbox_unavailable", "unrecorded", "diverged"),
    "tool": (
        "timeout",
        "resource_exhausted",
        "sandbox_violation",
        "tool_failed",
        "tool_crashed",
        "invalid_output",
        "circuit_open",
        "outcome_unknown",
    ),
    "model": ("unknown_action", "invalid_arguments", "denial_loop"),
    "policy": (
        "policy_denied",
        "approval_required",
        "approval_rejected",
        "approval_expired",
        "approval_invalid",
        "held",
        "budget_exhausted",
        "rate_limited",
        "content_blocked",
        "cancelled",
    ),
}
SOURCES: Final[Mapping[str, ErrorSource]] = {code: source for source, codes in _SOURCES.items() for code in codes}
assert set(SOURCES) == set(CODES)

# What a model does next, if the error has no more specific step of its own: one instruction each.
NEXT_STEPS: Final[Mapping[ModelCode, str]] = {
    "unknown_action": "call one of the listed tools, or answer without it",
    "invalid_arguments": "correct the arguments and send the call again",
    "policy_denied": "continue without this call",
    "approval_required": "continue with other work until a person approves the call",
    "approval_rejected": "do not repeat the call, and tell the user that it was rejected",
    "approval_expired": "call it again if it is still needed",
    "approval_invalid": "call it again if it is still needed",
    "held": "stop calling tools, and tell the user that an operator holds the run",
    "budget_exhausted": "give the final answer with the results that you have",
    "rate_limited": "call it again later, or continue without it",
    "denial_loop": "do not repeat the call, and tell the user that it is refused",
    "circuit_open": "continue without this tool for now",
    "timeout": "ask for less in one call, or continue without it",
    "resource_exhausted": "ask for less in one call, or continue without it",
    "sandbox_violation": "continue without this call, and tell the user that its tool needs a review",
    "tool_failed": "change the arguments as the error says, or continue without this call",
    "tool_crashed": "continue without this call, and tell the user that its tool failed",
    "invalid_output": "continue without this call, and tell the user that its tool failed",
    "content_blocked": "leave out the blocked content",
    "outcome_unknown": "do not repeat the call, and tell the user that its outcome is unknown",
    "cancelled": "continue without this call",
    "diverged": "stop",
}
assert set(NEXT_STEPS) == set(get_args(ModelCode))


class RemitError(Exception):
    """Any error that Remit itself reports."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem in one file of the workspace.

    `line` counts from 1, None for the whole file. `what` says which key or value is not valid and why, in one line without a
    full stop; `fix` says what to write instead, as an instruction.
    """

    file: str
    what: str
    fix: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.what}\n    fix: {self.fix}"


class WorkspaceError(RemitError):
    """Files of the workspace are not valid. `problems` lists every problem that was found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(RemitError):
    """A command was called with something that does not exist or does not fit."""


class Refusal(RemitError):
    """A call ends with a code that the model reads.

    `message` is at most two sentences that name the object; `next_step` is one instruction. `details` is JSON data.
    `retryable` is True if this failure alone would allow a retry; the broker also considers effect and attempts.
    `retry_after_s` is how many seconds the cause lasts, None if unknown.
    """

    def __init__(
        self,
        code: ModelCode,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        next_step: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        self.code: ModelCode = code
        self.message = message
        self.details: Mapping[str, Any] = details or {}
        self.next_step = next_step
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {message}")


class RunEnded(RemitError):
    """The run cannot continue. The operator reads why, the model does not. `run` is its id, None if it had not begun."""

    run: str | None = None

    def __init__(self, code: OperatorCode, message: str, *, fix: str) -> None:
        self.code: OperatorCode = code
        self.message = message
        self.fix = fix
        super().__init__(f"{code}: {message}\n    fix: {fix}")
