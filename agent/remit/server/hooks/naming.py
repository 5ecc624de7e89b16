"""What a coding agent's native tool is as an action of a workspace, with the names of everything that the call touches.

INVARIANT: an argument that is not listed here is refused. A later version of a coding agent may give it a meaning that the decision does
not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from remit.core import Json, ProposedCall, tool_name
from remit.server.hooks.commands import plain_command
from remit.server.hooks.places import Places, Project

_MCP: Final = re.compile(r"mcp__([A-Za-z0-9][A-Za-z0-9._@+-]{0,63}?)__([A-Za-z0-9][A-Za-z0-9._@+-]{0,63})")
_PATCHED: Final = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+)$", re.MULTILINE)
_KIND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
UNKNOWN: Final = "unknown_arguments"
_Read: TypeAlias = Callable[[Mapping[str, Any], Project], tuple[str, dict[str, Json]]]


@dataclass(frozen=True, kw_only=True)
class NativeTool:
    """`known` are the arguments of the tool, and `read` makes the action and the names of its resources of them."""

    known: frozenset[str]
    read: _Read


def proposed_call(client: str, name: str, given: Mapping[str, Any], project: Project, id_: str) -> ProposedCall:
    """The call of a native tool as a call of the broker.

    INVARIANT: what cannot be read here is a call that the broker refuses and records: of an unknown action, or without the arguments
    that its schema requires.
    """
    tool, server = TOOLS[client].get(name), _MCP.fullmatch(name)
    arguments: dict[str, Any]
    if tool is not None and (unknown := _unknown(tool, given)):
        action, arguments = tool.read(given, project)[0], {UNKNOWN: [key[:60] for key in unknown[:5]]}
    elif tool is not None:
        action, arguments = tool.read(given, project)
        arguments["input"] = dict(given)
    elif server is not None:
        action, arguments = "mcp", {"input": dict(given), "tool": f"{server[1]}.{server[2]}"}
    else:
        action, arguments = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60] or "unnamed", {"input": dict(given)}
    text = json.dumps(arguments, ensure_ascii=False)
    return ProposedCall(name=tool_name(f"{client.replace('-', '_')}.{action}"), arguments=text, id=id_)


def _unknown(tool: NativeTool, given: Mapping[str, Any]) -> list[str]:
    return sorted(set(given) - tool.known)


def unknown_arguments(proposed: ProposedCall) -> Sequence[str]:
    """The arguments of the native tool that this version of Remit does not know; empty: none."""
    named = json.loads(proposed.arguments or "{}")
    return () if "input" in named else named[UNKNOWN]


def _text(given: Mapping[str, Any], name: str) -> str:
    """The argument; "" if it is no text, which names nothing."""
    value = given.get(name)
    return value if isinstance(value, str) else ""


def _of(places: Places) -> dict[str, Json]:
    return {"paths": list(places.paths), "outside": list(places.outside)}


def _file(action: str, argument: str) -> _Read:
    return lambda given, project: (action, _of(project.places([_text(given, argument)])))


def _search(pattern: str) -> _Read:
    """A search of a folder. A pattern of names that leads out of the folder names a further place."""

    def read(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
        folder = project.places([_text(given, "path") if given.get("path") is not None else project.cwd])
        outside, text = list(folder.outside), _text(given, pattern)
        if text.startswith(("/", "~")) or ".." in text.split("/"):
            outside += project.places([re.split(r"[*?\[{]", text)[0]]).outside
        # A search outside of the project is decided as one of the project too: a search always has a folder.
        return "search", {"folder": next(iter(folder.paths), "."), "outside": sorted(set(outside))}

    return read


def _bash(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
    command = plain_command(_text(given, "command"))
    if command is None or given.get("dangerouslyDisableSandbox"):
        return "shell", {}
    named = [word.partition("=")[2] if word.startswith("-") else word for word in command.words]
    places = project.places(word for word in named if word and ("/" in word or project.is_there(word)))
    return "program", {"program": command.program, "verb": command.verb, **_of(places)}


def _fetch(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
    return "fetch", {"url": _text(given, "url")}


def _search_web(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
    return "search_web", {}


def _delegate(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
    kind = given.get("subagent_type") or "general-purpose"
    return "delegate", {"kind": kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "other"}


def _patch(given: Mapping[str, Any], project: Project) -> tuple[str, dict[str, Json]]:
    """A patch of Codex. One that names no file has the name "", which is refused: what it changes is not known."""
    names = [match[1].strip() for match in _PATCHED.finditer(_text(given, "command"))]
    return "write", _of(project.places(names or [""]))


def _session(name: str) -> _Read:
    return lambda given, project: ("session", {"tool": name})


def _tool(known: str, read: _Read) -> NativeTool:
    return NativeTool(known=frozenset(known.split()), read=read)


def _sessions(tools: Mapping[str, str]) -> Iterable[tuple[str, NativeTool]]:
    return ((name, _tool(known, _session(name))) for name, known in tools.items())


_BASH: Final = "command timeout description run_in_background dangerouslyDisableSandbox"
# Of each client, by the name of the tool. Read from `sdk-tools.d.ts` of Claude Code 2.1.332 and from the hooks of Codex.
TOOLS: Final[Mapping[str, Mapping[str, NativeTool]]] = {
    "claude-code": {
        "Read": _tool("file_path offset limit pages allow_large", _file("read", "file_path")),
        "Glob": _tool("pattern path", _search("pattern")),
        "Grep": _tool(
            "pattern path glob output_mode -B -A -C context -n -i -o type head_limit offset multiline", _search("glob")
        ),
        "Write": _tool("file_path content", _file("write", "file_path")),
        "Edit": _tool("file_path old_string new_string replace_all", _file("write", "file_path")),
        "MultiEdit": _tool("file_path edits", _file("write", "file_path")),
        "NotebookEdit": _tool("notebook_path cell_id new_source cell_type edit_mode", _file("write", "notebook_path")),
        "Bash": _tool(_BASH, _bash),
        "WebFetch": _tool("url prompt offset", _fetch),
        "WebSearch": _tool("query allowed_domains blocked_domains", _search_web),
        **{
            name: _tool(
                "description prompt subagent_type model effort run_in_background name team_name mode isolation resume",
                _delegate,
            )
            for name in ("Task", "Agent")
        },
        **dict(
            _sessions(
                {
                    "TodoWrite": "todos",
                    "TaskCreate": "subject description activeForm metadata",
                    "TaskGet": "taskId",
                    "TaskList": "",
                    "TaskUpdate": "taskId subject description activeForm status addBlocks addBlockedBy owner metadata",
                    "TaskOutput": "task_id block timeout",
                    "TaskStop": "task_id shell_id",
                    "BashOutput": "bash_id filter",
                    "KillShell": "shell_id",
                    "ToolSearch": "query max_results",
                    "AskUserQuestion": "questions answers annotations metadata",
                    "EnterPlanMode": "",
                    "ExitPlanMode": "plan allowedPrompts",
                }
            )
        ),
    },
    "codex": {
        "Bash": _tool("command", _bash),
        "apply_patch": _tool("command", _patch),
        **dict(_sessions({"update_plan": "plan explanation"})),
    },
}
