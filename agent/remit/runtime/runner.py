"""Starts and resumes runs.

Everything that a run needs from this machine is put together here; the graph and the broker know none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from remit import __version__
from remit.core import Context, Model, Refusal, Request, RunEnded, Scope, Subjects, UsageError
from remit.core.events import (
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.guardrails import valid
from remit.journal import Record, lock_run
from remit.policy import check_agreement, narrowed, read_cases_text
from remit.runtime.assembly import (
    Recording,
    agent_of,
    check_same_files,
    confinement_of,
    install_packages,
    new_run_id,
    open_model_of,
    open_recording,
    sanitizer_of,
    secrets_of,
    working_folder,
)
from remit.runtime.lifecycle import ExternalGraph, RunContext, RunResult, drive_run
from remit.runtime.one_call import OneCall
from remit.sandbox import Sandbox
from remit.tracing import ObjectStore
from remit.workspace import IMPERSONATE, Agent, WorkspaceSession, files_of, os_account, subject_of


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a new run is told. `run` names it (32 hex digits); None lets Remit choose. `scope` None: all that its agent may.

    `folder` is a working folder that is there already, relative to the workspace; "" is the agent's own.
    """

    agent: str
    task: str
    subject: str
    account: str
    model: Model
    run: str | None = None
    folder: str = ""
    scope: Scope | None = None


async def start_run(
    session: WorkspaceSession,
    start: RunRequest,
    *,
    wait: float = 0.0,
    tell: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    foreign: ExternalGraph | None = None,
) -> RunResult:
    """Begin a run and take it as far as it goes. `wait` is how many seconds it waits for people.

    `progress` hears what takes long before anything is recorded; `foreign` drives the run in the place of Remit's graph.
    """
    agent = agent_of(session, start.agent)
    if start.scope is not None:
        narrowed(session.policy, start.scope)  # raises for what does not exist, before anything is recorded
    _check_rules(session)
    await install_packages(session.workspace, agent, progress)
    run = start.run or new_run_id()
    with lock_run(session.traces, run):
        if session.journal.events(run):
            raise UsageError(f"there is already a run {run}; choose another id or leave it out")
        folder = session.root / start.folder if start.folder else working_folder(session, agent, run)
        sandbox = Sandbox.shared(session.workspace.settings.accept)
        confinement, unavailable = confinement_of(session.workspace, agent, sandbox)
        context = RunContext(
            session=session,
            agent=agent,
            model=start.model,
            sandbox=sandbox,
            confinement=confinement,
            folder=folder,
            secrets=secrets_of(session, agent),
            recording=open_recording(session, run, tell),
            wait=wait,
            foreign=foreign,
        )
        context.recording.record.append(_started(context, start), durable=True)
        if unavailable is not None:
            _end_unconfined(context.recording, unavailable)
        return await drive_run(context)


def _check_rules(session: WorkspaceSession) -> None:
    """Raise WorkspaceError where stock Casbin reads the rules otherwise than Remit does: then no run goes by them."""
    check_agreement(session.policy, read_cases_text(session.root / "policies"))


def _started(context: RunContext, start: RunRequest) -> RunStarted:
    """The first event of a run."""
    session, agent = context.session, context.agent
    settings, run = session.workspace.settings, context.recording.record.run
    return RunStarted(
        subjects=Subjects(agent=f"agent:{agent.name}", user=start.subject),
        account=start.account,
        actor=subject_of(settings, start.account),
        task=sanitizer_of(session, run, context.secrets.values()).arguments(valid(start.task)),
        prompt=agent.prompt,
        model=start.model.name,
        scripted=start.model.scripted,
        actions=agent.actions,
        bundle=ObjectStore(session.traces / "objects").put_bundle(files_of(session.workspace)),
        policy_digest=session.policy.digest,
        confinement=context.confinement,
        env=settings.env,
        folder=context.folder.relative_to(session.root).as_posix(),
        version=__version__,
        scope=start.scope,
    )


def _end_unconfined(recording: Recording, unavailable: RunEnded) -> NoReturn:
    """Record that nothing may run where nothing can be confined, and raise why."""
    ended = RunFinished(outcome="failed", code=unavailable.code, message=unavailable.message)
    recording.record.append(ended, durable=True)
    recording.close()
    unavailable.run = recording.record.run
    raise unavailable


async def resume_run(
    session: WorkspaceSession,
    run: str,
    *,
    account: str,
    wait: float = 0.0,
    tell: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    foreign: ExternalGraph | None = None,
) -> RunResult:
    """Take a run up where its last process left it. What was done is not done again.

    `foreign` drives the run in the place of Remit's graph, with its own model.

    Raises UsageError where the run has finished, where another process is at it, or where the files of its agent or tools
    have changed since; then nothing is recorded.
    """
    with lock_run(session.traces, run):
        recording = open_recording(session, run, tell)
        started = _resumable(recording.record, run)
        agent = agent_of(session, started.subjects.agent.partition(":")[2])
        objects = ObjectStore(session.traces / "objects")
        files = files_of(session.workspace)
        check_same_files(objects.get_bundle(started.bundle), files)
        _check_rules(session)
        await install_packages(session.workspace, agent, progress)
        sandbox = Sandbox.shared(session.workspace.settings.accept)
        confinement, unavailable = confinement_of(session.workspace, agent, sandbox)
        if unavailable is not None:
            raise unavailable
        if confinement != started.confinement:
            here = f"this machine offers {confinement!r}"
            raise UsageError(f"the run began with confinement {started.confinement!r}, {here}")
        context = RunContext(
            session=session,
            agent=agent,
            model=_model_of(session, agent, started) if foreign is None else foreign.model,
            sandbox=sandbox,
            confinement=confinement,
            folder=session.root / started.folder,
            secrets=secrets_of(session, agent),
            recording=recording,
            wait=wait,
            foreign=foreign,
        )
        resumed = RunResumed(
            count=recording.record.state.resumed + 1,
            account=account,
            bundle=objects.put_bundle(files),
            policy_digest=session.policy.digest,
        )
        recording.record.append(resumed, durable=True)
        return await drive_run(context)


def _resumable(record: Record, run: str) -> RunStarted:
    """The first event of a run that can go on. Raises UsageError where it cannot."""
    started = record.state.started
    if started is None:
        raise UsageError(f"the journal has no run {run}")
    if started.content != "complete":
        raise UsageError(f"run {run} was recorded without content: only the process that began it could go on")
    if record.state.finished:
        raise UsageError(f"run {run} has finished; `remit trace show {run[:8]}` tells how")
    return started


def _model_of(session: WorkspaceSession, agent: Agent, started: RunStarted) -> Model:
    """The model that the run began with; the only turn of a run of one call is in the record."""
    action = started.model.removeprefix("call:")
    return open_model_of(session, agent.name, started.model) if action == started.model else OneCall(action, "{}")


def acting_subject(session: WorkspaceSession, user: str | None) -> str:
    """The user subject of this process; another one only where policy lets this account act for it.

    Raises Refusal `policy_denied` where it does not.
    """
    own = subject_of(session.workspace.settings, os_account())
    named = None if user is None else user if user.startswith("user:") else f"user:{user}"
    if named is None or named == own:
        return own
    request = Request(subjects=(own,), action=IMPERSONATE, resources=(named,), context=Context())
    decision = session.policy.decide(request)
    if decision.verdict != "allow":
        raise Refusal("policy_denied", f"{own} may not act for {named}: {decision.message}")
    return named
