"""What a manifest lets each action touch, as patterns of resources: an upper bound for what rules can allow."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from remit.core import Json
from remit.core.parsing import DEFAULT_PORT, SCHEMES, SLASHED, URL_KINDS
from remit.sandbox.egress import Host, parse_host
from remit.workspace import Tool, Workspace
from remit.workspace.manifest import Action, Manifest, Template

NO_RESOURCE: Final = "none:"  # the resource of a call that touches none


@dataclass(frozen=True)
class Reach:
    """The patterns of what one action may touch, and of what it may write."""

    patterns: tuple[str, ...]
    written: tuple[str, ...]


def reach_of(workspace: Workspace, unpinned: Container[str] | None = None) -> Mapping[str, Reach]:
    """Compute the reach of every action. Tools whose files differ from their pin are left out unless they are in `unpinned`.

    `unpinned` None: no tool is left out.
    """
    return {
        f"{tool.manifest.name}.{action.name}": _reach(tool.manifest, action, _required(tool, action))
        for tool in workspace.every_tool.values()
        if unpinned is None or tool.pinned or tool.manifest.name in unpinned
        for action in tool.manifest.actions.values()
    }


def _required(tool: Tool, action: Action) -> frozenset[str]:
    """The arguments that every call has, and that are one text or number: each names a resource where `touches` has it."""
    if not tool.pinned or tool.pin is None or (schema := tool.pin.schemas.get(action.name)) is None:
        return frozenset()
    properties: Mapping[str, Json] = schema.input.get("properties", {})
    required: Sequence[str] = schema.input.get("required", ())
    kinds = {name: cast("Mapping[str, Json]", properties.get(name, {})).get("type") for name in required}
    return frozenset(name for name, kind in kinds.items() if kind in ("string", "integer"))


def _reach(manifest: Manifest, action: Action, required: frozenset[str]) -> Reach:
    touched: dict[str, None] = {}
    written: dict[str, None] = {}
    optional = True
    for template in action.templates:
        named = template.form in ("one", "name", "set") and not template.path and template.argument in required
        optional = optional and not named and template.form != "constant"
        for pattern in _patterns(manifest, template):
            touched[pattern] = None
            if template.access == "write":
                written[pattern] = None
    if optional:  # every argument may be absent, and then nothing is touched
        touched[NO_RESOURCE] = None
    return Reach(patterns=tuple(touched), written=tuple(written))


def _patterns(manifest: Manifest, template: Template) -> tuple[str, ...]:
    kind, access = template.kind, template.access
    if template.form == "constant":
        return (f"{kind}:{template.constant}",)
    if template.form == "within":
        return (f"{kind}:**",)
    if kind == "store":
        return (f"store:{template.store}",)
    if manifest.source == "hook" and (kind == "file" or kind in URL_KINDS):  # rules alone limit it
        return (
            ("file:**",) if kind == "file" else tuple(f"{scheme}://**" for scheme in SCHEMES if kind in ("url", scheme))
        )
    if kind == "file":
        return tuple(f"file:{pattern}" for pattern in (manifest.write if access == "write" else manifest.read))
    if kind in URL_KINDS:
        schemes = [scheme for scheme in SCHEMES if kind in ("url", scheme)]
        return tuple(
            dict.fromkeys(_urls(scheme, parse_host(line)) for line in manifest.url_hosts for scheme in schemes)
        )
    return (f"{kind}:**" if kind in SLASHED else f"{kind}:*",)


def _urls(scheme: str, line: Host) -> str:
    """Every URL at a host that a line of the manifest names, perhaps more: `*` of a rule ignores DNS labels and ports."""
    name = f"*.{line.name.rpartition('*.')[2]}" if line.name.startswith("*") else line.name
    name = "*" if line.name == "**" else name
    port = "" if name == "*" or line.port == DEFAULT_PORT[scheme] else f":{line.port}"
    return f"{scheme}://{name}{port}/**"
