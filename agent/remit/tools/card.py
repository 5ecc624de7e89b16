"""The permission card of a tool: what a reviewer reads before they pin it."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core.parsing import URL_KINDS
from remit.sandbox.packages import Environment
from remit.workspace import Tool
from remit.workspace.manifest import Action, Manifest, action_name


def permission_card(tool: Tool, packages: Environment | None = None, changed: Sequence[str] = ()) -> list[str]:
    """The permission card, as lines: the most that the tool may use, who enforces it, and what each action does.

    `changed` says how its server differs from the pin, as runs have seen it.
    """
    manifest = tool.manifest
    pinned = "pinned" if tool.pinned else "NOT pinned: review it, then run `remit tool pin`; it does not run before"
    lines = [
        f"{manifest.name} {manifest.version}  {manifest.summary}",
        f"  owner {manifest.owner}, source {manifest.source}, {pinned}",
    ]
    if manifest.source == "host":
        lines.append("  NOT SANDBOXED: runs inside the broker's process; nothing enforces the lines below")
    elif manifest.source == "hook":
        lines.append(f"  NOT CONFINED BY REMIT: {manifest.client} executes the calls; Remit decides and records them")
    elif manifest.trust == "none":
        lines.append("  no trust: each call has its own sandbox, with only the decided files mounted")
    elif manifest.life == "run":
        lines.append(
            "  one sandbox for a run: each call knows what earlier ones were given; without mounts it does not run"
        )
    lines += [f"  CHANGED since it was pinned, and does not run: {line}" for line in changed]
    kernel = "nobody" if manifest.hosted else "the kernel"
    scopes = (
        ("reads at most", manifest.read, kernel),
        ("writes at most", manifest.write, kernel),
        ("stores", manifest.stores, kernel),
        ("starts programs", manifest.programs, kernel),
        ("reaches hosts", manifest.hosts, kernel),
        ("URLs at most at", manifest.url_hosts, kernel),
        ("dials ranges", manifest.ranges, kernel),
        (
            "secrets by proxy",
            tuple(
                f"{item.secret}{' of the user' if item.secret in manifest.own_secrets else ''} at {item.name}:{item.port}"
                for item in manifest.credentials
            ),
            "the broker",
        ),
        (
            "authorities",
            tuple(f"only {item.file} for {item.name}:{item.port}" for item in manifest.authorities),
            "the proxy",
        ),
        ("secrets in tool", tuple(f"{item.secret} in {item.env}" for item in manifest.exposed), "nobody"),
        ("environment", manifest.env, kernel),
        ("process list", ("/proc of its sandbox",) if manifest.proc else (), kernel),
    )
    lines.extend(
        f"  {what:<16} {', '.join(names) or 'nothing'}" + (f"  (enforced by {who})" if names else "")
        for what, names, who in scopes
    )
    if packages is not None:
        installed = ", ".join(f"{name} {version}" for name, version in packages.packages.items())
        lines.append(f"  packages         {installed}  (wheels, locked by hash)")
    limits = manifest.limits
    lines.append(
        f"  limits           {limits.wall:g} s wall, {limits.cpu:g} s CPU, {limits.memory // 2**20} MiB, {limits.output // 1024} KiB result"
    )
    for name, action in manifest.actions.items():
        lines.extend(_card_of(manifest, name, action, kernel))
    lines.extend(
        f"  {action_name(manifest.name, name)}  does not load: line {line} of tool.toml is not decided"
        for name, line in manifest.undecided.items()
    )
    return lines


def _card_of(manifest: Manifest, name: str, action: Action, kernel: str) -> list[str]:
    effects = {
        "read": "changes nothing",
        "idempotent": "may be repeated",
        "keyed": "may be repeated with the same idempotency key",
        "once": "IRREVERSIBLE, never repeated",
    }
    lines = [f"  {action_name(manifest.name, name)}  {action.summary}", f"    effect: {effects[action.effect]}"]
    for template, touch in zip(action.templates, action.touches, strict=True):
        who = "the tool itself" if template.access == "use" else kernel
        touch = f"{touch}, as far as the rules permit it" if template.form in ("each", "within") else touch
        if template.kind in URL_KINDS and not manifest.hosted:
            who = f"the broker, for {', '.join(action.methods)}"
        lines.append(f"    touches: {touch}  (enforced by {who})")
    if action.labels_in_result:
        labels = dict.fromkeys(label for each in action.labels_in_result.values() for label in each)
        lines.append(f"    labels from its results: {', '.join(labels)}")
    if action.cache:
        lines.append("    cached: the same call of a run runs once, while what it reads is unchanged")
    if action.retry.attempts > 1:
        lines.append(f"    tried {action.retry.attempts} times on {', '.join(action.retry.on)}")
    if action.errors:
        lines.append(f"    errors: {', '.join(action.errors)}")
    return lines
