"""Opens the models that an agent names in its agent.toml."""

from __future__ import annotations

from remit.core import Model
from remit.runtime.assembly import agent_of
from remit.runtime.models.selection import open_model
from remit.workspace import WorkspaceSession


def open_model_of(session: WorkspaceSession, name: str, spec: str | None = None) -> Model:
    """The model that `spec` names; without `spec`, the first model of the agent."""
    agent = agent_of(session, name)
    spec = spec or agent.model
    # The scripts of agent.toml are files of the definition; a script that only `--model` names is on disk.
    own = (session.workspace.root or session.root) / "agent" / agent.name
    in_definition = (own / spec.removeprefix("script:")).is_file()
    folder = own if in_definition else session.root / "agent" / agent.name
    return open_model(spec, folder=folder, base_url=agent.address_of(spec), settings=agent.model_settings)


def open_fallbacks_of(session: WorkspaceSession, name: str) -> list[Model]:
    """The models that the agent names after the first one."""
    return [open_model_of(session, name, spec) for spec in agent_of(session, name).models[1:]]
