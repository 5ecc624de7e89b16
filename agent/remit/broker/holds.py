"""Holds: an operator stops a run, an agent, a tool or everything. They are checked before every effect.

A hold is an event in the run named `workspace`, so every process sees it, and lifting it leaves a record.
"""

from __future__ import annotations

from collections.abc import Mapping

from remit.core import Principal, UsageError
from remit.core.events import HoldLifted, HoldSet
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Log, Record


def active_holds(log: Log) -> Mapping[str, HoldSet]:
    """The holds in force, by scope (`run:…`, `agent:…`, `tool:…`, `all`)."""
    return Record(log, WORKSPACE_RUN).state.holds


def hold_reason(holds: Mapping[str, HoldSet], *scopes: str) -> str | None:
    """Why one of `scopes`, or everything, is on hold; None if nothing is."""
    hold = next((holds[scope] for scope in ("all", *scopes) if scope in holds), None)
    return None if hold is None else f"{hold.by.account} put {hold.scope} on hold: {hold.reason}"


def set_hold(log: Log, scope: str, *, why: str, by: Principal) -> HoldSet:
    """Put `scope` on hold until somebody lifts it."""
    while True:
        hold = HoldSet(number=_count(log), scope=scope, reason=why, by=by)
        try:
            log.append(WORKSPACE_RUN, hold, durable=True)
        except AlreadyRecorded:  # another process recorded a hold with this number first
            continue
        return hold


def lift_hold(log: Log, scope: str, *, by: Principal) -> None:
    """Lift the hold on `scope`.

    Raises:
        UsageError: `scope` is not on hold.
    """
    if scope not in active_holds(log):
        raise UsageError(f"{scope} is not on hold: `remit stop --list` lists the holds")
    while True:
        try:
            log.append(WORKSPACE_RUN, HoldLifted(number=_count(log), scope=scope, by=by), durable=True)
        except AlreadyRecorded:
            continue
        return


def _count(log: Log) -> int:
    return len(log.events(WORKSPACE_RUN))
