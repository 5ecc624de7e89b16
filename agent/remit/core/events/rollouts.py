"""Events of a rollout, recorded in the stream `rollout:ID`, and the decisions of its candidate, recorded in the runs."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.calls import FrozenModel, Verdict
from remit.core.events.event import Event
from remit.core.principals import Principal

ArmName: TypeAlias = Literal["live", "candidate"]
StageName: TypeAlias = Literal[
    "backtest",  # recorded decisions are decided again
    "shadow",  # the candidate's rules decide each call too, and nothing follows from it
    "counterfactual",  # the candidate plays finished runs again, without effects
    "canary",  # a share of the users has the candidate
    "full",  # all users have the candidate
]
BarName: TypeAlias = Literal[
    "refused",  # at least one call was refused
    "failed",  # the run ended without a valid answer
    "asked",  # people were asked for approval
    "slow",  # a completed run took longer than the bar
    "costly",  # a completed run cost more than the bar
    "in_doubt",  # the outcome of an effect is unknown
    "violation",  # a tool tried to reach what was not authorized
]


class RunArm(FrozenModel):
    """Records on which side of a rollout a run is, and the share of the candidate when the run began."""

    rollout: str
    arm: ArmName
    share: float


class Stage(FrozenModel):
    """One stage of a rollout. `share` is the part of the users who have the candidate, from 0 to 1."""

    name: StageName
    share: float = 0.0


class Bar(FrozenModel):
    """What is counted against a candidate. With `hard`, its first such run ends the rollout.

    `above` is in seconds for "slow" and in the currency of the prices for "costly"; None for the others.
    """

    name: BarName
    hard: bool = False
    above: float | None = None


class BarEvidence(FrozenModel):
    """What the runs say about one bar: how many of each arm have the event, of how many that ended, and the e-value.

    `live` and `candidate` count users (or runs, if the rollout assigns runs); `log_e` is the natural logarithm of the e-value, of
    which `limit` is enough to end the rollout. Both are 0 for a hard bar.
    """

    bar: BarName
    hard: bool
    live: int
    of_live: int
    candidate: int
    of_candidate: int
    log_e: float
    limit: float

    @property
    def broken(self) -> bool:
        """True if this bar alone ends the rollout."""
        return self.candidate > 0 if self.hard else self.log_e >= self.limit


class RolloutOpened(Event):
    """Records that a candidate for the definition of an agent goes through the stages of a rollout.

    `candidate` is the digest of its files in the object store, `policy_digest` that of its rules; `live_policy` that of the rules on
    disk, with which it is compared. `changes` are the files in which it differs. `unit` is what is assigned to an arm: a user with
    all of their runs, or each run. `alpha` bounds the chance that a candidate without harm is rolled back.
    """

    type: Literal["rollout.opened"] = "rollout.opened"
    agent: str  # "agent:triage"
    candidate: str
    policy_digest: str
    live_policy: str
    changes: tuple[str, ...]
    stages: tuple[Stage, ...]
    bars: tuple[Bar, ...]
    unit: Literal["user", "run"] = "user"
    alpha: float
    salt: str
    by: Principal


class RolloutStaged(Event):
    """Records that a person moves the rollout to the stage `number`, counted from 0."""

    type: Literal["rollout.staged"] = "rollout.staged"
    number: int
    evidence: tuple[BarEvidence, ...] = ()
    by: Principal

    @property
    def key(self) -> str:
        return f"rollout.staged/{self.number}"


class RolloutCompared(Event):
    """Records what the candidate makes of recorded runs, without any effect: its rules, or all of it.

    `runs` were tried, and `different` of them go another way. `counts` says which way, such as "allow → deny" for decisions and
    "completed → failed" for runs. `number` counts the comparisons of the rollout from 0.
    """

    type: Literal["rollout.compared"] = "rollout.compared"
    number: int
    stage: StageName
    runs: int
    different: int
    counts: dict[str, int]
    by: Principal

    @property
    def key(self) -> str:
        return f"rollout.compared/{self.number}"


class RolloutRolledBack(Event):
    """Records that no run uses the candidate any more, with the `evidence` of every bar at that time.

    `by` is the person who asked for it; None: a bar was broken, or the candidate could not be used, as `reason` says.
    """

    type: Literal["rollout.rolled_back"] = "rollout.rolled_back"
    reason: str
    evidence: tuple[BarEvidence, ...] = ()
    by: Principal | None = None


class RolloutFinished(Event):
    """Records that the files on disk are those of the candidate, so that the rollout has nothing left to do."""

    type: Literal["rollout.finished"] = "rollout.finished"
    evidence: tuple[BarEvidence, ...] = ()
    by: Principal


class ShadowDecided(Event):
    """Records that the candidate's rules decide a call differently, or fail. Nothing follows from it in this run.

    `verdict` is that of the rules in force, and `candidate` that of the candidate, both without approvals; None: it failed with `error`.
    """

    type: Literal["shadow.decided"] = "shadow.decided"
    step: int
    index: int
    rollout: str
    action: str
    verdict: Verdict
    candidate: Verdict | None
    error: str = ""
