"""Tries the candidate of a rollout on recorded runs, without any effect: its rules, or all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Final

from remit.analysis import backtest_rules
from remit.analysis.diff import open_source
from remit.core import Principal, UsageError
from remit.core.events import ModelResponded, Recorded, RolloutCompared, StageName
from remit.evals.counterfactual import Candidate, Counterfactual, Place, RecordedRun, play_from
from remit.evals.worlds import World
from remit.journal import ROLLOUT_STREAM, AlreadyRecorded, Journal, RolloutState, RunQuery, RunSummary, list_runs
from remit.rollout import CandidateDefinition, open_candidate
from remit.runtime import open_fallbacks_of, open_model_of
from remit.runtime.models import ScriptedModel
from remit.tracing import objects_of, open_trace
from remit.workspace import Bundle, WorkspaceSession, vocabulary

UNKNOWN: Final = "not known"  # how a run goes on rests on what nobody has recorded

Progress = Callable[[int, int], None]  # called with the number of runs that are done, and how many there are


def comparisons_of(journal: Journal, rollout: RolloutState) -> list[RolloutCompared]:
    """What the candidate made of recorded runs, in the order of the comparisons."""
    events = (recorded.event for recorded in journal.events(f"{ROLLOUT_STREAM}{rollout.id}"))
    return [event for event in events if isinstance(event, RolloutCompared)]


def backtest(
    session: WorkspaceSession, rollout: RolloutState, *, by: Principal, limit: int, progress: Progress
) -> RolloutCompared:
    """Decide the recorded calls of the latest runs of the agent again, under the rules of the candidate, and record the result.

    Raises:
        UsageError: the agent has no recorded run.
    """
    journal, runs = session.journal, _latest(session.journal, rollout, limit)

    def records() -> Iterator[Sequence[Recorded]]:
        for number, run in enumerate(runs):
            progress(number, len(runs))
            yield journal.events(run.run)

    workspace = open_candidate(session, rollout.opened.candidate).workspace
    assert workspace.root is not None
    rules = open_source(str(workspace.root / "policies"), None).rule_set(vocabulary(workspace))
    found = backtest_rules(records(), rules)
    counts = Counter(f"{flip.before} → {flip.after}" for flip in found.flips if not flip.unreachable)
    different = len({flip.run for flip in found.flips})
    return _record(journal, rollout, "backtest", (found.runs, different), counts, by=by)


async def play_finished_runs(
    session: WorkspaceSession,
    rollout: RolloutState,
    *,
    by: Principal,
    limit: int,
    money: float | None = None,
    progress: Progress,
) -> RolloutCompared:
    """Let the candidate play the latest finished runs of the agent again, from their first step, and record how they end.

    Nothing of it lands. `money` is how much its models may cost in all, in the currency of the prices; None: without a limit. What is
    spent is known after each run.

    Raises:
        UsageError: the agent has no recorded run, or a model of the candidate cannot be opened.
    """
    journal, runs = session.journal, _latest(session.journal, rollout, limit)
    definition = open_candidate(session, rollout.opened.candidate)
    counts: Counter[str] = Counter()
    tried = different = 0
    spent = Decimal(0)
    for number, run in enumerate(runs):
        if money is not None and spent > money:
            break
        progress(number, len(runs))
        played = await _played(session, run, definition)
        spent += sum((event.cost or 0 for event in _turns(played)), Decimal(0))
        after = UNKNOWN if played.finished is None or played.ungraded else played.finished.outcome
        counts[UNKNOWN if after == UNKNOWN else f"{run.outcome} → {after}"] += 1
        tried, different = tried + 1, different + (after not in (run.outcome, UNKNOWN))
    return _record(journal, rollout, "counterfactual", (tried, different), counts, by=by)


async def _played(session: WorkspaceSession, run: RunSummary, definition: CandidateDefinition) -> Counterfactual:
    """The run as the candidate plays it from its first step."""
    recorded = RecordedRun.of(open_trace(session.traces, session.journal, run.run, store=objects_of(session)))
    its_session = replace(session, workspace=definition.workspace, policy=definition.policy)
    models = [open_model_of(its_session, recorded.agent), *open_fallbacks_of(its_session, recorded.agent)]
    candidate = Candidate(
        definition=Bundle(workspace=definition.workspace, policy=definition.policy),
        models=models,
        whole_script=True,
        approvals=[item for model in models if isinstance(model, ScriptedModel) for item in model.approvals],
    )
    seed = definition.workspace.agents[recorded.agent].seed
    place = Place(workspace=definition.workspace, world=World(seed=seed), root=session.root)
    async with play_from(recorded, 0, candidate, place) as played:
        return played


def _turns(played: Counterfactual) -> list[ModelResponded]:
    return [item.event for item in played.records if isinstance(item.event, ModelResponded)]


def _latest(journal: Journal, rollout: RolloutState, limit: int) -> list[RunSummary]:
    """The latest finished runs of the agent with content. Raises UsageError without one."""
    runs = list_runs(journal, RunQuery(agent=rollout.opened.agent, state="finished"))
    found = list(islice((run for run in runs if run.content == "complete" and run.steps), limit))
    if not found:
        raise UsageError(f"{rollout.opened.agent} has no recorded run to compare with: run it first")
    return found


def _record(
    journal: Journal,
    rollout: RolloutState,
    stage: StageName,
    runs: tuple[int, int],
    counts: Mapping[str, int],
    *,
    by: Principal,
) -> RolloutCompared:
    """Record what the candidate made of recorded runs; `runs` are how many there were, and how many went another way."""
    while True:
        event = RolloutCompared(
            number=len(comparisons_of(journal, rollout)),
            stage=stage,
            runs=runs[0],
            different=runs[1],
            counts=dict(sorted(counts.items())),
            by=by,
        )
        with suppress(AlreadyRecorded):  # another process compared at the same time
            journal.append_shared(f"{ROLLOUT_STREAM}{rollout.id}", event)
            return event
