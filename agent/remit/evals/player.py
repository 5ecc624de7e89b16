"""Plays an evaluation: each variant plays each scenario as often as it has repeats, and each run gets its grade.

Runs are ordinary runs in the journal of the workspace, marked with the id of the evaluation, each in a world of its own. The grade of
a run is recorded as soon as the run has ended: an evaluation that was killed goes on with the runs that have none.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from remit.core import Confinement, Model, Principal, RunEnded, UsageError
from remit.core.events import (
    Check,
    EvaluationFinished,
    EvaluationGraded,
    EvaluationStarted,
    Grade,
    Recorded,
    RunFinished,
    ScenarioInfo,
    Sources,
)
from remit.core.parsing import digest_bytes, read_file
from remit.evals.counterfactual import ScenarioRun
from remit.evals.definitions import Changes, Definition, open_definition, store_variant
from remit.evals.grading import check_record, check_world, spent_by
from remit.evals.judges import Judge, NoVerdict, judgement, judges_of, judging_task
from remit.evals.results import Evaluation
from remit.evals.scenarios import ExpectedJudgement, Scenario, read_scenarios
from remit.evals.stored import read_evaluation, stream_of
from remit.evals.worlds import WorldExecutor
from remit.journal import LiveRecord, RunQuery, list_runs
from remit.runtime import EvaluatedRun, RunRequest, open_fallbacks_of, open_model_of, start_run
from remit.runtime.models import ScriptedModel
from remit.sandbox import Profile, Sandbox
from remit.tracing import objects_of
from remit.tracing.reports import Timeline, build_timeline
from remit.workspace import WorkspaceSession

FOLDER: Final = "work/evaluations"  # of the workspace: definitions and worlds of evaluations that are played now
PROGRAM_S: Final = 10.0  # seconds that a program may look at the world
UNAVAILABLE: Final = ("sandbox_unavailable", "unrecorded")

OpenModel: TypeAlias = Callable[[Definition, Scenario], Model]


def open_scenario_model(definition: Definition, scenario: Scenario, *, agent: str) -> Model:
    """The model of a variant; of a scripted one, the script of the scenario, if it has one.

    Raises:
        UsageError: the provider's package or key is missing, or the scenario has no script.
        WorkspaceError: the script cannot be read.
    """
    name, session = definition.variant.model, definition.session
    if name.startswith("script:") and scenario.script is not None:
        path = session.root / "agent" / agent / scenario.script
        return ScriptedModel.read(path, name=f"script:{scenario.script}")
    return open_model_of(session, agent, name)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is played: the scenarios with these names, all without one, and the variants. `repeats` replaces those of the rows."""

    agent: str
    scenarios: Sequence[str] = ()
    repeats: int | None = None
    variants: Sequence[Changes] = (Changes(),)


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One run of the evaluation."""

    definition: Definition
    scenario: Scenario
    repeat: int

    @property
    def place(self) -> tuple[str, str, int]:
        return self.definition.variant.name, self.scenario.name, self.repeat

    @property
    def worlds(self) -> Path:
        """Where its world is made: below the folder of the definition, so that the runs of a variant share its warm tools."""
        root = self.definition.session.workspace.root
        assert root is not None  # a definition is written before it is played
        return root / "worlds"


@dataclass(kw_only=True)
class _Played:
    """What is known of a run after it was played. `reason` says why it has no grade; "" if it has one.

    `seconds` and `sources` are those of a run that goes on from a recorded one; else None.
    """

    records: list[Recorded] = field(default_factory=list[Recorded])
    checks: list[Check] = field(default_factory=list[Check])
    reason: str = ""
    seconds: float | None = None
    sources: Sources | None = None


def record_evaluation(session: WorkspaceSession, selection: Selection, *, by: Principal) -> str:
    """Check and store everything that an evaluation needs, and record that it starts. Returns its id; `play` plays it.

    Raises:
        UsageError: there is no such agent, scenario, file or folder, or the workspace records no content.
        WorkspaceError: a scenario or a variant is not valid.
    """
    if not session.workspace.settings.content:
        raise UsageError("an evaluation grades what was recorded: set `content = true` below [traces] in remit.toml")
    session.workspace.agent(selection.agent)
    scenarios = _chosen(read_scenarios(session.workspace, selection.agent), selection.scenarios)
    repeats = {} if selection.repeats is None else {"repeats": selection.repeats}
    judges = judges_of(session.workspace, scenarios)
    objects = objects_of(session)
    started = EvaluationStarted(
        agent=selection.agent,
        by=by,
        scenarios=tuple(_info(scenario, judges).model_copy(update=repeats) for scenario in scenarios),
        variants=tuple(store_variant(session, selection.agent, changes, objects) for changes in selection.variants),
    )
    evaluation = secrets.token_hex(8)
    session.journal.append_shared(stream_of(evaluation), started)
    return evaluation


def _info(scenario: Scenario, judges: Mapping[str, Judge]) -> ScenarioInfo:
    names = dict.fromkeys(expected.agent for expected in scenario.expect.judge)
    return scenario.info.model_copy(update={"judges": tuple(str(judges[name]) for name in names)})


def _chosen(scenarios: Sequence[Scenario], names: Sequence[str]) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in scenarios}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no scenario {unknown[0]!r}; scenarios: {', '.join(known)}")
    return [known[name] for name in names] if names else list(scenarios)


async def play(
    session: WorkspaceSession,
    evaluation: str,
    *,
    by: Principal,
    parallel: int | None = None,
    on_grade: Callable[[Grade], None] = lambda _: None,
    open_model: OpenModel | None = None,
) -> Evaluation:
    """Play every run of the evaluation that has no grade yet, to the end. `parallel` runs at a time, by default one for each core.

    `on_grade` gets each grade once it is recorded.

    Raises:
        UsageError: there is no such evaluation, another process plays it, or a scenario is another one now.
        WorkspaceError: a script is not valid.
        RunEnded: a grade cannot be recorded.
    """
    async with session.journal.lease(stream_of(evaluation)):
        found = read_evaluation(session.journal, evaluation)
        if found.ended is not None:
            return found
        opened = open_model or partial(open_scenario_model, agent=found.agent)
        player = _Player(session, found, by=by, on_grade=on_grade, open_model=opened)
        try:
            await player.play(
                parallel or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, player.folder, ignore_errors=True)
        return read_evaluation(session.journal, evaluation)


class _Player:
    """Plays one evaluation whose lease is held."""

    def __init__(
        self,
        session: WorkspaceSession,
        evaluation: Evaluation,
        *,
        by: Principal,
        on_grade: Callable[[Grade], None],
        open_model: OpenModel,
    ) -> None:
        self.folder: Final = session.root / FOLDER / evaluation.id
        self._session = session
        self._evaluation = evaluation
        self._judges: Mapping[str, Judge] = {}
        self._by = by
        self._on_grade = on_grade
        self._open_model = open_model

    async def play(self, parallel: int) -> None:
        """Play what has no grade, and record the end."""
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)  # of a process that was killed
        await self._end_interrupted()
        scenarios = self._scenarios()
        self._judges = judges_of(self._session.workspace, list(scenarios.values()))
        cells = self._cells(scenarios, self._definitions())
        graded = {(grade.variant, grade.scenario, grade.repeat) for grade in self._evaluation.grades}
        left = [cell for cell in cells if cell.place not in graded]
        for cell in left:
            self._open_model(cell.definition, cell.scenario)  # what is missing is found before the first run
        waiting = iter(left)

        async def play_next() -> None:
            for cell in waiting:
                await self._play(cell)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(parallel, len(left))):
                    group.create_task(play_next())
        except ExceptionGroup as failures:  # the others were cancelled; the first one says why
            raise failures.exceptions[0] from None
        await self._record(EvaluationFinished())

    async def _end_interrupted(self) -> None:
        """Record the end of each run that a killed process has left: it is played again."""
        journal = self._session.journal
        left = [row for row in list_runs(journal, RunQuery(evaluation=self._evaluation.id)) if row.ended_at is None]
        for row in left:
            async with journal.lease(row.run) as lease:
                record = LiveRecord(journal, lease)
                message = "the evaluation was interrupted, and plays the run again"
                record.append(RunFinished(outcome="stopped", code="cancelled", message=message), durable=True)
                await record.commit()

    def _scenarios(self) -> dict[str, Scenario]:
        """The scenarios as they are on disk. Raises UsageError if one differs from the one that the evaluation began with."""
        found = {item.name: item for item in read_scenarios(self._session.workspace, self._evaluation.agent)}
        for info in self._evaluation.scenarios:
            if info.name not in found or found[info.name].digest != info.digest:
                raise UsageError(
                    f"scenario {info.name!r} has changed since the evaluation began: start a new evaluation"
                )
        return {info.name: found[info.name] for info in self._evaluation.scenarios}

    def _definitions(self) -> list[Definition]:
        objects = objects_of(self._session)
        return [
            open_definition(self._session, variant, objects, self.folder / str(number))
            for number, variant in enumerate(self._evaluation.variants)
        ]

    def _cells(self, scenarios: Mapping[str, Scenario], definitions: Sequence[Definition]) -> list[_Cell]:
        """Every run, the variants in turn: what changes while the evaluation goes on meets all of them alike."""
        infos = self._evaluation.scenarios
        return [
            _Cell(definition=definition, scenario=scenarios[info.name], repeat=repeat)
            for repeat in range(max(info.repeats for info in infos))
            for info in infos
            for definition in definitions
            if repeat < info.repeats
        ]

    async def _play(self, cell: _Cell) -> None:
        grade = await self._grade(cell)
        await self._record(EvaluationGraded(grade=grade))
        self._on_grade(grade)

    async def _record(self, event: EvaluationGraded | EvaluationFinished) -> None:
        journal = self._session.journal
        await journal.run_in_thread(journal.append_shared, stream_of(self._evaluation.id), event)

    async def _grade(self, cell: _Cell) -> Grade:
        run, played = secrets.token_hex(16), _Played()
        try:
            if cell.scenario.world.run is None:
                await self._play_run(cell, run, played)
            else:
                await self._go_on(cell, run, played)
        except (RunEnded, NoVerdict) as ended:
            played.reason = str(ended).partition("\n")[0]
        spent = spent_by(build_timeline(played.records))
        passed = all(check.passed for check in played.checks)
        return Grade(
            scenario=cell.scenario.name,
            variant=cell.definition.variant.name,
            repeat=cell.repeat,
            run=run if played.records else "",
            outcome="infrastructure" if played.reason else "passed" if passed else "failed",
            checks=tuple(played.checks),
            reason=played.reason,
            seconds=spent.seconds if played.seconds is None else played.seconds,
            calls=spent.calls,
            tokens=spent.tokens or 0,
            money=spent.money,
            sources=played.sources,
        )

    async def _play_run(self, cell: _Cell, run: str, played: _Played) -> None:
        """Play a run from its beginning, in a new world."""
        scenario, session, world = cell.scenario, cell.definition.session, cell.worlds / run
        try:
            await asyncio.to_thread(scenario.world.write, session.root, world)
            result = await start_run(session, self._request(cell, run, world), on_event=played.records.append)
            held = None if result.finished is not None else result.held
            played.reason = _infrastructure(build_timeline(played.records), held)
            await self._check(cell, played, world)
        finally:
            await asyncio.to_thread(shutil.rmtree, world, ignore_errors=True)

    async def _go_on(self, cell: _Cell, run: str, played: _Played) -> None:
        """Let the recorded run of the scenario go on from its step."""
        scenario, definition = cell.scenario, cell.definition
        cell.worlds.mkdir(parents=True, exist_ok=True)
        going_on = ScenarioRun(
            run=run,
            evaluation=self._evaluation.id,
            by=self._by,
            session=definition.session,
            agent_folder=self._agent_folder,
            root=self._session.root,
            below=cell.worlds,
            world=scenario.world,
            models=(self._open_model(definition, scenario), *self._fallbacks(definition)),
            whole_script=scenario.script is None,
            approvals=scenario.approvals,
        )
        async with going_on.played() as gone_on:
            played.records.extend(gone_on.records)
            played.sources, played.seconds = gone_on.sources, gone_on.seconds
            objects = objects_of(self._session)
            await asyncio.to_thread(going_on.record, gone_on, self._session.journal, objects)
            played.reason = _infrastructure(build_timeline(gone_on.records), None) or gone_on.ungraded
            if scenario.expect.world and not played.reason:
                played.reason = await gone_on.complete()
            await self._check(cell, played, gone_on.folder)

    async def _check(self, cell: _Cell, played: _Played, world: Path) -> None:
        if not played.reason:
            scenario, timeline = cell.scenario, build_timeline(played.records)
            played.checks += check_record(scenario, timeline, self._agent_folder)
            played.checks += await check_world(scenario.expect.world, world, partial(self._run_program, world))
            for expected in scenario.expect.judge:
                played.checks.append(await self._judge(cell, expected, timeline))

    async def _judge(self, cell: _Cell, expected: ExpectedJudgement, timeline: Timeline) -> Check:
        """What a judge says of the answer, in a run of its own that is recorded like every other."""
        session, run = cell.definition.session, secrets.token_hex(16)
        answer = "" if timeline.finished is None else timeline.finished.answer
        folder = cell.worlds / run
        folder.mkdir(parents=True)
        request = RunRequest(
            agent=expected.agent,
            task=judging_task(expected.question, cell.scenario.task, answer),
            subject=self._by.subject,
            by=self._by,
            model=open_model_of(session, expected.agent),
            fallbacks=open_fallbacks_of(session, expected.agent),
            run=run,
            folder=folder.relative_to(session.root).as_posix(),
            evaluation=EvaluatedRun(
                id=self._evaluation.id, around=lambda live: WorldExecutor(live, session.workspace, ())
            ),
        )
        try:
            result = await start_run(session, request)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return judgement(self._judges[expected.agent], run, result.answer)

    @property
    def _agent_folder(self) -> Path:
        return self._session.root / "agent" / self._evaluation.agent

    def _fallbacks(self, definition: Definition) -> list[Model]:
        """The models that are asked when the first one fails; none if the variant has a model of its own."""
        changed = any(line.startswith("model ") for line in definition.variant.changes)
        return [] if changed else open_fallbacks_of(definition.session, self._evaluation.agent)

    def _request(self, cell: _Cell, run: str, world: Path) -> RunRequest:
        scenario, definition = cell.scenario, cell.definition
        session = definition.session
        return RunRequest(
            agent=self._evaluation.agent,
            task=scenario.task,
            subject=scenario.user or self._by.subject,
            by=self._by,
            model=self._open_model(definition, scenario),
            fallbacks=self._fallbacks(definition),
            run=run,
            folder=world.relative_to(session.root).as_posix(),
            evaluation=EvaluatedRun(
                id=self._evaluation.id,
                around=lambda live: WorldExecutor(live, session.workspace, scenario.world.answers),
                approvals=scenario.approvals,
            ),
        )

    async def _run_program(self, world: Path, program: str) -> str:
        """What a program finds wrong in the world; it runs confined, and reads the world only."""
        data = read_file(self._agent_folder / program, file=program)
        code = self.folder / "programs" / digest_bytes(data).rpartition(":")[2]
        code.mkdir(parents=True, exist_ok=True)
        (code / "main.py").write_bytes(data)
        sandbox = Sandbox.shared(self._session.workspace.settings.accept)
        output = await sandbox.run(_program_profile(code, world, sandbox.confinement), {})
        if output.code is not None:
            return f"{program} failed: {output.message}"
        return "" if output.value in (None, "") else str(output.value)


def _program_profile(code: Path, world: Path, confinement: Confinement) -> Profile:
    """The profile of a program that looks at a world."""
    files = [path for path in world.iterdir() if path.name != "stores" and not path.is_symlink()]
    stores = world / "stores"
    return Profile(
        tool="world",
        action="check",
        source="python",
        code=code,
        root=world,
        reads=tuple(f"{path.name}/**" if path.is_dir() else path.name for path in files),
        read_stores=tuple(path.name for path in stores.iterdir()) if stores.is_dir() else (),
        wall=PROGRAM_S,
        cpu=PROGRAM_S,
        tier=confinement,
        trust="none",
    )


def _infrastructure(timeline: Timeline, held: str | None) -> str:
    """Why the run says nothing about the agent; "" if it does. `held` says why an operator holds it, None if nobody does."""
    if held is not None:
        return f"an operator holds the run: {held}"
    if (failure := timeline.failure or timeline.model_wait) is not None:
        return f"the model {failure.model} failed: {failure.message}".partition("\n")[0]
    if timeline.finished is not None and timeline.finished.code in UNAVAILABLE:
        return timeline.finished.message
    return ""
