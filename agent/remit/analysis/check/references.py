"""Names that other files than the rules use: each must be declared, because a misspelled one would match nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from remit.core import Finding, one_of, spelled
from remit.core.parsing import toml_line
from remit.policy.language import DeclaredNames
from remit.workspace import LABELS, MARKER, Workspace, declared_names

_SHARED_LABELS = frozenset({"untrusted", "private"})


def check_references(workspace: Workspace) -> Iterator[Finding]:
    """A finding for each name in remit.toml and policies/labels.toml that no file declares."""
    names = declared_names(workspace)
    yield from _keep_rules(workspace, names)
    yield from _labelled_resources(workspace, names)
    yield from _secrets(workspace)


def _keep_rules(workspace: Workspace, names: DeclaredNames) -> Iterator[Finding]:
    for number, rule in enumerate(workspace.settings.keep_rules):
        place = ("traces", "keep_rules", str(number))
        if rule.agent:
            yield from _unknown(workspace, MARKER, (*place, "agent"), "agent", rule.agent, workspace.agents)
        if rule.label:
            yield from _unknown(
                workspace, MARKER, (*place, "label"), "label", rule.label, names.labels | _SHARED_LABELS
            )


def _secrets(workspace: Workspace) -> Iterator[Finding]:
    """Tables `[secrets.NAME]` that nothing uses: a misspelled name would leave the secret unset."""
    used = {name for tool in workspace.tools.values() for name in tool.manifest.secrets}
    used |= {channel.needs for channel in workspace.settings.notify}
    for name in workspace.settings.secrets:
        yield from _unknown(workspace, MARKER, ("secrets", name), "secret", name, used)


def _labelled_resources(workspace: Workspace, names: DeclaredNames) -> Iterator[Finding]:
    for number, rule in enumerate(workspace.labels):
        for at, resource in enumerate(rule.resources):
            place = ("label", str(number), "resources", str(at))
            yield from _unknown(workspace, LABELS, place, "kind of resource", resource.partition(":")[0], names.kinds)


def _unknown(
    workspace: Workspace, file: str, place: tuple[str, ...], kind: str, name: str, known: Collection[str]
) -> Iterator[Finding]:
    if name not in known:
        line = toml_line(workspace.files[file].decode(), *place)
        what = f"no file declares the {kind} {spelled(name)}"
        yield Finding(level="error", code="reference", file=file, line=line, what=what, fix=one_of(name, known))
