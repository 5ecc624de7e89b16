"""Who thinks: a written script, or any LangChain chat model by name.

    open_model("script:script.yaml") ─► ScriptModel       turns and approvals from a file
    open_model("openai:gpt-5")       ─► LangChainModel    a provider, streamed

Nothing that a model says is believed here: a `Turn` carries every call's arguments as the text that the model streamed.
"""

from __future__ import annotations

from pathlib import Path

from remit.core.errors import UsageError
from remit.core.messages import WHOLE, Message, Model, ModelError, ToolSpec, Turn
from remit.runtime.models.langchain import PROVIDERS, LangChainModel
from remit.runtime.models.scripted import ScriptedApproval, ScriptModel

__all__ = [
    "WHOLE",
    "LangChainModel",
    "Message",
    "Model",
    "ModelError",
    "ScriptModel",
    "ScriptedApproval",
    "ToolSpec",
    "Turn",
    "open_model",
]


def open_model(spec: str, *, folder: Path, base_url: str | None = None) -> Model:
    """The model that `spec` names; a script's path is relative to `folder`.

    Raises UsageError for a name that means nothing here, and WorkspaceError for a script that cannot be read.
    """
    provider, colon, model = spec.partition(":")
    if not colon or not model:
        raise UsageError(f"{spec!r} names no model: write {_forms()}")
    if provider == "script":
        return ScriptModel(folder / model, name=spec)
    if provider not in PROVIDERS:
        raise UsageError(f"{spec!r}: no model provider is called {provider!r} here: write {_forms()}")
    return LangChainModel(PROVIDERS[provider], model, name=spec, base_url=base_url)


def _forms() -> str:
    return "script:FILE, " + ", ".join(f"{name}:MODEL" for name in PROVIDERS)
