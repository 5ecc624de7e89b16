"""Holds: an operator stops a run, an agent, a tool or everything. They are checked before every effect.

A hold is an event in the stream named `workspace`, so every process sees it, and lifting it leaves a record. A revocation is a hold
on one version of a tool's code, by its digest: nobody lifts it. A hold on `user:NAME` or `service:NAME` disables that principal.
"""

from __future__ import annotations

from collections.abc import Mapping

from remit.core import Principal, Refusal, UsageError, is_principal, one_of
from remit.core.events import CODE, HoldLifted, HoldSet, RunStarted
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal


def hold_reason(holds: Mapping[str, HoldSet], *scopes: str) -> str | None:
    """Why one of `scopes`, or everything, is on hold; None if nothing is."""
    hold = next((holds[scope] for scope in ("all", *scopes) if scope in holds), None)
    if hold is None:
        return None
    did = f"disabled {hold.scope}" if is_principal(hold.scope) else f"put {hold.scope} on hold"
    return f"{hold.by.account} {did}: {hold.reason}"


def requesters(started: RunStarted) -> tuple[str, str]:
    """Who asks for what a run does: the person for whom it acts, and who started it."""
    return (started.subjects.user, started.by.subject)


def check_revoked(holds: Mapping[str, HoldSet], tool: str, code: str) -> None:
    """Raise Refusal `policy_denied` if the code of that tool or of the graph of `agent:NAME`, by its digest, was revoked."""
    if (hold := holds.get(f"{CODE}{code}")) is not None:
        what = tool if ":" in tool else f"tool {tool!r}"
        raise Refusal(
            "policy_denied",
            f"the code of {what} was revoked by {hold.by.account}: {hold.reason}",
            details={"reason": "revoked"},
            next_step="continue without this tool, which runs again once its code is changed and pinned",
        )


def set_hold(journal: Journal, scope: str, *, why: str, by: Principal) -> HoldSet:
    """Put `scope` (`run:…`, `agent:…`, `tool:…`, `user:…`, `service:…`, `all`) on hold until it is lifted; `code:…` for ever."""
    while True:
        hold = HoldSet(number=_number(journal), scope=scope, reason=why, by=by)
        try:
            journal.append_shared(WORKSPACE_RUN, hold)
        except AlreadyRecorded:  # another process recorded a hold with this number first
            continue
        return hold


def lift_hold(journal: Journal, scope: str, *, by: Principal) -> None:
    """Lift the hold on `scope`.

    Raises:
        UsageError: `scope` is not on hold, or it is a revocation.
    """
    if scope.startswith(CODE):
        raise UsageError("a revocation lasts: review other code of the tool, and pin it with `remit tool pin`")
    if scope not in (held := journal.holds()):
        raise UsageError(f"{scope} is not on hold: {one_of(scope, held) if held else 'nothing is'}")
    while True:
        try:
            journal.append_shared(WORKSPACE_RUN, HoldLifted(number=_number(journal), scope=scope, by=by))
        except AlreadyRecorded:
            continue
        return


def _number(journal: Journal) -> int:
    """A number that no event of the workspace has yet."""
    head = journal.head(WORKSPACE_RUN)
    return 0 if head is None else head[0] + 1
