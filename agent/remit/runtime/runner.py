"""Starts and resumes runs.

The parts of a run that depend on this machine are built here and in `assembly`; the graph and the broker get them as arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from remit import __version__
from remit.broker import LiveExecutor, ToolExecutor
from remit.core import Model, Principal, RemitError, RunEnded, Scope, Subjects, UsageError, in_own_thread
from remit.core.events import AcceptedChanges, ConversationRun, Recorded, RunFinished, RunResumed, RunStarted
from remit.core.parsing import digest_bytes
from remit.guardrails import RunSecrets, valid
from remit.journal import bring_run_back, note_adoption
from remit.policy import check_agreement, narrowed, read_case_tables
from remit.rollout import Placement, give_up, keep_code, place
from remit.runtime.assembly import (
    Recording,
    StoredRecording,
    agent_of,
    check_code,
    confinement_of,
    install_packages,
    new_run_id,
    open_recording,
    same_confinement,
    sanitizer_of,
    secrets_of,
    working_folder,
)
from remit.runtime.lifecycle import Driven, ExternalGraph, RunContext, RunResult, drive_run
from remit.runtime.models.agents import open_fallbacks_of, open_model_of
from remit.runtime.models.resumed import models_of
from remit.runtime.models.scripted import ScriptedApproval
from remit.runtime.one_call import OneCall
from remit.runtime.resuming import RECORDED, Continuation, check_resumes, placed_again, resumable
from remit.runtime.upkeep.folders import KeptFolder, kept_folder
from remit.sandbox import Sandbox
from remit.workspace import (
    LOCK,
    PRICES,
    Agent,
    WorkspaceSession,
    authorize,
    check_enabled,
    check_tenant,
    files_of,
)


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """What makes a run one of an evaluation: live runs, people, limits, circuits and collectors do not notice it.

    `id` is that of the evaluation. `around` makes the executor of the run from the one that confines its tools. `approvals` are
    given in place of people; every other request for approval is rejected. The run gets no secret.
    """

    id: str
    around: Callable[[ToolExecutor], ToolExecutor]
    approvals: Sequence[ScriptedApproval] = ()


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The parameters of a new run.

    `subject` is the user that the agent acts for, `by` who starts it. `run` is its id (32 hex digits); None: a random one.
    `fallbacks` are asked, in this order, when `model` fails. `folder` is an existing working folder, relative to the workspace; "": the agent's own. `scope` narrows what the run may do; None: everything that the rules allow its agent.
    With a `priority`, of which 9 comes first, the run only starts, and workers drive it; None: this process does.
    `evaluation` makes it a run of an evaluation, None a live run. `thread` names the thread of an external graph, "" without one,
    and `conversation` the place of the run in the conversation of that thread.
    """

    agent: str
    task: str
    subject: str
    by: Principal
    model: Model
    run: str | None = None
    folder: str = ""
    scope: Scope | None = None
    fallbacks: Sequence[Model] = ()
    evaluation: EvaluatedRun | None = None
    thread: str = ""
    conversation: ConversationRun | None = None
    priority: int | None = None


async def start_run(
    session: WorkspaceSession,
    request: RunRequest,
    *,
    wait: float = 0.0,
    on_event: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    external_graph: ExternalGraph | None = None,
) -> RunResult:
    """Start a run, and drive it to its end or to where it waits, unless workers do.

    `wait` is how many seconds it waits for approvals. `on_event` gets every event after it is recorded. `progress` gets a
    line for each slow step before the first event. `external_graph` drives the run instead of Remit's own graph.

    Raises:
        Refusal: `policy_denied`: who starts it is not of the tenant of this workspace, the rules do not allow `remit.run`, or code of
            its tools was revoked. Nothing is recorded.
        UsageError: the agent, a secret or the working folder is missing, or the run id is in use. Nothing is recorded.
        WorkspaceError: the rules, or other files of the workspace, are not valid. Nothing is recorded.
        RunEnded: the run cannot continue, for instance because there is no sandbox.
    """
    run = request.run or new_run_id()
    placement, request, agent = await _placed(session, request, run)
    session = placement.session
    await install_packages(session, agent.name, progress)
    async with session.journal.lease(run) as lease:
        evaluated = request.evaluation
        if request.run is not None:  # the database may have lost a run of that id
            await asyncio.to_thread(bring_run_back, session.journal, run)
        recording = await open_recording(session, lease, on_event, exported=evaluated is None)
        if not recording.record.is_empty:
            raise UsageError(f"the run {run} exists already; use another --run-id, or none")
        folder = session.root / request.folder if request.folder else working_folder(session, agent, run)
        sandbox = Sandbox.shared(session.workspace.settings.accept)
        confinement, unavailable = confinement_of(session.workspace, agent, sandbox)
        # In a thread: a command of [secrets] may take seconds.
        secrets = RunSecrets({}) if evaluated else await in_own_thread(secrets_of, session, agent, request.subject)
        kept = kept_folder(session, run, folder)
        executor = _live_executor(session, sandbox, folder, secrets, request.subject, external_graph, kept)
        if isinstance(request.model, OneCall) and request.model.action in agent.actions and unavailable is None:
            executor.expect(request.model.action)
        context = RunContext(
            session=session,
            agent=agent,
            model=request.model,
            fallbacks=request.fallbacks,
            executor=executor if evaluated is None else evaluated.around(executor),
            confinement=confinement,
            folder=folder,
            secrets=secrets,
            recording=recording,
            wait=wait,
            external_graph=external_graph,
            arm=placement.arm,
            candidate=placement.rules,
            files="" if kept is None else kept.begin(recording.objects),
            approvals=() if evaluated is None else evaluated.approvals,
        )
        if evaluated is None:  # it may be resumed after the files have changed
            keep_code(recording.objects, session.workspace, agent.name)
        await _begin(context, request)
        if unavailable is not None:
            await _end_unconfined(recording, unavailable)
        if request.priority is not None:
            return await _left_to_workers(recording)
        return await _driven(context, sandbox, recording)


async def _left_to_workers(recording: StoredRecording) -> RunResult:
    await recording.record.commit()
    recording.close()
    return RunResult(run=recording.record.run, finished=None, trace=recording.trace.path)


async def _driven(context: RunContext, sandbox: Sandbox, recording: StoredRecording) -> RunResult:
    """Drive the run; when it ends or waits, its live sandboxes end. A run that goes on gets new ones."""
    try:
        driven = await drive_run(context)
        with suppress(RunEnded):  # what it did is recorded; a copy of the rest only spares work after a restore
            await recording.record.copy()
        return _result(driven, recording)
    finally:
        sandbox.end_run(recording.record.run)


async def _begin(context: RunContext, request: RunRequest) -> None:
    """Record that the run starts, and that it is the first one under these rules and pins, if it is."""
    started = started_event(context, request)
    context.recording.record.append(started, durable=True)
    if request.evaluation is None:
        await context.recording.record.copy()
    if request.evaluation is not None or (context.arm is not None and context.arm.arm == "candidate"):
        return
    await context.session.journal.run_in_thread(
        note_adoption,
        context.session.journal,
        policy_digest=started.policy_digest,
        pins_digest=digest_bytes(context.session.workspace.files.get(LOCK, b"")),
        run=context.recording.record.run,
        by=started.by,
    )


def checked_agent(session: WorkspaceSession, request: RunRequest) -> Agent:
    """The agent of the request, after everything is checked that needs neither this machine nor the record.

    Raises:
        Refusal: `policy_denied`: who starts it is not of the tenant of this workspace, the rules do not allow `remit.run`, or code of
            its tools was revoked.
        UsageError: there is no such agent, the scope names an unknown action, or money is limited and the model has no price.
        WorkspaceError: the rules are not valid.
    """
    check_tenant(session.workspace.settings, request.by)
    check_enabled(session.journal, request.by)
    agent = agent_of(session, request.agent)
    if request.evaluation is None:
        authorize(
            session.policy,
            request.by,
            "remit.run",
            f"agent:{agent.name}",
            f"run agent {agent.name!r}",
            journal=session.journal,
        )
    _check_prices(session, agent, (request.model, *request.fallbacks))
    if request.scope is not None:
        narrowed(session.policy, request.scope)
    _check_rules(session)
    check_code(session, agent.name)
    return agent


async def _placed(session: WorkspaceSession, request: RunRequest, run: str) -> tuple[Placement, RunRequest, Agent]:
    """The place of a new run in the rollout of its agent, its request with the models of that definition, and its agent.

    INVARIANT: what the candidate lacks never stops a run: then the candidate is taken back, and the run has the files on disk.
    """
    agent = checked_agent(session, request)
    if request.evaluation is not None:  # it names the definition that it evaluates
        return Placement(session=session), request, agent
    journal, subject = session.journal, f"agent:{agent.name}"
    placement = await journal.run_in_thread(place, session, subject, user=request.subject, run=run)
    if placement.session is session:
        return placement, request, agent
    try:
        if request.model.name == agent.model:  # nobody chose another model for this run
            model = open_model_of(placement.session, agent.name)
            request = replace(request, model=model, fallbacks=open_fallbacks_of(placement.session, agent.name))
        return placement, request, checked_agent(placement.session, request)
    except RemitError as failure:
        assert placement.arm is not None
        given_up = await journal.run_in_thread(give_up, session, placement.arm.rollout, failure)
        return given_up, request, agent


def _check_prices(session: WorkspaceSession, agent: Agent, models: Iterable[Model]) -> None:
    """Raise UsageError if money is limited and one of the models has no price."""
    for model in models if session.workspace.limits_money(agent.name) else ():
        if not session.workspace.prices.knows(model.name):
            fix = f"run `remit prices sync --model {model.name}`, or write a table of the model there"
            what = f"the money of agent {agent.name!r} is limited, and {PRICES} has no price of {model.name!r}"
            raise UsageError(f"{what}: {fix}")


def _check_rules(session: WorkspaceSession) -> None:
    """Raise WorkspaceError if the files are not valid now, or if stock Casbin decides a case differently from Remit: then no run starts."""
    if session.problem is not None:
        raise session.problem
    check_agreement(session.policy, read_case_tables(session.policies))


def _live_executor(
    session: WorkspaceSession,
    sandbox: Sandbox,
    folder: Path,
    secrets: RunSecrets,
    user: str,
    external_graph: ExternalGraph | None,
    kept: KeptFolder | None,
) -> LiveExecutor:
    host_function = None if external_graph is None else external_graph.function
    executor = LiveExecutor(
        session.workspace, sandbox, folder, secrets, host_function=host_function, user=user, root=session.root
    )
    if kept is not None:
        executor.keep_files(kept.keep)
    return executor


def _result(driven: Driven, recording: StoredRecording) -> RunResult:
    return RunResult(
        run=recording.record.run,
        finished=driven.finished,
        waiting=driven.waiting,
        held=driven.held,
        model_wait=driven.model_wait,
        first=driven.first,
        receipt=driven.receipt,
        trace=recording.trace.path,
        unsent=recording.export.lost if recording.export is not None else 0,
    )


def started_event(context: RunContext, request: RunRequest) -> RunStarted:
    """The first event of a run."""
    session, agent = context.session, context.agent
    settings, run = session.workspace.settings, context.recording.record.run
    return RunStarted(
        subjects=Subjects(agent=f"agent:{agent.name}", user=request.subject),
        by=request.by,
        tenant=settings.tenant,
        task=sanitizer_of(session.workspace, run, context.secrets.values).arguments(valid(request.task)),
        prompt=agent.prompt,
        model=request.model.name,
        fallbacks=tuple(model.name for model in request.fallbacks),
        scripted=request.model.scripted,
        actions=agent.actions,
        bundle=context.recording.objects.put_bundle(files_of(session.workspace)),
        policy_digest=session.policy.digest,
        confinement=context.confinement,
        env=settings.env,
        folder=context.folder.relative_to(session.root).as_posix(),
        version=__version__,
        scope=request.scope,
        arm=context.arm,
        # An external graph decides itself what its model reads.
        context=agent.context.model_copy(update={} if context.external_graph is None else {"limit": None}),
        evaluation="" if request.evaluation is None else request.evaluation.id,
        driver="" if context.external_graph is None else context.external_graph.driver,
        thread=request.thread,
        conversation=request.conversation,
        graph=_graph_code(context, request),
        # Remit itself carries out no call that is refused; a graph's own tools run anyway.
        observe=agent.observe if _runs_own_tools(context) and request.evaluation is None else None,
        priority=request.priority,
        files=context.files,
    )


def _runs_own_tools(context: RunContext) -> bool:
    return context.external_graph is not None and context.external_graph.driver in ("langgraph", "hooks")


def _graph_code(context: RunContext, request: RunRequest) -> str:
    """The digest of the graph of the agent's author, if it drives the run. A single call needs none."""
    factory = context.agent.graph
    driven_otherwise = context.external_graph is not None or request.model.name.startswith("call:")
    return "" if factory is None or driven_otherwise else factory.code


async def _end_unconfined(recording: Recording, unavailable: RunEnded) -> NoReturn:
    """Record that the run ended because there is no sandbox, and raise the error."""
    ended = RunFinished(outcome="failed", code=unavailable.code, message=unavailable.message)
    recording.record.append(ended, durable=True)
    await recording.record.commit()
    recording.close()
    unavailable.run = recording.record.run
    raise unavailable


async def resume_run(
    session: WorkspaceSession,
    run: str,
    *,
    by: Principal,
    wait: float = 0.0,
    on_event: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    goes_on: Continuation = RECORDED,
) -> RunResult:
    """Resume a run where its last process stopped, with the agent and the tools that it had. Calls that have a result are not repeated.

    The rules, limits, holds and settings are those in force now. `by` is who resumes it. The other parameters are those of
    `start_run`. An external graph uses its own model.

    Raises:
        Refusal: `policy_denied`: who resumes it is not of the tenant of this workspace, the rules do not allow `remit.resume`, or code
            of its tools was revoked. Nothing is
            recorded.
        UsageError: the run has finished, another process or an external graph drives it, or a part of its definition is missing.
            Nothing is recorded.
        RunEnded: the run cannot continue, for instance because there is no sandbox.
    """
    check_tenant(session.workspace.settings, by)
    check_enabled(session.journal, by)
    async with session.journal.lease(run) as lease:
        await asyncio.to_thread(bring_run_back, session.journal, run)
        recording = await open_recording(session, lease, on_event)
        started = resumable(recording.record, run, graph=goes_on.external_graph is not None)
        check_resumes(session, started, run, by, goes_on)
        placement, accepted = await placed_again(session, recording.record, recording.objects, goes_on, progress)
        session = placement.session
        agent = agent_of(session, started.agent)
        _check_rules(session)
        await install_packages(session, agent.name, progress)
        sandbox = Sandbox.shared(session.workspace.settings.accept)
        folder, user = session.root / started.folder, started.subjects.user
        secrets = await in_own_thread(secrets_of, session, agent, user)
        if (kept := kept_folder(session, run, folder)) is not None:  # another machine may have driven the run
            await asyncio.to_thread(kept.bring_here, recording.record.every(), recording.objects)
        model, fallbacks = models_of(session, started, goes_on)
        context = RunContext(
            session=session,
            agent=agent,
            model=model,
            fallbacks=fallbacks,
            executor=_live_executor(session, sandbox, folder, secrets, user, goes_on.external_graph, kept),
            confinement=same_confinement(session, agent, sandbox, started),
            folder=folder,
            secrets=secrets,
            recording=recording,
            wait=wait,
            external_graph=goes_on.external_graph,
            arm=placement.arm,
            candidate=placement.rules,
        )
        recording.record.append(_resumed_event(context, by, accepted), durable=True)
        return await _driven(context, sandbox, recording)


def _resumed_event(context: RunContext, by: Principal, accepted: AcceptedChanges | None) -> RunResumed:
    session, recording = context.session, context.recording
    keep_code(recording.objects, session.workspace, context.agent.name)
    return RunResumed(
        count=recording.record.state.resumed + 1,
        by=by,
        bundle=recording.objects.put_bundle(files_of(session.workspace)),
        policy_digest=session.policy.digest,
        accepted=accepted,
        since=recording.record.last_at,
    )


def acting_subject(session: WorkspaceSession, by: Principal, user: str | None) -> str:
    """The user that the agent acts for: `user`, or by default who asks.

    Raises Refusal `policy_denied` if the rules do not allow who asks to act for another user.
    """
    own = by.subject
    other = None if user is None else user if user.startswith("user:") else f"user:{user}"
    if other is None or other == own:
        return own
    authorize(session.policy, by, "remit.impersonate", other, f"act for {other}", journal=session.journal)
    return other
