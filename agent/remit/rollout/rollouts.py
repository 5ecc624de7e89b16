"""Opens, moves and ends rollouts. Their state is a fold of the events in the stream `rollout:ID`.

What the runs say is not recorded a second time: `RunStarted` has the arm, and the journal counts a run with its last event.
So a process that is killed at any point loses no observation, and each process that looks finds the same.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from typing import Final

from remit.core import Principal, UsageError, one_of, spelled
from remit.core.events import (
    AlertRaised,
    AnyEvent,
    ArmName,
    BarEvidence,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RolloutStaged,
    RunArm,
)
from remit.journal import ROLLOUT_STREAM, AlreadyRecorded, Journal, RolloutState, arm_counts, raise_alert
from remit.rollout.bars import weigh

_WHOLE: Final = 2**64


def arm_of(rollout: RolloutState, *, user: str, run: str) -> RunArm | None:
    """The arm of a new run; None in a stage in which no run has the candidate.

    It is a pure function of the rollout and of the user (or the run), so every process and every version of Python finds the same;
    and a larger share only adds users to the candidate.
    """
    share = rollout.stage.share
    if share <= 0:
        return None
    who = user if rollout.opened.unit == "user" else run
    arm: ArmName = "candidate" if place_of(rollout.id, rollout.opened.salt, who) < share else "live"
    return RunArm(rollout=rollout.id, arm=arm, share=share)


def place_of(rollout: str, salt: str, who: str) -> float:
    """A number from 0 to below 1 that the user keeps for the whole rollout: the first 8 bytes of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{rollout}{salt}{who}".encode()).digest()[:8], "big") / _WHOLE


def open_of(journal: Journal, agent: str) -> RolloutState | None:
    """The open rollout of the agent (`agent:triage`); None without one. Of two that were opened at once, the first counts."""
    return next((rollout for rollout in journal.rollouts() if rollout.opened.agent == agent), None)


def open_rollout(journal: Journal, opened: RolloutOpened) -> RolloutState:
    """Record a new rollout and return it.

    Raises:
        UsageError: the agent has an open rollout.
    """
    if (other := open_of(journal, opened.agent)) is not None:
        raise UsageError(_ALREADY_OPEN.format(opened.agent, other.id))
    rollout = secrets.token_hex(4)
    journal.append_shared(f"{ROLLOUT_STREAM}{rollout}", opened)
    first = open_of(journal, opened.agent)
    if first is not None and first.id != rollout:  # another process opened one at the same time
        roll_back(journal, rollout, reason=f"rollout {first.id} of {opened.agent} was opened first", by=opened.by)
        raise UsageError(_ALREADY_OPEN.format(opened.agent, first.id))
    return find_rollout(journal, rollout)


_ALREADY_OPEN: Final = "{} has an open rollout, {}: end it first with `remit rollout rollback`, or widen it to its end"


def find_rollout(journal: Journal, rollout: str) -> RolloutState:
    """The rollout of that id. Raises UsageError without one."""
    found = journal.rollout(rollout)
    if found is None:
        known = [one.id for one in journal.rollouts()]
        raise UsageError(
            f"there is no rollout {spelled(rollout)}: {one_of(rollout, known) if known else 'none is open'}"
        )
    return found


def named_rollout(journal: Journal, name: str) -> RolloutState:
    """The rollout that a person means: its id, or the agent of an open one. Raises UsageError without one."""
    return open_of(journal, f"agent:{name}") or find_rollout(journal, name)


def evidence_of(journal: Journal, rollout: RolloutState) -> tuple[BarEvidence, ...]:
    """What the runs of a rollout that have ended say about each of its bars."""
    return weigh(rollout.opened, arm_counts(journal, rollout.id))


def move_to(journal: Journal, rollout: RolloutState, number: int, *, by: Principal) -> RolloutState:
    """Move an open rollout to the stage `number`, or do nothing if another process did so first."""
    staged = RolloutStaged(number=number, evidence=evidence_of(journal, rollout), by=by)
    _append(journal, rollout.id, staged)
    return find_rollout(journal, rollout.id)


def finish(journal: Journal, rollout: RolloutState, *, by: Principal) -> RolloutState:
    """Record that the definition on disk is the candidate's."""
    _append(journal, rollout.id, RolloutFinished(evidence=evidence_of(journal, rollout), by=by))
    return find_rollout(journal, rollout.id)


def roll_back(journal: Journal, rollout: str, *, reason: str, by: Principal | None = None) -> RolloutState:
    """Take the candidate back, with the evidence of every bar. Does nothing if the rollout has ended.

    Without a person (`by` None), an alert says so.
    """
    found = find_rollout(journal, rollout)
    if found.ended is None:
        if by is None:  # INVARIANT: before the end, after which a process that takes over would not come here
            raise_alert(journal, _alert(found, reason))
        _append(journal, found.id, RolloutRolledBack(reason=reason, evidence=evidence_of(journal, found), by=by))
    return find_rollout(journal, found.id)


def _alert(rollout: RolloutState, reason: str) -> AlertRaised:
    return AlertRaised(
        kind="rollout",
        agent=rollout.opened.agent.partition(":")[2],
        subject=rollout.id,
        run="",
        text=f"the candidate of rollout {rollout.id} was taken back: {reason}",
        changes=rollout.opened.changes,
    )


def check_bars(journal: Journal, rollout: str) -> RolloutState:
    """Roll back if a bar is broken. Called before and after each run of the rollout; repeating it is safe."""
    found = find_rollout(journal, rollout)
    if found.ended is not None:
        return found
    broken = [item for item in evidence_of(journal, found) if item.broken]
    return roll_back(journal, found.id, reason="; ".join(map(evidence_text, broken))) if broken else found


def evidence_text(item: BarEvidence) -> str:
    """The evidence of one bar in one line, for people."""
    counts = (
        f"{item.bar}: {item.candidate} of {item.of_candidate} with the candidate, {item.live} of {item.of_live} without"
    )
    return f"{counts}; none is allowed" if item.hard else f"{counts}; evidence {item.log_e:.1f} of {item.limit:.1f}"


def _append(journal: Journal, rollout: str, event: AnyEvent) -> None:
    with suppress(AlreadyRecorded):  # another process came to the same end first
        journal.append_shared(f"{ROLLOUT_STREAM}{rollout}", event)
