"""`remit doctor --hooks`: is a denied call really blocked, by the coding agent that is installed here?"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.cli.hook.installing import SETTINGS, statuses
from remit.cli.hook.playing import PLAYERS, Player, play_denied, version_of
from remit.cli.local.hooking import MARKER
from remit.core import RemitError
from remit.core.parsing import read_text
from remit.workspace import find_workspace

_WORKSPACE: Final = " --workspace "


@dataclass(frozen=True, kw_only=True)
class HookCheck:
    """One check. `detail` says what let a call through, or why nothing could be played; "" if all is well."""

    name: str
    ok: bool
    detail: str = ""


def check_hooks(
    project: Path | None = None,
    programs: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[HookCheck]:
    """Play a denied call through each coding agent with the hooks of the project, and once without a service. Nothing leaves this machine.

    `programs` names the program of a coding agent, if it is another one than usual.
    """
    root = find_workspace(Path.cwd())
    installed = [item for item in statuses(project) if item.installed]
    if not installed:
        return [HookCheck(name="hooks", ok=False, detail="none are installed: remit hook install claude-code --write")]
    checks = [
        HookCheck(
            name=f"{item.client}: its hooks are as Remit writes them", ok=item.ok, detail="; ".join(item.problems)
        )
        for item in installed
    ]
    for item in installed:
        file = (project or root).absolute() / SETTINGS[item.client]
        hooks = json.loads(read_text(file, file=str(file))).get("hooks", {})
        program = (programs or {}).get(item.client, PLAYERS[item.client].program)
        checks += _played(root, item.client, hooks, program, variables)
    return checks


def _played(
    root: Path, client: str, hooks: Mapping[str, Any], name: str, variables: Mapping[str, str] | None
) -> Iterator[HookCheck]:
    player, program = PLAYERS[client], shutil.which(name)
    if program is None:
        yield HookCheck(
            name=f"{client}: a denied call is blocked",
            ok=False,
            detail=f"{name!r} is not installed here, so nothing was played: npm install -g {player.package}",
        )
        return
    version = version_of(program)
    oldest = ".".join(map(str, player.oldest))
    yield HookCheck(
        name=f"{client} {'.'.join(map(str, version))} has hooks that can block each call",
        ok=version >= player.oldest,
        detail="" if version >= player.oldest else f"update it to {oldest} or newer",
    )
    yield _check(f"{client}: a denied call is blocked", player, program, hooks, variables)
    with tempfile.TemporaryDirectory(prefix="remit-hook-") as empty:
        (Path(empty) / MARKER).touch()  # a workspace without a service
        # Of the call alone: the prompt, which is blocked too, is let pass here.
        alone = {"PreToolUse": hooks.get("PreToolUse", [])}
        other = json.loads(json.dumps(alone).replace(f"{_WORKSPACE}{root}", f"{_WORKSPACE}{empty}"))
        yield _check(f"{client}: without a service, every call is blocked", player, program, other, variables)


def _check(
    name: str, player: Player, program: str, hooks: Mapping[str, Any], variables: Mapping[str, str] | None
) -> HookCheck:
    try:
        let_through = play_denied(player, program, hooks, variables=variables)
    except (RemitError, OSError, ValueError) as failure:
        let_through = f"it could not be played: {failure}"
    return HookCheck(name=name, ok=not let_through, detail=let_through)
