"""Drives a rollout through its stages: opens it, and moves it on when enough is known.

What a run does in each stage is decided by `remit.rollout`; here is what a person starts.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from remit.analysis import run_tables
from remit.core import Principal, UsageError
from remit.core.events import Bar, BarName, RolloutOpened, RunArm, Stage, StageName
from remit.evals.comparisons import UNKNOWN, comparisons_of
from remit.evals.definitions import Changes
from remit.evals.monitoring import seconds
from remit.journal import OF_COMPLETED, ROLLOUT_STREAM, Journal, RolloutState, RunQuery, RunSummary, list_runs
from remit.policy import Policy, check_agreement, is_cases, read_case_tables
from remit.rollout import (
    HARD,
    OF_ALL_RUNS,
    SOFT,
    files_of_definition,
    finish,
    move_to,
    open_candidate,
    open_rollout,
)
from remit.runtime import agent_of
from remit.tracing import objects_of
from remit.workspace import Workspace, WorkspaceSession, authorize, find_workspace, load_workspace

RECENT: Final = 200  # runs from which a bar of time or money is taken
LEAST: Final = 20  # runs without which nothing is known


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """How a candidate is tried. `shares` are those of the canary stages; `skip` are stages before them to leave out; `bars` None: every bar for which there is data.

    `hard` are further bars that the candidate may never break. `slow` is in seconds, `costly` in the currency of the prices; None:
    what 95 of 100 recent runs do not exceed, and the median of their costs.
    """

    shares: Sequence[float] = (0.1, 0.5)
    skip: Sequence[StageName] = ()
    bars: Sequence[BarName] | None = None
    hard: Sequence[BarName] = ()
    slow: float | None = None
    costly: float | None = None
    by_run: bool = False
    alpha: float = 0.05


def open_for(
    session: WorkspaceSession, agent: str, candidate: Path | Changes, plan: RolloutPlan, *, by: Principal
) -> RolloutState:
    """Open a rollout for an agent: of the workspace definition in a folder, or of that on disk with changes.

    Raises:
        Refusal: `policy_denied`: `by` may not open rollouts of this agent.
        UsageError: the candidate changes nothing or too much, breaks a case, lacks the data for a bar; or a rollout is open.
        WorkspaceError: a file of the candidate is not valid.
    """
    check_right(session, by, agent)
    agent_of(session, agent)
    live, files = files_of_definition(session.workspace), _files_of(session, agent, candidate)
    changes = _changed_files(live, files)
    _check_changes(changes)
    digest = objects_of(session).put_bundle(files)
    definition = open_candidate(session, digest)  # it loads as a run will load it, or nothing is opened
    _check_agent(definition.workspace, agent)
    policy = definition.policy
    _check_cases(session, policy)
    opened = RolloutOpened(
        agent=f"agent:{agent}",
        candidate=digest,
        policy_digest=policy.digest,
        live_policy=session.policy.digest,
        changes=changes,
        stages=_stages(plan, rules=policy.digest != session.policy.digest, other=any(map(_is_no_rule, changes))),
        bars=_bars(session.journal, agent, plan),
        unit="run" if plan.by_run else "user",
        alpha=plan.alpha,
        salt=secrets.token_hex(8),
        by=by,
    )
    return open_rollout(session.journal, opened)


def _files_of(session: WorkspaceSession, agent: str, candidate: Path | Changes) -> dict[str, bytes]:
    if isinstance(candidate, Path):
        return files_of_definition(load_workspace(find_workspace(candidate)))
    changed = candidate.apply(session.workspace, agent)
    return {
        path: data for path, data in changed.items() if not is_cases(path)
    }  # those on disk must hold, whatever it has


def _changed_files(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> tuple[str, ...]:
    """The paths whose files differ, sorted."""
    return tuple(sorted(path for path in {*before, *now} if before.get(path) != now.get(path)))


def _is_no_rule(path: str) -> bool:
    return not path.startswith("policies/")


def check_right(session: WorkspaceSession, by: Principal, agent: str) -> None:
    """Raise Refusal `policy_denied` if the rules do not allow `by` to open and widen rollouts of the agent."""
    authorize(
        session.policy,
        by,
        "remit.rollout",
        f"agent:{agent}",
        f"change what agent {agent!r} is",
        journal=session.journal,
    )


def _check_changes(changes: Sequence[str]) -> None:
    if not changes:
        raise UsageError("the candidate has the same files as this workspace: change it first")
    if shared := [path for path in changes if path in OF_ALL_RUNS]:
        what = f"the candidate changes {', '.join(shared)}, which is the same for all runs"
        raise UsageError(f"{what}: change it in the workspace itself, or undo it in the candidate")


def _check_agent(workspace: Workspace, agent: str) -> None:
    """Raise UsageError if the candidate lacks the agent, or if one of its tools is not reviewed: all of its calls would be refused."""
    if agent not in workspace.agents:
        raise UsageError(f"the candidate has no agent {agent!r}: a rollout changes an agent, and cannot remove it")
    tools = dict.fromkeys(action.partition(".")[0] for action in workspace.agents[agent].actions)
    if changed := [name for name in tools if not workspace.every_tool[name].pinned]:
        what = f"these tools of the candidate are not those that were reviewed: {', '.join(changed)}"
        raise UsageError(f"{what}; review them, and pin them with `remit tool pin` in the candidate's folder")


def _check_cases(session: WorkspaceSession, policy: Policy) -> None:
    """Raise UsageError if a case of the rules on disk does not hold with the candidate."""
    tables = read_case_tables(session.root / "policies")
    broken = [case for case in run_tables(policy, tables) if not case.passed]
    if broken:
        lines = "; ".join(f"{case.file}:{case.line} {case.note}: {case.message}" for case in broken[:5])
        raise UsageError(f"{len(broken)} cases that must hold do not hold with the candidate: {lines}")
    check_agreement(policy, tables)


def _stages(plan: RolloutPlan, *, rules: bool, other: bool) -> tuple[Stage, ...]:
    shares = [*plan.shares, 1.0]
    if not all(0 < low < high for low, high in pairwise(shares)):
        given = ", ".join(f"{share:.0%}" for share in plan.shares)
        raise UsageError(f"the shares of a canary must grow and lie between 0 and 100%, and are {given}")
    first = [*(("backtest", "shadow") if rules else ()), *(("counterfactual",) if other else ())]
    first = [name for name in first if name not in plan.skip]
    canaries = [Stage(name="canary", share=share) for share in plan.shares]
    return (*(Stage.model_validate({"name": name}) for name in first), *canaries, Stage(name="full", share=1.0))


def _bars(journal: Journal, agent: str, plan: RolloutPlan) -> tuple[Bar, ...]:
    """The bars of the plan. By default a bar for which there is no data is left out; one that is asked for is refused."""
    hard, above = {*HARD, *plan.hard}, _above(journal, agent, plan)
    asked = {*(plan.bars or ()), *plan.hard}
    named = dict.fromkeys((*(SOFT if plan.bars is None else plan.bars), *HARD, *plan.hard))
    unknown = [name for name in OF_COMPLETED if name in named and above[name] is None]
    for name, of in OF_COMPLETED.items():
        if name in unknown and name in asked:
            what = f"the journal has fewer than {LEAST} recent completed runs of agent {agent!r} with a {of}"
            raise UsageError(f"{what}, from which {name!r} is computed: give --{name}, or leave this bar out")
    return tuple(Bar(name=name, hard=name in hard, above=above.get(name)) for name in named if name not in unknown)


def _above(journal: Journal, agent: str, plan: RolloutPlan) -> dict[BarName, float | None]:
    """From where on a run is slow (seconds) or costly (money); None if too few runs say so."""
    done = [run for run in recent_runs(journal, agent) if run.outcome == "completed"]
    times = [seconds(run) for run in done]
    costs = [float(run.cost) for run in done if run.cost]
    return {
        "slow": plan.slow or (quantiles(times, n=20)[-1] if len(times) >= LEAST else None),
        "costly": plan.costly or (median(costs) if len(costs) >= LEAST else None),
    }


def recent_runs(journal: Journal, agent: str) -> list[RunSummary]:
    """The latest runs of the agent that have ended, without those of candidates."""
    runs = list_runs(journal, RunQuery(agent=f"agent:{agent}"))
    live = (run for run in runs if run.ended_at is not None and (run.arm is None or run.arm.arm == "live"))
    return list(islice(live, RECENT))


def widen(session: WorkspaceSession, rollout: RolloutState, *, by: Principal, least: int = LEAST) -> RolloutState:
    """Move an open rollout to its next stage; from the last one, finish it.

    Raises:
        Refusal: `policy_denied`: `by` may not widen rollouts of this agent.
        UsageError: it has ended, or too little is known to go on.
    """
    journal, agent = session.journal, rollout.opened.agent.partition(":")[2]
    check_right(session, by, agent)
    if rollout.ended is not None:
        raise UsageError(f"rollout {rollout.id} is {rollout.status.replace('_', ' ')}: open a new one")
    last = rollout.number + 1 == len(rollout.opened.stages)
    if not last and session.policy.digest != rollout.opened.live_policy:
        what = "the rules on disk have changed since it was opened, so the candidate's rules are in force nowhere"
        raise UsageError(f"rollout {rollout.id} cannot be widened: {what}; roll it back, and open it again")
    if (missing := missing_data(journal, rollout, least)) is not None:
        raise UsageError(f"rollout {rollout.id} cannot leave stage {rollout.stage.name!r}: {missing}")
    if not last:
        return move_to(journal, rollout, rollout.number + 1, by=by)
    candidate = objects_of(session).get_bundle(rollout.opened.candidate)
    live = files_of_definition(session.workspace)
    if changed := _changed_files(live, candidate):
        what = f"these files of the workspace are not those of the candidate yet: {', '.join(changed)}"
        raise UsageError(f"{what}; write the candidate's files, then finish the rollout")
    return finish(journal, rollout, by=by)


def missing_data(journal: Journal, rollout: RolloutState, least: int) -> str | None:
    """What is not known yet in this stage; None if it is enough. INVARIANT: no data is a failure, and never a success."""
    stage = rollout.stage
    if stage.name in ("backtest", "counterfactual"):
        every = [compared for compared in comparisons_of(journal, rollout) if compared.stage == stage.name]
        known = any(compared.runs > compared.counts.get(UNKNOWN, 0) for compared in every)
        return None if known else f"nothing is known of any run: remit rollout compare {rollout.id}"
    if stage.name == "shadow":
        query, whose = RunQuery(agent=rollout.opened.agent, since=_staged_at(journal, rollout)), "runs"
    else:
        query, whose = RunQuery(rollout=rollout.id), "runs of the candidate"
    runs = [run for run in list_runs(journal, query) if run.arm is None or run.arm == _own_arm(rollout)]
    ended = sum(run.ended_at is not None for run in runs)
    if ended < least:
        return f"{ended} {whose} have ended in it, and {least} are needed"
    lost = [run.run[:8] for run in runs if run.arm and run.state in ("lost", "ready")]
    return f"no process drives these {whose} to an end: {', '.join(lost)}; resume them" if lost else None


def _own_arm(rollout: RolloutState) -> RunArm:
    """The arm of a run that began in this stage with the candidate."""
    return RunArm(rollout=rollout.id, arm="candidate", share=rollout.stage.share)


def _staged_at(journal: Journal, rollout: RolloutState) -> int:
    found = journal.get(f"{ROLLOUT_STREAM}{rollout.id}", f"rollout.staged/{rollout.number}")
    return rollout.opened_at if found is None else found.at
