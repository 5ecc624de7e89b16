"""A live run: put together, started, taken up again, and told about while it goes.

Everything that a run needs from this machine is named here; the graph and the broker know none of it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from remit import __version__
from remit.broker import holds as hold
from remit.broker.approvals import requests as approval
from remit.broker.attempts import LiveAttempts
from remit.broker.broker import Broker
from remit.core.calls import Ask, Call, Confinement, Context, Json, Request, Result, Scope, Subjects
from remit.core.errors import Refusal, RunEnded, UsageError
from remit.core.events import (
    ApprovalRequested,
    CallAnswered,
    CallDecided,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.guardrails.redaction import Redactor, names_secret
from remit.guardrails.sanitizer import Guard, valid
from remit.guardrails.secrets import Secrets
from remit.journal.run_lock import DRIVEN, driving
from remit.journal.run_log import MemoryLog, Record
from remit.journal.store import AlreadyRecorded
from remit.policy.run_scope import narrowed
from remit.runtime.graph import Agency, checkpoints, drive
from remit.runtime.live import LiveWorld
from remit.runtime.models import Message, Model, ScriptModel, ToolSpec, Turn, open_model
from remit.sandbox import Sandbox
from remit.sandbox.packages import environment
from remit.tracing import Export, Objects, TraceFile
from remit.workspace.bundle import IMPERSONATE, files_of, tool_specs
from remit.workspace.loader import Agent, Workspace, subject_of
from remit.workspace.session import House, account

POLL_S: Final = 0.25  # how often a waiting run looks for what people said


class OneCall:
    """A model that asks for one call and then has nothing more to say: `remit call`."""

    scripted = True

    def __init__(self, action: str, arguments: str) -> None:
        self.name = f"call:{action}"
        self._ask = Ask(name=action.replace(".", "__", 1), arguments=arguments)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Turn:
        return Turn(text="", asks=(self._ask,) if step == 0 else (), finish="tool_calls" if step == 0 else "stop")


class Foreign(Protocol):
    """A graph that is not Remit's and drives a run in its place: LangChain's, for one."""

    def function(self, call: Call) -> Callable[..., Json] | None:
        """The function that this call of a host tool runs, where it is not its module's.

        Raises Refusal where it is not the one that was reviewed.
        """
        ...

    async def drive(self, agency: Agency) -> None:
        """Return when the graph is through with the run; what it ended with is then in the record."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How far the run came. `finished` None: it waits, for `waiting` or until the hold that `held` tells of is lifted.

    `first` is the result of the first call, for a run of one. `unsent` spans have not arrived at the collector that the environment names; the trace file has them all.
    """

    run: str
    trace: Path
    finished: RunFinished | None
    waiting: tuple[ApprovalRequested, ...] = ()
    held: str | None = None
    first: Result | None = None
    unsent: int = 0


@dataclass(frozen=True, kw_only=True)
class Start:
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


def new_run_id() -> str:
    """A run id is a W3C trace id: 16 random bytes, not all zero."""
    return secrets.token_hex(16)


async def start(
    house: House,
    start: Start,
    *,
    wait: float = 0.0,
    tell: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    foreign: Foreign | None = None,
) -> Ended:
    """Begin a run and take it as far as it goes. `wait` is how many seconds it waits for people.

    `progress` hears what takes long before anything is recorded; `foreign` drives the run in the place of Remit's graph.
    """
    agent = _agent(house, start.agent)
    if start.scope is not None:
        narrowed(house.policy, start.scope)  # raises for what does not exist, before anything is recorded
    await _install(house.workspace, agent, progress)
    run = start.run or new_run_id()
    with driving(house.traces, run):
        if house.journal.events(run):
            raise UsageError(f"there is already a run {run}; choose another id or leave it out")
        folder = house.root / start.folder if start.folder else _folder(house, agent, run)
        sandbox = Sandbox.shared(house.workspace.settings.accept)
        confinement, unavailable = _confinement(house.workspace, agent, sandbox)
        values = _secrets(house, agent)
        objects = Objects(house.traces / "objects")
        record, trace, export = _record(house, run, tell)
        record.append(
            RunStarted(
                subjects=Subjects(agent=f"agent:{agent.name}", user=start.subject),
                account=start.account,
                actor=subject_of(house.workspace.settings, start.account),
                task=_guard(house, run, values.values()).arguments(valid(start.task)),
                prompt=agent.prompt,
                model=start.model.name,
                scripted=start.model.scripted,
                actions=agent.actions,
                rulebook=objects.put_rulebook(files_of(house.workspace)),
                policy_digest=house.policy.digest,
                confinement=confinement,
                env=house.workspace.settings.env,
                folder=folder.relative_to(house.root).as_posix(),
                version=__version__,
                scope=start.scope,
            ),
            durable=True,
        )
        if unavailable is not None:
            ended = RunFinished(outcome="failed", code=unavailable.code, message=unavailable.message)
            record.append(ended, durable=True)
            trace.close()
            if export is not None:
                export.close()
            unavailable.run = record.run
            raise unavailable
        return await _drive(
            house, agent, record, start.model, sandbox, confinement, folder, trace, export, wait, values, foreign
        )


async def resume(
    house: House,
    run: str,
    *,
    account: str,
    wait: float = 0.0,
    tell: Callable[[Recorded], None] | None = None,
    progress: Callable[[str], None] | None = None,
    foreign: Foreign | None = None,
    model: Model | None = None,
) -> Ended:
    """Take a run up where its last process left it. What was done is not done again.

    `foreign` drives the run in the place of Remit's graph, and then `model` is who thinks in it.

    Raises UsageError where the run has finished, where another process is at it, or where the files of its agent or tools
    have changed since; then nothing is recorded.
    """
    with driving(house.traces, run):
        record, trace, export = _record(house, run, tell)
        started = record.facts.started
        if started is None:
            raise UsageError(f"the journal has no run {run}")
        if started.content != "whole":
            raise UsageError(f"run {run} was recorded without content: only the process that began it could go on")
        if record.facts.finished:
            raise UsageError(f"run {run} has finished; `remit trace show {run[:8]}` tells how")
        agent = _agent(house, started.subjects.agent.partition(":")[2])
        objects = Objects(house.traces / "objects")
        files = files_of(house.workspace)
        _check_same(objects.get_rulebook(started.rulebook), files)
        await _install(house.workspace, agent, progress)
        sandbox = Sandbox.shared(house.workspace.settings.accept)
        confinement, unavailable = _confinement(house.workspace, agent, sandbox)
        if unavailable is not None:
            raise unavailable
        if confinement != started.confinement:
            here = f"this machine offers {confinement!r}"
            raise UsageError(f"the run began with confinement {started.confinement!r}, {here}")
        action = started.model.removeprefix("call:")
        one_call = action != started.model  # its only turn is in the record
        if model is None:
            model = OneCall(action, "{}") if one_call else open_model_of(house, agent.name, started.model)
        resumed = RunResumed(
            count=record.facts.resumed + 1,
            account=account,
            rulebook=objects.put_rulebook(files),
            policy_digest=house.policy.digest,
        )
        values = _secrets(house, agent)
        record.append(resumed, durable=True)
        folder = house.root / started.folder
        return await _drive(
            house, agent, record, model, sandbox, confinement, folder, trace, export, wait, values, foreign
        )


def open_model_of(house: House, name: str, spec: str | None = None) -> Model:
    """The agent's own model, or the one that `spec` names in its place."""
    agent = _agent(house, name)
    spec = spec or agent.model
    return open_model(spec, folder=house.root / "agent" / agent.name, base_url=agent.base_url)


def subject(house: House, user: str | None) -> str:
    """The user subject of this process; another one only where policy lets this account act for it.

    Raises Refusal `policy_denied` where it does not.
    """
    own = subject_of(house.workspace.settings, account())
    named = None if user is None else user if user.startswith("user:") else f"user:{user}"
    if named is None or named == own:
        return own
    request = Request(subjects=(own,), action=IMPERSONATE, resources=(named,), context=Context())
    decision = house.policy.decide(request)
    if decision.verdict != "allow":
        raise Refusal("policy_denied", f"{own} may not act for {named}: {decision.message}")
    return named


def dry_run(house: House, name: str, action: str, arguments: str, *, subject: str) -> CallDecided:
    """Decide one call and do nothing else: nothing runs, nothing is recorded."""
    agent = _agent(house, name)
    run = new_run_id()
    record = Record(MemoryLog(), run)
    sandbox = Sandbox.shared(house.workspace.settings.accept)
    confinement, _ = _confinement(house.workspace, agent, sandbox)
    broker = Broker(
        workspace=house.workspace,
        agent=agent,
        subjects=Subjects(agent=f"agent:{agent.name}", user=subject),
        record=record,
        attempts=LiveAttempts(house.workspace, sandbox, house.root),
        world=LiveWorld(house),
        guard=_guard(house, run, Secrets(house.root).present(_names(house, agent)).values()),
        confinement=confinement,
    )
    (decided,) = broker.decide(0, [Ask(name=action.replace(".", "__", 1), arguments=arguments)])
    return decided


def _guard(house: House, run: str, values: Iterable[str]) -> Guard:
    """`values` are the secrets of the agent's tools; what the environment holds under a secret's name is one too."""
    content, named = house.workspace.content, house.workspace.settings.redact_env
    secrets = [value for name, value in os.environ.items() if name in named or names_secret(name)]
    return Guard(Redactor(run, [*values, *secrets], off=content.off), content)


def _names(house: House, agent: Agent) -> tuple[str, ...]:
    """The secrets of the agent's tools."""
    tools = {tool.manifest.name: tool for tool, _ in map(house.workspace.action, agent.actions)}
    return tuple(dict.fromkeys(name for tool in tools.values() for name in tool.manifest.secrets))


def _secrets(house: House, agent: Agent) -> dict[str, str]:
    """Their values. Raises UsageError where one is missing: nothing starts."""
    return Secrets(house.root).values(_names(house, agent))


async def _drive(
    house: House,
    agent: Agent,
    record: Record,
    model: Model,
    sandbox: Sandbox,
    confinement: Confinement,
    folder: Path,
    trace: TraceFile,
    export: Export | None,
    wait: float,
    values: Mapping[str, str],
    foreign: Foreign | None,
) -> Ended:
    started = record.get("run.started/-/-/-")
    assert isinstance(started, RunStarted)
    world = LiveWorld(house, record)
    broker = Broker(
        workspace=house.workspace,
        agent=agent,
        subjects=started.subjects,
        record=record,
        attempts=LiveAttempts(
            house.workspace,
            sandbox,
            folder,
            values,
            at_hand=None if foreign is None else foreign.function,
            user=started.subjects.user,
        ),
        world=world,
        guard=_guard(house, record.run, values.values()),
        confinement=confinement,
    )
    agency = Agency(
        broker=broker,
        model=model,
        record=record,
        tools=tool_specs(house.workspace, agent),
        stopped=lambda: world.held(f"run:{record.run}", started.subjects.agent),
    )
    people = People(world, record, broker, model, wait)
    try:
        if foreign is not None:
            await foreign.drive(agency)
        else:
            async with checkpoints(house.traces / "checkpoints.db") as saver:
                await drive(agency, saver, people.settle)
        if not record.facts.finished and not house.workspace.settings.content:
            message = "nobody answered in time, and without content no other process can go on"
            record.append(RunFinished(outcome="stopped", code="cancelled", message=message), durable=True)
    except AlreadyRecorded as failure:  # INVARIANT: where no lock keeps two processes apart, a key does
        raise UsageError(DRIVEN.format(record.run)) from failure
    except RunEnded as ended:
        ended.run = record.run
        if ended.code != "unrecorded" and not record.facts.finished:
            record.append(RunFinished(outcome="failed", code=ended.code, message=ended.message), durable=True)
        elif export is not None:
            export.count_unrecorded()
        raise
    finally:
        trace.close()
        if export is not None:
            export.close()
    finished = record.get("run.finished/-/-/-")
    answered = record.get("call.answered/0/0/-")
    return Ended(
        run=record.run,
        trace=trace.path,
        finished=finished if isinstance(finished, RunFinished) else None,
        waiting=tuple(people.waiting()),
        held=agency.stopped(),
        first=answered.result if isinstance(answered, CallAnswered) else None,
        unsent=export.lost if export is not None else 0,
    )


class People:
    """Those who approve: a demonstration script speaks for them, or the run waits for what they record."""

    def __init__(self, world: LiveWorld, record: Record, broker: Broker, model: Model, wait: float) -> None:
        self._world = world
        self._record = record
        self._broker = broker
        self._script = model.approvals if isinstance(model, ScriptModel) else ()
        self._until = time.monotonic() + wait

    def waiting(self) -> list[ApprovalRequested]:
        """The requests that nobody has settled."""
        return approval.waiting(self._record)

    async def settle(self) -> bool:
        """True once something may have changed for a waiting call; False when it is time to give up for now."""
        given = [self._from_script(requested) for requested in self.waiting()]  # all of them, not only the first
        if any(given):
            return True
        before = self._record.facts
        while time.monotonic() < self._until:
            await asyncio.sleep(POLL_S)
            self._record.refresh()
            expired = any(approval.expired(requested, time.time_ns()) for requested in self.waiting())
            if self._record.facts != before or expired or self._under_other_rules():
                return True
        return False

    def _under_other_rules(self) -> bool:
        """Whether some waiting call was decided by rules that are not in force any more: it is decided again."""
        now = self._world.policy(-1, -1).digest
        decided = (self._broker.latest(item.step or 0, item.index or 0) for item in self.waiting())
        return any(one.decision.policy_digest != now for one in decided if one is not None and one.decision is not None)

    def _from_script(self, requested: ApprovalRequested) -> bool:
        assert requested.step is not None
        assert requested.index is not None
        decided = self._broker.latest(requested.step, requested.index)
        assert decided is not None
        assert decided.call is not None
        granted = False
        for scripted in self._script:
            if scripted.action != decided.call.action:
                continue
            try:
                approval.grant(
                    self._record,
                    requested,
                    approver=scripted.approver,
                    role=scripted.role,
                    roles_of=self._world.policy(requested.step, requested.index).roles_of,
                    account="script",
                    now=time.time_ns(),
                    scripted=True,
                )
                granted = True
            except Refusal:
                continue  # a script has no more right than the person it names
        return granted


def _agent(house: House, name: str) -> Agent:
    if name not in house.workspace.agents:
        known = ", ".join(sorted(house.workspace.agents)) or "none"
        raise UsageError(f"there is no agent {name!r} here; agents: {known}")
    return house.workspace.agents[name]


def _folder(house: House, agent: Agent, run: str) -> Path:
    """The run's working folder, made from its seed where it is not there yet."""
    folder = house.root / agent.folder.replace("{run}", run)
    if not folder.exists():
        if agent.seed is not None:
            making = folder.with_name(f".{folder.name}.new")  # a copy that is cut short is never taken for the folder
            shutil.rmtree(making, ignore_errors=True)
            shutil.copytree(house.root / agent.seed, making, symlinks=True)
            making.rename(folder)
        else:
            folder.mkdir(parents=True)
    return folder


async def _install(workspace: Workspace, agent: Agent, progress: Callable[[str], None] | None) -> None:
    """Have the packages of the agent's tools there, so that no call waits for them; of reviewed tools only."""
    for name in dict.fromkeys(action.partition(".")[0] for action in agent.actions):
        tool = workspace.tools[name]
        if tool.pinned and tool.manifest.source == "python":
            await asyncio.to_thread(environment.make, workspace.code(name), tell=progress)


def _confinement(workspace: Workspace, agent: Agent, sandbox: Sandbox) -> tuple[Confinement, RunEnded | None]:
    """What the agent's tools will run in; a sandbox is tried only where one of them needs it."""
    if all(workspace.action(name)[0].manifest.source == "host" for name in agent.actions):
        return "none", None
    try:
        return sandbox.confinement, None
    except RunEnded as unavailable:
        return "unavailable", unavailable


def _record(house: House, run: str, tell: Callable[[Recorded], None] | None) -> tuple[Record, TraceFile, Export | None]:
    trace = TraceFile(house.traces, run, house.journal)
    earlier = house.journal.chain(run).links
    if earlier:
        trace.rebuild(earlier)  # what a killed process did not write
    export = Export.from_environment(
        gauges={
            "remit.approvals.waiting": lambda: approval.all_waiting(house.journal),
            "remit.holds": lambda: len(hold.active(house.journal)),
        }
    )
    if export is not None:
        export.recall(earlier)
    listeners = tuple(
        listener for listener in (trace.see, export.see if export else None, tell) if listener is not None
    )
    content = house.workspace.settings.content
    return Record(house.journal, run, listeners=listeners, content=content), trace, export


def _check_same(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> None:
    changed = sorted(
        path for path in {*before, *now} if not path.startswith("policies/") and before.get(path) != now.get(path)
    )
    if changed:
        raise UsageError(
            f"a run goes on only under the files it began with; changed since: {', '.join(changed)}; "
            "put them back, or start a new run"
        )
