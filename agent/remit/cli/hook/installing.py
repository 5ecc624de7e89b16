"""What `remit hook install` writes: the tool pack of a coding agent in the workspace, and the hooks in its settings."""

from __future__ import annotations

import asyncio
import difflib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from remit.cli.local.hooking import CLIENTS
from remit.cli.local.peers import FOLDER
from remit.cli.local.requesting import REQUESTS
from remit.core import Refusal, UsageError
from remit.core.parsing import load_json, read_text
from remit.workspace import WorkspaceSession, find_workspace, load_workspace, open_session, principal_of_process

PATIENCE_S: Final = 90  # of the coding agent, for a hook: longer than the hook takes until it blocks
SETTINGS: Final = {"claude-code": ".claude/settings.local.json", "codex": ".codex/hooks.json"}
# The events of each coding agent, and whether an event that has no answer is blocked.
EVENTS: Final[Mapping[str, Mapping[str, bool]]] = {
    "claude-code": {
        "SessionStart": False,
        "UserPromptSubmit": True,
        "PreToolUse": True,
        "PostToolUse": True,
        "PostToolUseFailure": True,
        "Stop": False,
        "SessionEnd": False,
    },
    "codex": {"SessionStart": False, "UserPromptSubmit": True, "PreToolUse": True, "PostToolUse": True, "Stop": False},
}
# What a shell does if Remit does not start, or is killed.
_BLOCKED: Final = {
    "claude-code": "exit 2",
    "codex": "{ echo 'Remit did not decide, so the call does not run' >&2; exit 2; }",
}
_OWN: Final = " hook run "  # in the command of a hook of Remit
_OF_TOOLS: Final = ("PreToolUse", "PostToolUse", "PostToolUseFailure")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is asked for. `project` None: the folder of the workspace."""

    client: str
    project: Path | None = None
    owner: str = "you@example.com"
    developers: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()

    @property
    def tool(self) -> str:
        return self.client.replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class ChangedFile:
    """One file, as it is and as it becomes; `before` is "" for a new one."""

    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff; "" without one."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), str(self.path), str(self.path), lineterm="", n=2
        )
        return "\n".join(lines)


@dataclass(kw_only=True)
class Status:
    """Whether the hooks of a coding agent are in force. One that is not installed has no problems."""

    client: str
    installed: bool = False
    problems: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def changed_files(asked: Installation) -> list[ChangedFile]:
    """The files that it writes. What the workspace has already is not changed.

    Raises:
        UsageError: there is no workspace, nobody may approve, or the settings of the coding agent cannot be read.
    """
    root = find_workspace(Path.cwd())
    found = [_kept(root / path, text) for path, text in _pack(asked, root).items()]
    settings = (asked.project or root).absolute() / SETTINGS[asked.client]
    before = _text_of(settings)
    return [*found, ChangedFile(path=settings, before=before, after=with_hooks(before, asked.client, root, settings))]


def written(asked: Installation, changed: list[ChangedFile]) -> str:
    """Write the files, and pin the tool. Returns its name."""
    from remit.sandbox import Sandbox
    from remit.tools import pin_tools

    for item in changed:
        item.path.parent.mkdir(parents=True, exist_ok=True)
        item.path.write_text(item.after, encoding="utf-8")
    workspace = load_workspace(find_workspace(Path.cwd()))
    asyncio.run(pin_tools(workspace, (asked.tool,), Sandbox(accept=workspace.settings.accept)))
    return asked.tool


def with_hooks(text: str, client: str, root: Path, file: Path) -> str:
    """The settings of the coding agent, with the hooks of Remit in place of those that it has of Remit."""
    settings = _settings(text, file)
    hooks: object = settings.setdefault("hooks", {})
    if not isinstance(hooks, dict):
        raise UsageError(f"'hooks' in {str(file)!r} is no object: correct it first")
    events = cast("dict[str, Any]", hooks)
    for event, blocks in EVENTS[client].items():
        others = [group for group in events.get(event, []) if not _is_own(group)]
        own: dict[str, Any] = {"hooks": [_hook(client, root, blocks=blocks)]}
        # Without a matcher, Codex asks for every tool; Claude Code does so for "*".
        events[event] = [*others, {"matcher": "*", **own} if event in _OF_TOOLS and client == "claude-code" else own]
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def command_of(client: str, root: Path, *, blocks: bool) -> str:
    """The command of a hook. Only the exit code 2 blocks, so each other one becomes 2: without Remit, nothing passes.

    INVARIANT: with 2 there is a text on stderr, without which Codex lets the call pass.
    """
    remit = Path(sys.executable).parent / "remit"
    program = [str(remit)] if remit.is_file() else [sys.executable, "-P", "-m", "remit"]
    command = shlex.join([*program, "hook", "run", client, "--workspace", str(root)])
    return f"{command} || {_BLOCKED[client]}" if blocks else command


def _hook(client: str, root: Path, *, blocks: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "command",
        "command": command_of(client, root, blocks=blocks),
        "timeout": PATIENCE_S,
    }
    # Claude Code from 2.1.295 on: a hook that does not start, or takes too long, blocks too.
    return made | ({"onFailure": "block"} if blocks and client == "claude-code" else {})


def _is_own(group: object) -> bool:
    hooks: object = cast("dict[str, Any]", group).get("hooks") if isinstance(group, dict) else None
    return isinstance(hooks, list) and any(
        isinstance(hook, dict) and _OWN in str(cast("dict[str, Any]", hook).get("command", ""))
        for hook in cast("list[object]", hooks)
    )


def _settings(text: str, file: Path) -> dict[str, Any]:
    try:
        value: object = load_json(text or "{}")
    except ValueError as failure:
        raise UsageError(f"{str(file)!r} is not JSON: {failure}; correct it first") from failure
    if not isinstance(value, dict):
        raise UsageError(f"{str(file)!r} is no JSON object: correct it first")
    return cast("dict[str, Any]", value)


def _pack(asked: Installation, root: Path) -> dict[Path, str]:
    """The files of the tool pack, by their path in the workspace."""
    pack = files("remit.server.hooks") / "packs" / asked.client

    def text(name: str) -> str:
        return (pack / name).read_text(encoding="utf-8")

    if not asked.approvers and not (root / "policies" / f"{asked.client}.csv").is_file():
        raise UsageError(
            "the rules let people approve calls: name who may, another person than you: --approver user:dana"
        )
    own = principal_of_process(load_workspace(root).settings).subject
    people = [f"g, {name}, role:developer" for name in asked.developers or (own,)]
    people += [f"g, {name}, role:code-approver" for name in asked.approvers]
    rules = f"{text('rules.csv')}\n# --- who ---\n\n" + "\n".join(people) + "\n"
    return {
        Path("tools") / asked.tool / "tool.toml": text("tool.toml").replace("you@example.com", asked.owner),
        Path("agent") / asked.client / "agent.toml": text("agent.toml"),
        Path("agent") / asked.client / "prompt.md": text("prompt.md"),
        Path("policies") / f"{asked.client}.csv": rules,
    }


def _text_of(path: Path) -> str:
    """The text of the file; "" without one."""
    return read_text(path, file=str(path)) if path.is_file() else ""


def _kept(path: Path, text: str) -> ChangedFile:
    before = _text_of(path)
    return ChangedFile(path=path, before=before, after=before or text)


def statuses(project: Path | None) -> list[Status]:
    """The state of each coding agent's hooks for the project, None: the folder of the workspace."""
    session = open_session(None)
    try:
        return [_status(session, client, project or session.root) for client in CLIENTS]
    finally:
        session.journal.close()


def _status(session: WorkspaceSession, client: str, project: Path) -> Status:
    found = Status(client=client)
    file = project.absolute() / SETTINGS[client]
    text = _text_of(file)
    settings = _settings(text, file)
    events = settings.get("hooks", {})
    found.installed = any(_is_own(group) for groups in events.values() for group in groups)
    if not found.installed:
        return found
    install = f"run `remit hook install {client} --write`"
    expected = _settings(with_hooks(text, client, session.root, file), file)["hooks"]
    found.problems += [
        f"{event} in {file} is not as Remit writes it: {install}"
        for event in EVENTS[client]
        if [group for group in events.get(event, []) if _is_own(group)]
        != [group for group in expected[event] if _is_own(group)]
    ]
    if settings.get("disableAllHooks"):
        found.problems.append(f"{file} has disableAllHooks: remove it")
    tool = session.workspace.tools.get(client.replace("-", "_"))
    if client not in session.workspace.agents or tool is None:
        found.problems.append(f"the workspace has no agent {client!r} with its tool: {install}")
    elif not tool.pinned:
        found.problems.append(
            f"the tool {tool.manifest.name} is not pinned: review it, then `remit tool pin {tool.manifest.name}`"
        )
    try:
        if not (session.root / FOLDER / REQUESTS).is_socket():
            found.problems.append("no service answers, so every call is blocked: start it with `remit serve`")
    except (OSError, Refusal) as failure:
        found.problems.append(f"the folder of the service cannot be read: {failure}")
    return found
