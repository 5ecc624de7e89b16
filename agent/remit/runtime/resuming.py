"""With what a run goes on that is resumed: the agent and the tools that it had, or those on disk, if a person accepts them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from remit.core import Principal, RemitError, UsageError
from remit.core.events import AcceptedChanges, RunResumed, RunStarted
from remit.journal import Record, StoredRecord
from remit.rollout import Placement, place_again, recorded_definition, with_definition
from remit.runtime.assembly import agent_of, check_code, install_packages
from remit.tracing import Objects, objects_of
from remit.workspace import WorkspaceSession, authorize, authorize_run, check_enabled

if TYPE_CHECKING:  # a caller that only looks whether a run can go on does not load what drives it
    from remit.runtime.lifecycle import ExternalGraph


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """With what a run goes on, in place of its own graph and its recorded definition.

    `accept_changes`: with the agent and the tools on disk. `by_worker`: a worker found it in the queue. `external_graph` drives the run, and its deployment is accepted likewise.
    """

    accept_changes: bool = False
    by_worker: bool = False
    external_graph: ExternalGraph | None = None


RECORDED: Final[Continuation] = Continuation()


async def resume_obstacle(session: WorkspaceSession, run: str) -> str:
    """Why the run could not go on with its own definition now, on this machine and without network; "" if nothing is missing."""
    record, objects = StoredRecord(session.journal, run), objects_of(session)
    try:
        started = resumable(record, run, graph=True)
        if not started.driver:
            placement, _ = await placed_again(session, record, objects, RECORDED, None)
            await install_packages(placement.session, started.agent, None, offline=True)
    except RemitError as failure:
        return str(failure)
    return ""


def resumable(record: Record, run: str, *, graph: bool) -> RunStarted:
    """The first event of a run. `graph`: it may be the run of an external graph. Raises UsageError if the run cannot be resumed."""
    started = record.state.started
    if started is None:
        raise UsageError(f"the journal has no run {run}")
    if started.content != "complete":
        raise UsageError(f"run {run} was recorded without content, so that it cannot be resumed: start a new run")
    if started.evaluation:
        fix = f"remit eval --resume {started.evaluation}"
        raise UsageError(f"run {run} belongs to an evaluation, which plays it again: {fix}")
    if record.state.finished:
        raise UsageError(f"run {run} has finished; to see its outcome: remit trace show {run[:8]}")
    # INVARIANT: a call is made with the arguments that were asked for, or not at all: they are in its first turn.
    if started.model.startswith("call:") and record.get("model.responded/0/-/-") is None:
        raise UsageError(f"run {run} ended before the arguments of its call were recorded: make the call again")
    if started.driver and not graph:
        raise UsageError(f"{started.driven_by} drives run {run}, not Remit: {started.goes_on_by}")
    return started


def check_resumes(
    session: WorkspaceSession, started: RunStarted, run: str, by: Principal, goes_on: Continuation
) -> None:
    """Raise Refusal `policy_denied` if the run may not go on.

    No person resumes what a worker takes, so the principal who started it must still be allowed to.
    """
    if not goes_on.by_worker:
        authorize_run(session.policy, session.journal, run, by, "remit.resume", f"resume run {run[:8]}")
        return
    check_enabled(session.journal, started.by)
    what = f"let workers drive run {run[:8]}, which {started.by.subject} started"
    authorize(session.policy, started.by, "remit.run", started.subjects.agent, what, journal=session.journal)


async def placed_again(
    session: WorkspaceSession,
    record: Record,
    objects: Objects,
    goes_on: Continuation,
    progress: Callable[[str], None] | None,
) -> tuple[Placement, AcceptedChanges | None]:
    """The place of a run that is resumed, with its own definition; or with the one on disk, and what that changes.

    `progress` gets a line if the definition on disk has changed, and the run keeps its own.

    Raises:
        Refusal: `policy_denied`: code of its tools was revoked.
        UsageError: a part of its definition is missing; or another one is accepted while an effect of the run is in doubt.
    """
    started = record.state.started
    assert started is not None
    placement = await session.journal.run_in_thread(place_again, session, started.arm)
    session = placement.session
    accepted: AcceptedChanges | None = None
    if goes_on.accept_changes or goes_on.external_graph is not None:
        accepted = _accepted(session, record, objects, started)
    else:
        settings = session.workspace.settings.model_copy(update={"env": started.env})  # a fact of its decisions
        session = replace(session, workspace=replace(session.workspace, settings=settings))
        with _naming_the_way_out(record.run):
            bundle = _bundle_of(record, started)
            recorded = recorded_definition(session.workspace, objects, bundle, started.agent)
            session = with_definition(session, objects, recorded) if recorded.changed else session
        if recorded.changed and progress is not None:
            progress(f"the run keeps the agent and the tools that it had; changed since: {', '.join(recorded.changed)}")
    check_code(session, started.agent)
    return replace(placement, session=session), accepted


@contextmanager
def _naming_the_way_out(run: str) -> Generator[None]:
    """Say what to do if a part of the definition of the run is missing."""
    try:
        yield
    except UsageError as failure:
        fix = f"restore it, or take the one on disk: remit run --resume {run[:8]} --accept-changes"
        raise UsageError(f"the run cannot go on with the definition that it has: {failure}; {fix}") from failure


def _accepted(
    session: WorkspaceSession, record: Record, objects: Objects, started: RunStarted
) -> AcceptedChanges | None:
    """What the definition on disk changes; None if it is the one that the run has."""
    now = agent_of(session, started.agent)
    try:
        bundle = _bundle_of(record, started)
        changed = recorded_definition(session.workspace, objects, bundle, started.agent).changed
    except UsageError:
        changed = ("the definition as a whole: the recorded one is missing",)
    for doubt in record.state.in_doubt if changed else ():
        if not doubt.answered:  # the tool that would look for the effect is not the one that began it
            place = f"{doubt.step}.{doubt.index}"
            what = f"the outcome of {doubt.action} at step {place} is unknown"
            fix = f"settle it before you accept another definition: remit settle {record.run[:8]}/{place}"
            raise UsageError(f"{what}: {fix}")
    return AcceptedChanges(changed=changed, prompt=now.prompt, actions=now.actions) if changed else None


def _bundle_of(record: Record, started: RunStarted) -> str:
    """The digest of the policy bundle with the definition that the run has had until now."""
    latest = record.get(f"run.resumed/{record.state.resumed}")
    return latest.bundle if isinstance(latest, RunResumed) else started.bundle
