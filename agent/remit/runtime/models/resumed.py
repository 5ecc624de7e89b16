"""The models of a run that is resumed."""

from __future__ import annotations

from remit.core import Model
from remit.core.events import RunStarted
from remit.runtime.models.agents import open_fallbacks_of, open_model_of
from remit.runtime.one_call import OneCall
from remit.runtime.resuming import Continuation
from remit.workspace import WorkspaceSession


def models_of(session: WorkspaceSession, started: RunStarted, goes_on: Continuation) -> tuple[Model, list[Model]]:
    """The models that the run started with; those of the agent, if the definition on disk is accepted.

    The one turn of a `remit call` is already in the record.
    """
    if goes_on.external_graph is not None:
        return goes_on.external_graph.model, []
    if started.model.startswith("call:"):
        return OneCall(started.model.removeprefix("call:"), "{}"), []
    if goes_on.accept_changes:
        return open_model_of(session, started.agent), open_fallbacks_of(session, started.agent)
    fallbacks = [open_model_of(session, started.agent, name) for name in started.fallbacks]
    return open_model_of(session, started.agent, started.model), fallbacks
