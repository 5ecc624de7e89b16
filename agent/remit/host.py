"""Host tools: functions of this very process, for what cannot be put into a sandbox.

Nothing confines them. Only tools that `remit.toml` names are loaded, and card, facts and spans say `none`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from remit.call import Json
from remit.errors import UsageError
from remit.manifest import Manifest
from remit.sandbox.serving import described


def load_host(manifest: Manifest) -> Mapping[str, Callable[..., Json]]:
    """The functions of a host tool by action. Raises UsageError where its entry cannot be loaded."""
    module, _, name = manifest.host.partition(":")
    try:
        functions: Mapping[str, Callable[..., Json]] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as failure:
        raise UsageError(f"host tool {manifest.name!r} cannot be loaded from {manifest.host!r}: {failure}") from failure
    missing = [action for action in manifest.actions if action not in functions]
    if missing:
        raise UsageError(f"host tool {manifest.name!r}: {manifest.host!r} has no function for {', '.join(missing)}")
    return functions


def describe_host(manifest: Manifest) -> dict[str, dict[str, Json]]:
    """Schemas of the functions, as the sandbox derives them for other tools."""
    return {name: described(function) for name, function in load_host(manifest).items() if name in manifest.actions}
