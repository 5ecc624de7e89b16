"""How an attempt or a probe ended, before it is sanitized, and what that says of the effect."""

from __future__ import annotations

from dataclasses import dataclass

from remit.core import Call, Change, Code, Connection, DeniedAccess, Json, Landed, ReachedLimit, Refusal, ResourceUsage


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """The outcome of one attempt before it is sanitized. If `code` is None, `value` is the result."""

    code: Code | None
    value: Json = None
    error: str | None = None
    message: str = ""
    next_step: str | None = None
    retry_after_s: float | None = None
    landed: Landed = "none"
    changes: tuple[Change, ...] = ()
    refused: tuple[DeniedAccess, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: ResourceUsage = ResourceUsage()
    limit: ReachedLimit | None = None
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class ProbeOutcome:
    """The outcome of a probe of an effect. `value` is what the call would have returned; None unless it landed."""

    landed: Landed
    value: Json = None
    reason: str = ""


def landed(call: Call, code: Code | None, *, entered: bool = True) -> Landed:
    """What is known about the effect after an attempt that ended with `code`; `entered` is False if it ran no function.

    Files reach the working folder only when the broker commits them. A failed attempt that writes only files has therefore
    not landed. With a declared error the tool itself states that nothing happened.
    """
    if call.effect == "read":
        return "none"
    if not entered:
        return "not_landed"
    if code is None:
        return "landed"
    only_files = all(touch.access != "use" and touch.kind == "file" for touch in call.touches if touch.access != "read")
    if only_files or code in ("tool_failed", "sandbox_unavailable"):
        return "not_landed"
    return "unknown"


def result_refusal(call: Call, refusal: Refusal) -> str:
    """The message for a result that was refused: it says so if the function had returned, and what it did stays done."""
    after = "; the function had returned by then, so its effect has probably happened"
    return refusal.message + (after if landed(call, "invalid_output") == "unknown" else "")
