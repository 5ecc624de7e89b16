"""The model that a name stands for: "script:FILE", "openai:MODEL", "anthropic:MODEL" or "ollama:MODEL"."""

from __future__ import annotations

from pathlib import Path

from remit.core import NO_SETTINGS, Model, UsageError, near_names
from remit.core.events import ModelSettings
from remit.runtime.models.langchain import PROVIDERS, LangChainModel
from remit.runtime.models.scripted import ScriptedModel


def open_model(spec: str, *, folder: Path, base_url: str | None = None, settings: ModelSettings = NO_SETTINGS) -> Model:
    """The model that `spec` names, which sends `settings` to its provider. A script's path is relative to `folder`.

    Raises:
        UsageError: the name is not valid, the provider's package or key is missing, or it has no such setting.
        WorkspaceError: the script cannot be read.
    """
    provider, colon, model = spec.partition(":")
    if not colon or not model:
        raise UsageError(f"{spec!r} is not a model: write {_forms()}")
    if provider == "script":
        return ScriptedModel.read(folder / model, name=spec)
    if provider == "openai":
        # Imported here because a scripted run never needs its HTTP client, which takes a tenth of a second.
        from remit.runtime.models.wire.chat_completions import ChatCompletionsModel  # noqa: PLC0415

        return ChatCompletionsModel(model, name=spec, base_url=base_url, settings=settings)
    if provider not in PROVIDERS:
        near = "".join(f"; did you mean {name}?" for name in near_names(provider, ("script", "openai", *PROVIDERS)))
        raise UsageError(f"{spec!r}: unknown model provider {provider!r}: write {_forms()}{near}")
    return LangChainModel(PROVIDERS[provider], model, name=spec, base_url=base_url, settings=settings)


def _forms() -> str:
    return "script:FILE, openai:MODEL, " + ", ".join(f"{name}:MODEL" for name in PROVIDERS)
