"""Builds the parts of a live run from the workspace and this machine: agent, folder, sandbox, secrets, record."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remit.broker import check_revoked
from remit.core import Confinement, RunEnded, UsageError
from remit.core.events import Recorded, RunStarted
from remit.guardrails import Redactor, RunSecrets, Sanitizer, Secrets, secrets_of_environment
from remit.journal import Lease, LiveRecord
from remit.sandbox.packages import make_environment
from remit.tracing import Export, GaugeReader, Objects, TraceFile, objects_of
from remit.workspace import Agent, Workspace, WorkspaceSession

if TYPE_CHECKING:  # a caller that only looks whether a run can go on does not load the sandbox
    from remit.sandbox import Sandbox


def new_run_id() -> str:
    """A new run id, which is a W3C trace id: 16 random bytes, as 32 hex digits."""
    return secrets.token_hex(16)


def sanitizer_of(workspace: Workspace, run: str, values: Iterable[str]) -> Sanitizer:
    """The sanitizer of a run. `values` are the secrets of the agent's tools.

    The value of an environment variable counts as a secret too, if remit.toml lists its name or the name looks like one.
    """
    content, secrets = workspace.content, secrets_of_environment(workspace.settings.redact_env)
    return Sanitizer(Redactor(run, [*values, *secrets], off=content.off), content)


def secret_names(session: WorkspaceSession, agent: Agent) -> tuple[str, ...]:
    """The names of the secrets that the agent's tools use."""
    tools = (session.workspace.tools[name] for name in session.workspace.tools_of(agent.name))
    return tuple(dict.fromkeys(name for tool in tools for name in tool.manifest.secrets))


def secrets_of(session: WorkspaceSession, agent: Agent, user: str) -> RunSecrets:
    """The secrets of the agent's tools for a run of that user.

    Raises:
        UsageError: one that all users share is missing, so no run starts. One of the user's own is missed by the calls that need it.
    """
    return RunSecrets.opened(secrets_in(session, user), secret_names(session, agent))


def secrets_in(session: WorkspaceSession, user: str) -> Secrets:
    """The secrets of the workspace; INVARIANT: of those that each user has of their own, those of this user only."""
    workspace = session.workspace
    own = {name for tool in workspace.tools.values() for name in tool.manifest.own_secrets}
    return Secrets(session.root, workspace.settings.secrets, own=own, user=user)


def agent_of(session: WorkspaceSession, name: str) -> Agent:
    """The agent with this name. Raises UsageError if there is none."""
    return session.workspace.agent(name)


def check_code(session: WorkspaceSession, agent: str) -> None:
    """Check the code of the agent's tools and its graph, before a run starts or goes on.

    Raises:
        Refusal: `policy_denied`: code of them was revoked.
        UsageError: nobody has reviewed the graph.
    """
    holds = session.journal.holds()
    for name in session.workspace.tools_of(agent):
        check_revoked(holds, name, session.workspace.tools[name].code)
    if (graph := session.workspace.graph_of(agent)) is not None:
        check_revoked(holds, f"agent:{agent}", graph.code)


def folder_of(session: WorkspaceSession, agent: Agent, run: str) -> Path:
    """The path of the working folder of the run."""
    return session.root / agent.folder.replace("{run}", run)


def working_folder(session: WorkspaceSession, agent: Agent, run: str) -> Path:
    """The working folder of the run. Created from the agent's seed if it does not exist."""
    folder = folder_of(session, agent, run)
    if not folder.exists():
        if agent.seed is not None:
            # Copied under another name and renamed, so that an interrupted copy is never used as the folder.
            partial = folder.with_name(f".{folder.name}.new")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(session.root / agent.seed, partial, symlinks=True)
            partial.rename(folder)
        else:
            folder.mkdir(parents=True)
    return folder


async def install_packages(
    session: WorkspaceSession, agent: str, progress: Callable[[str], None] | None, *, offline: bool = False
) -> None:
    """Install the packages of the agent's pinned tools before the run, so that no call waits for them.

    Their wheels are kept in the object store, so that a run goes on `offline` after uv's cache is gone.
    """
    workspace, kept = session.workspace, objects_of(session)
    tools = [workspace.tools[name] for name in workspace.tools_of(agent)]
    python = [
        workspace.code(tool.manifest.name)
        for tool in tools
        if tool.pinned and tool.manifest.source in ("python", "mcp")
    ]

    def install() -> None:
        for code in python:
            make_environment(code, report=progress, offline=offline, kept=kept)

    await asyncio.to_thread(install)


def confinement_of(workspace: Workspace, agent: Agent, sandbox: Sandbox) -> tuple[Confinement, RunEnded | None]:
    """The confinement of the agent's tools, and the error if there is none.

    The sandbox is probed only if a tool needs it; an agent whose tools all run elsewhere, or unconfined, has the confinement "none".
    """
    if not any(workspace.action(name)[0].manifest.confined for name in agent.actions):
        return "none", None
    try:
        return sandbox.confinement, None
    except RunEnded as unavailable:
        return "unavailable", unavailable


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The record of a run, and the objects that it names by digest."""

    record: LiveRecord
    objects: Objects

    def close(self) -> None:
        """Write everything that is still buffered."""

    def count_unrecorded(self) -> None:
        """Count a run that ended because its record could not be written."""


@dataclass(frozen=True, kw_only=True)
class StoredRecording(Recording):
    """A record on disk and its listeners: the trace file and, if the environment names one, an OpenTelemetry collector."""

    trace: TraceFile
    export: Export | None

    def close(self) -> None:
        self.trace.close()
        if self.export is not None:
            self.export.close()

    def count_unrecorded(self) -> None:
        if self.export is not None:
            self.export.count_unrecorded()


async def open_recording(
    session: WorkspaceSession, lease: Lease, on_event: Callable[[Recorded], None] | None, *, exported: bool = True
) -> StoredRecording:
    """Open the record of a run. First completes its trace file, if a killed process left it short of the journal.

    Without `exported`, no collector gets its spans and metrics.
    """
    journal = session.journal
    trace = TraceFile(session.traces, lease.run, journal)
    earlier = (await journal.run_in_thread(journal.chain, lease.run)).links
    if earlier:
        trace.rebuild(earlier)
    gauges = GaugeReader(journal, session.workspace.agents)
    export = Export.from_environment(gauges=gauges) if exported else None
    if export is not None:
        export.recall(earlier)
    listeners = tuple(
        listener for listener in (trace.see, export.see if export else None, on_event) if listener is not None
    )
    content = session.workspace.settings.content
    record = await journal.run_in_thread(LiveRecord, journal, lease, listeners=listeners, content=content)
    return StoredRecording(record=record, objects=objects_of(session), trace=trace, export=export)


def same_confinement(session: WorkspaceSession, agent: Agent, sandbox: Sandbox, started: RunStarted) -> Confinement:
    """The confinement of this machine. Raises UsageError if it is not that with which the run started."""
    confinement, unavailable = confinement_of(session.workspace, agent, sandbox)
    if unavailable is not None:
        raise unavailable
    if confinement != started.confinement:
        here = f"this machine offers {confinement!r}; resume it on a machine that offers the same"
        raise UsageError(f"the run started with confinement {started.confinement!r}, {here}")
    return confinement
