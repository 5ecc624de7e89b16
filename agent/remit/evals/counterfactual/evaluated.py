"""Plays a scenario whose world is a recorded run: the run goes on from a step with a variant of the agent."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from remit import __version__
from remit.core import Model, Principal
from remit.core.events import GoesOn, Recorded, RunFinished, RunStarted
from remit.evals.counterfactual.playing import Candidate, Counterfactual, RecordedRun, play_from
from remit.evals.counterfactual.seed_copy import Place
from remit.evals.worlds import World
from remit.journal import Chain, ChainLink, Journal, link, record_run
from remit.runtime.models import ScriptedApproval
from remit.tracing import Objects, read_trace
from remit.workspace import Bundle, WorkspaceSession, files_of


@dataclass(frozen=True, kw_only=True)
class ScenarioRun:
    """One run of a scenario that goes on from a recorded run.

    `agent_folder` has the trace that `world` names. `session` is that of the variant, and `root` the workspace with the seed. The copy
    of the world is made in the folder `below`.
    """

    run: str
    evaluation: str
    by: Principal
    session: WorkspaceSession
    agent_folder: Path
    root: Path
    below: Path
    world: World
    models: Sequence[Model]
    whole_script: bool
    approvals: Sequence[ScriptedApproval]

    @asynccontextmanager
    async def played(self) -> AsyncGenerator[Counterfactual]:
        """The run as it goes on. The copy of its world is removed when the context is left.

        Raises:
            UsageError: the trace cannot be read, or has no such step.
            RunEnded: the sandbox failed.
        """
        assert self.world.run is not None  # only such scenarios are played here
        assert self.world.step is not None
        recorded = RecordedRun.of(read_trace(self.agent_folder / self.world.run))
        workspace = self.session.workspace
        candidate = Candidate(
            definition=Bundle(workspace=workspace, policy=self.session.policy),
            models=self.models,
            whole_script=self.whole_script,
            approvals=self.approvals,
            rejects=self.by,
        )
        place = Place(workspace=workspace, world=self.world, root=self.root, below=self.below)
        async with play_from(recorded, self.world.step, candidate, place, run_id=self.run) as played:
            yield played

    def record(self, played: Counterfactual, journal: Journal, objects: Objects) -> None:
        """Record the run in the journal, as one of the evaluation: it can be shown and replayed like every other run."""
        first, *others = played.records
        assert isinstance(first.event, RunStarted)  # the first event of every run
        started = first.event.model_copy(
            update={
                "by": self.by,
                "model": self.models[0].name,
                "fallbacks": tuple(model.name for model in self.models[1:]),
                "scripted": self.models[0].scripted,
                "bundle": objects.put_bundle(files_of(self.session.workspace)),
                "policy_digest": self.session.policy.digest,
                "version": __version__,
                "evaluation": self.evaluation,
                "goes_on": GoesOn(run=first.run, step=played.step),
            }
        )
        records = [first.model_copy(update={"event": started}), *others]
        if played.finished is None:
            stopped = RunFinished(outcome="stopped", code="cancelled", message=played.ends)
            records.append(records[-1].model_copy(update={"event": stopped}))
        record_run(journal, _sealed(self.run, records))


def _sealed(run: str, records: Sequence[Recorded]) -> Chain:
    links: list[ChainLink] = []
    for seq, item in enumerate(records):
        assert item.event is not None  # a run without all of its events is not played
        links.append(link(run, seq, item.at, links[-1].hash if links else "", item.event, secrets.token_hex(16)))
    return Chain(run=run, links=tuple(links), head=(links[-1].seq, links[-1].hash))
