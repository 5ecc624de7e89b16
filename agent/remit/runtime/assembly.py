"""The parts of a live run, each made from the workspace and this machine: agent, folder, sandbox, secrets, record."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from remit.broker import active_holds
from remit.broker.approvals import count_waiting_approvals
from remit.core import Confinement, Model, RunEnded, UsageError
from remit.core.events import Recorded
from remit.guardrails import Redactor, Sanitizer, Secrets, is_secret_name
from remit.journal import Record
from remit.runtime.models.selection import open_model
from remit.sandbox import Sandbox
from remit.sandbox.packages import make_environment
from remit.tracing import Export, TraceFile
from remit.workspace import Agent, Workspace, WorkspaceSession


def new_run_id() -> str:
    """A run id is a W3C trace id: 16 random bytes, not all zero."""
    return secrets.token_hex(16)


def open_model_of(session: WorkspaceSession, name: str, spec: str | None = None) -> Model:
    """The agent's own model, or the one that `spec` names in its place."""
    agent = agent_of(session, name)
    spec = spec or agent.model
    return open_model(spec, folder=session.root / "agent" / agent.name, base_url=agent.base_url)


def sanitizer_of(session: WorkspaceSession, run: str, values: Iterable[str]) -> Sanitizer:
    """`values` are the secrets of the agent's tools; what the environment holds under a secret's name is one too."""
    content, named = session.workspace.content, session.workspace.settings.redact_env
    secrets = [value for name, value in os.environ.items() if name in named or is_secret_name(name)]
    return Sanitizer(Redactor(run, [*values, *secrets], off=content.off), content)


def secret_names(session: WorkspaceSession, agent: Agent) -> tuple[str, ...]:
    """The secrets of the agent's tools."""
    tools = {tool.manifest.name: tool for tool, _ in map(session.workspace.action, agent.actions)}
    return tuple(dict.fromkeys(name for tool in tools.values() for name in tool.manifest.secrets))


def secrets_of(session: WorkspaceSession, agent: Agent) -> dict[str, str]:
    """Their values. Raises UsageError where one is missing: nothing starts."""
    return Secrets(session.root).values(secret_names(session, agent))


def agent_of(session: WorkspaceSession, name: str) -> Agent:
    """The agent of that name. Raises UsageError where there is none."""
    if name not in session.workspace.agents:
        known = ", ".join(sorted(session.workspace.agents)) or "none"
        raise UsageError(f"there is no agent {name!r} here; agents: {known}")
    return session.workspace.agents[name]


def working_folder(session: WorkspaceSession, agent: Agent, run: str) -> Path:
    """The run's working folder, made from its seed where it is not there yet."""
    folder = session.root / agent.folder.replace("{run}", run)
    if not folder.exists():
        if agent.seed is not None:
            making = folder.with_name(f".{folder.name}.new")  # a copy that is cut short is never taken for the folder
            shutil.rmtree(making, ignore_errors=True)
            shutil.copytree(session.root / agent.seed, making, symlinks=True)
            making.rename(folder)
        else:
            folder.mkdir(parents=True)
    return folder


async def install_packages(workspace: Workspace, agent: Agent, progress: Callable[[str], None] | None) -> None:
    """Have the packages of the agent's tools there, so that no call waits for them; of reviewed tools only."""
    for name in dict.fromkeys(action.partition(".")[0] for action in agent.actions):
        tool = workspace.tools[name]
        if tool.pinned and tool.manifest.source == "python":
            await asyncio.to_thread(make_environment, workspace.code(name), report=progress)


def confinement_of(workspace: Workspace, agent: Agent, sandbox: Sandbox) -> tuple[Confinement, RunEnded | None]:
    """What the agent's tools will run in; a sandbox is tried only where one of them needs it."""
    if all(workspace.action(name)[0].manifest.source == "host" for name in agent.actions):
        return "none", None
    try:
        return sandbox.confinement, None
    except RunEnded as unavailable:
        return "unavailable", unavailable


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The record of a run, and what listens to it: its trace file and, where the environment names one, a collector."""

    record: Record
    trace: TraceFile
    export: Export | None

    def close(self) -> None:
        """Write what is still waiting to be written."""
        self.trace.close()
        if self.export is not None:
            self.export.close()


def open_recording(session: WorkspaceSession, run: str, tell: Callable[[Recorded], None] | None) -> Recording:
    """The record of the run, with what a killed process did not write to the trace file written first."""
    trace = TraceFile(session.traces, run, session.journal)
    earlier = session.journal.chain(run).links
    if earlier:
        trace.rebuild(earlier)
    export = Export.from_environment(
        gauges={
            "remit.approvals.waiting": lambda: count_waiting_approvals(session.journal),
            "remit.holds": lambda: len(active_holds(session.journal)),
        }
    )
    if export is not None:
        export.recall(earlier)
    listeners = tuple(
        listener for listener in (trace.see, export.see if export else None, tell) if listener is not None
    )
    record = Record(session.journal, run, listeners=listeners, content=session.workspace.settings.content)
    return Recording(record=record, trace=trace, export=export)


def check_same_files(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> None:
    """Raise UsageError where a file that the run began with has changed; rules may change while a run goes on."""
    changed = sorted(
        path for path in {*before, *now} if not path.startswith("policies/") and before.get(path) != now.get(path)
    )
    if changed:
        raise UsageError(
            f"a run goes on only under the files it began with; changed since: {', '.join(changed)}; "
            "put them back, or start a new run"
        )
