"""Says what a rollout means for one run: which definition it has, and which rules decide or are tried beside those on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from remit.core import RemitError
from remit.core.events import RunArm
from remit.journal import Journal, RolloutState
from remit.policy import Policy
from remit.rollout.candidate import CandidateDefinition, open_candidate
from remit.rollout.rollouts import arm_of, check_bars, find_rollout, open_of, roll_back
from remit.workspace import WorkspaceSession


@dataclass(frozen=True, kw_only=True)
class CandidateRules:
    """The rules of a candidate in one run. With `decides` they are in force in it; else they are only tried.

    They count while their rollout is open and the rules on disk are those with which it compares them. An edit of the rules on
    disk counts at once for every run, also for those of the candidate.
    """

    rollout: str
    policy: Policy
    files: Mapping[str, bytes]
    decides: bool

    def count(self, journal: Journal, on_disk: Policy) -> bool:
        """True if they count now. Read at each decision: nothing is decided by rules that were taken back."""
        rollout = next((rollout for rollout in journal.rollouts() if rollout.id == self.rollout), None)
        if rollout is None or rollout.opened.live_policy != on_disk.digest:
            return False
        return rollout.stage.share > 0 if self.decides else rollout.stage.name == "shadow"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The workspace that a run has, its arm in a rollout, and the rules of the candidate; None without them."""

    session: WorkspaceSession
    arm: RunArm | None = None
    rules: CandidateRules | None = None


def place(session: WorkspaceSession, agent: str, *, user: str, run: str) -> Placement:
    """The place of a new run. A candidate that cannot be opened is taken back, and the run goes on without it.

    `agent` is a subject (`agent:triage`), `user` too, and `run` the id of the run.
    """
    rollout = open_of(session.journal, agent)
    if rollout is None or check_bars(session.journal, rollout.id).ended is not None:
        return Placement(session=session)
    arm = arm_of(rollout, user=user, run=run)
    shadowed = rollout.stage.name == "shadow" and rollout.opened.policy_digest != session.policy.digest
    if not shadowed and (arm is None or arm.arm == "live"):
        return Placement(session=session, arm=arm)
    try:
        definition = open_candidate(session, rollout.opened.candidate)
    except RemitError as failure:
        return give_up(session, rollout.id, failure)
    if shadowed:
        return Placement(session=session, arm=arm, rules=_rules(rollout, definition, decides=False))
    return _candidate(session, rollout, definition, arm)


def place_again(session: WorkspaceSession, arm: RunArm | None) -> Placement:
    """The place of a run that is resumed: the rules of its candidate decide while they count.

    The definition is that of the candidate, whatever became of the rollout. That counts for a run which goes on with the one of now
    (`accept_changes`, an external graph); any other has the one of its record.

    Raises:
        UsageError: an object of its definition is missing or was changed.
        WorkspaceError: its definition is not valid with the rules on disk.
    """
    if arm is None or arm.arm == "live":
        return Placement(session=session, arm=arm)
    rollout = find_rollout(session.journal, arm.rollout)
    return _candidate(session, rollout, open_candidate(session, rollout.opened.candidate), arm)


def give_up(session: WorkspaceSession, rollout: str, failure: RemitError) -> Placement:
    """Take back a candidate with which no run can start."""
    roll_back(session.journal, rollout, reason=f"no run can start with the candidate: {failure}")
    return Placement(session=session)


def _candidate(
    session: WorkspaceSession, rollout: RolloutState, definition: CandidateDefinition, arm: RunArm | None
) -> Placement:
    changed = definition.policy.digest != definition.on_disk.digest
    return Placement(
        session=replace(session, workspace=definition.workspace, policy=definition.on_disk, rules=session.policies),
        arm=arm,
        rules=_rules(rollout, definition, decides=True) if changed else None,
    )


def _rules(rollout: RolloutState, definition: CandidateDefinition, *, decides: bool) -> CandidateRules:
    return CandidateRules(rollout=rollout.id, policy=definition.policy, files=definition.rules, decides=decides)
