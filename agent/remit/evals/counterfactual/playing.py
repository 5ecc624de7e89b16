"""Plays a recorded run from a step with another definition of the agent."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import remit.runtime  # LangGraph is loaded when a run is driven
from remit.broker import Broker
from remit.core import Message, Model, ModelTurn, Principal, ToolSpec, UsageError
from remit.core.events import ModelRequested, Recorded, RunFinished, RunStarted, Sources
from remit.evals.counterfactual.circumstances import Circumstances, PathLog, People
from remit.evals.counterfactual.executor import CounterfactualExecutor, GivenAnswer
from remit.evals.counterfactual.seed_copy import Place, SeedCopy, copied_seed
from remit.evals.counterfactual.turns import Turns
from remit.evals.counterfactual.versions import RecordedCalls
from remit.journal import Record
from remit.policy import Policy
from remit.replay import RecordEnds, check_replayable, events_before
from remit.runtime import AgentGraph, ModelWait, sanitizer_of
from remit.runtime.models import ScriptedApproval
from remit.tracing import Trace
from remit.workspace import Agent, Bundle, Workspace, open_bundles, tool_specs

WAITS: Final = "the run waits for people, who answered nothing like this in the record"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What goes on from a step of a recorded run.

    `definition` are the agent, its tools and its policy. `models` are asked from that step on: the first turn of a script is the
    first one that is played, unless it has the turns of the whole run (`whole_script`). Without any, the recorded turns are
    repeated while the model reads what it read then, and `otherwise` takes the others. `approvals` are given where nobody answered
    the same question in the record; `rejects` rejects all other calls that need one, None leaves them open: then the run waits.
    """

    definition: Bundle
    models: Sequence[Model] = ()
    whole_script: bool = False
    otherwise: Model | None = None
    approvals: Sequence[ScriptedApproval] = ()
    rejects: Principal | None = None


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """A recorded run as it goes on from `step` with the candidate; nothing of it has landed.

    `records` are all events, from the first one of the recorded run. `answers` are where the answers of the tools from that step on
    come from. `ends` says what is not recorded, so that the run cannot go on; "" if it ended. `seconds` is the wall-clock time that
    it took. `folder` is the copy of the seed, with the
    effects that ran in it; `complete` lets all others of files run there too, and says why one cannot, or "".
    """

    run: str
    step: int
    records: tuple[Recorded, ...]
    answers: tuple[GivenAnswer, ...]
    ends: str
    seconds: float
    folder: Path
    complete: Callable[[], Awaitable[str]]

    @property
    def finished(self) -> RunFinished | None:
        """The end of the run; None if it cannot go on to its end."""
        last = self.records[-1].event
        return last if isinstance(last, RunFinished) else None

    @property
    def sources(self) -> Sources:
        """How many answers of tools are from where."""
        of = [answer.source for answer in self.answers]
        return Sources(recorded=of.count("recorded"), rerun=of.count("re-run"), assumed=of.count("assumed"))

    @property
    def ungraded(self) -> str:
        """Why the run has no grade: its end is not known, or rests on an assumed value. "" if it has one."""
        if self.ends:
            return self.ends
        assumed = next((answer for answer in self.answers if answer.source == "assumed"), None)
        if assumed is None:
            return ""
        return f"the run rests on the assumed value of {assumed.call.action} at step {assumed.name}: {assumed.why}"


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run as it was recorded, and the definitions that it used, by digest."""

    records: tuple[Recorded, ...]
    bundles: Mapping[str, Bundle]

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """The run of that trace.

        Raises:
            UsageError: the trace was changed, or does not hold all that is needed to play it.
        """
        if check_replayable(trace.records).graph:
            raise UsageError("a custom graph drove this run, and only a run of Remit's own loop can go on from a step")
        if broken := [fault for fault in trace.faults() if fault.broken]:
            raise UsageError(f"the trace of run {trace.run[:8]} fails its integrity check: {broken[0]}")
        return cls(records=trace.records, bundles=open_bundles(trace.bundles()))

    @property
    def started(self) -> RunStarted:
        """The first event of the run."""
        started = self.records[0].event
        assert isinstance(started, RunStarted)  # checked when it was opened
        return started

    @property
    def agent(self) -> str:
        """The name of the agent."""
        return self.started.subjects.agent.partition(":")[2]

    @property
    def definition(self) -> Bundle:
        """The definition with which the run started."""
        return self.bundles[self.started.bundle]

    @property
    def last_step(self) -> int:
        """The last step of the run, -1 without one."""
        return max((item.event.step for item in self.records if isinstance(item.event, ModelRequested)), default=-1)

    def with_changes(
        self, *, prompt: str | None = None, policy: Policy | None = None, tools: Workspace | None = None
    ) -> Bundle:
        """The recorded definition with another prompt, another policy or the tools of a workspace. None: as recorded.

        Raises:
            UsageError: the tools lack an action of the agent.
        """
        workspace = self.definition.workspace
        workspace = workspace if tools is None else replace(workspace, tools=tools.tools)
        agent = workspace.agents[self.agent]
        for name in agent.actions:
            tool, _, action = name.partition(".")
            if tool not in workspace.every_tool or action not in workspace.every_tool[tool].manifest.actions:
                raise UsageError(f"agent {self.agent!r} uses the action {name!r}, which these tools do not have")
        if prompt is not None:
            changed = agent.model_copy(update={"prompt": prompt})
            workspace = replace(workspace, agents={**workspace.agents, self.agent: changed})
        return Bundle(workspace=workspace, policy=self.definition.policy if policy is None else policy)


@asynccontextmanager
async def play_from(
    run: RecordedRun,
    step: int,
    candidate: Candidate,
    place: Place,
    *,
    run_id: str | None = None,
    on_event: Callable[[Recorded], None] = lambda _: None,
) -> AsyncGenerator[Counterfactual]:
    """Play the recorded run from that step with the candidate. The copy of the world is removed when the context is left.

    `run_id` is the id of the run that goes on; None: that of the recorded one. `on_event` gets each event from that step on.

    Raises:
        UsageError: the run has no such step, or the candidate has no such agent.
        RunEnded: the sandbox failed while a tool ran in the copy.
    """
    if not 0 <= step <= run.last_step:
        raise UsageError(f"run {run.records[0].run[:8]} has no step {step}: its steps are 0 to {run.last_step}")
    agents = candidate.definition.workspace.agents
    if run.agent not in agents:
        raise UsageError(f"the candidate has no agent {run.agent!r}, of which the recorded run is")
    recorded, user = RecordedCalls(run.records), run.started.subjects.user
    with copied_seed(place, candidate.definition.workspace, agents[run.agent], user, recorded) as copy:
        log = PathLog(recorded=run.records, start=step, on_event=on_event)
        yield await _Play(run, candidate, copy, log, run_id or run.records[0].run).play()


class _Play:
    """One counterfactual run, from the copied steps to its end."""

    def __init__(self, run: RecordedRun, candidate: Candidate, copy: SeedCopy, log: PathLog, run_id: str) -> None:
        agent = candidate.definition.workspace.agents[run.agent]
        definition, started = candidate.definition, run.started
        changed = _changed_tools(run.definition.workspace, definition.workspace, agent)
        own_policy = all(bundle.policy.digest != definition.policy.digest for bundle in run.bundles.values())
        self._copy = copy
        self._log = log
        log.copy(_copied(run, agent, log.start))
        if changed or own_policy:
            self._log.leave()
        record = Record(self._log, run_id)
        self._executor = CounterfactualExecutor(self._log, copy.recorded, definition.workspace, changed, copy)
        broker = Broker(
            workspace=definition.workspace,
            agent=agent,
            subjects=started.subjects,
            record=record,
            executor=self._executor,
            ports=Circumstances(
                self._log,
                run.bundles,
                definition,
                definition.policy if own_policy else None,
                own_model=bool(candidate.models),
            ),
            sanitizer=sanitizer_of(definition.workspace, record.run, ()),
            confinement=started.confinement,
            needs_secrets=False,
        )
        self._people = People(self._log, record, broker, candidate.approvals, candidate.rejects)
        self._wait = ModelWait(record, broker, lambda: None)
        self._turns = Turns(self._log, record, _models(candidate, self._log, record), candidate.otherwise)
        self._graph = AgentGraph(
            broker=broker,
            models=self._turns,
            record=record,
            tools=tool_specs(definition.workspace, agent),
            hold_reason=lambda: None,
        )

    async def play(self) -> Counterfactual:
        ends, began = "", time.monotonic()
        try:
            if not await remit.runtime.drive(self._graph, self._wait_for_change):
                waits = self._graph.record.state.model_wait is not None
                ends = "the run waits for its model" if waits else WAITS
        except RecordEnds as unknown:
            ends = str(unknown) or "the record ends before the run does"
        run = self._graph.record.run
        return Counterfactual(
            run=run,
            step=self._log.start,
            records=tuple(self._log.events(run)),
            answers=tuple(self._executor.answers.values()),
            ends=ends,
            seconds=time.monotonic() - began,
            folder=self._copy.folder,
            complete=self._executor.complete_copy,
        )

    async def _wait_for_change(self) -> bool:
        if self._wait.waits and not self._turns.repeats:
            return await self._wait.wait_for_change()
        return await self._people.answer()


def _copied(run: RecordedRun, agent: Agent, step: int) -> list[Recorded]:
    """The events before that step; the first one has the prompt and the actions of the candidate."""
    own = run.started.model_copy(update={"prompt": agent.prompt, "actions": agent.actions})
    first, *others = events_before(run.records, step)
    return [first.model_copy(update={"event": own}), *others]


def _models(candidate: Candidate, log: PathLog, record: Record) -> list[Model]:
    first = 0 if candidate.whole_script else log.start - 1 - record.state.internal
    return [_Later(model, first) if model.scripted and first else model for model in candidate.models]


class _Later:
    """A script that begins later: its first turn is the first one that is played."""

    scripted = True

    def __init__(self, model: Model, first: int) -> None:
        self.name = model.name
        self._model = model
        self._first = first

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return await self._model.think(step - self._first, messages, tools)


def _changed_tools(recorded: Workspace, now: Workspace, agent: Agent) -> frozenset[str]:
    """The tools of the agent that are another version than the recorded one."""

    def version(workspace: Workspace, name: str) -> object:
        tool = workspace.every_tool.get(name)
        return None if tool is None else (tool.manifest.digest, tool.code)

    names = {action.partition(".")[0] for action in agent.actions}
    return frozenset(name for name in names if version(recorded, name) != version(now, name))
