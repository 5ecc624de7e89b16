"""The native tools of coding agents, as functions: their types are the schemas of tools with `source = "hook"`.

A coding agent carries these calls out by itself. Remit decides them when its hook asks, so no function here is ever called: each one
refuses. `input` is what the coding agent's model wrote, unchanged; the other arguments are the names that the hook read in it, and they
are the resources of the call. `paths` and `folder` are relative to the project, `outside` names places outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from remit.core import Json, Refusal


def refuse_outside_of_hooks() -> NoReturn:
    """Raise Refusal `policy_denied`: only the coding agent can carry the call out, when its hook asks."""
    raise Refusal(
        "policy_denied",
        "only the coding agent itself carries out this action, when its hook asks for a decision",
        details={"reason": "only_by_hook"},
        next_step="use another action",
    )


def read(input: dict[str, Any], paths: list[str], outside: list[str]) -> Any:
    """Read a file."""
    refuse_outside_of_hooks()


def search(input: dict[str, Any], folder: str, outside: list[str]) -> Any:
    """Search the names or the text of the files of a folder."""
    refuse_outside_of_hooks()


def write(input: dict[str, Any], paths: list[str], outside: list[str]) -> Any:
    """Write or change files."""
    refuse_outside_of_hooks()


def program(input: dict[str, Any], program: str, verb: str, paths: list[str], outside: list[str]) -> Any:
    """Run one program: a command of plain words, without anything that a shell expands."""
    refuse_outside_of_hooks()


def shell(input: dict[str, Any]) -> Any:
    """Run a command that a shell interprets: what it does is not known before."""
    refuse_outside_of_hooks()


def fetch(input: dict[str, Any], url: str) -> Any:
    """Read a page."""
    refuse_outside_of_hooks()


def search_web(input: dict[str, Any]) -> Any:
    """Search the web."""
    refuse_outside_of_hooks()


def mcp(input: dict[str, Any], tool: str) -> Any:
    """Call a tool of an MCP server of the coding agent. `tool` is SERVER.TOOL."""
    refuse_outside_of_hooks()


def delegate(input: dict[str, Any], kind: str) -> Any:
    """Start a sub-agent. Each of its own calls is decided like any other."""
    refuse_outside_of_hooks()


def session(input: dict[str, Any], tool: str) -> Any:
    """A tool that changes only the coding agent's own session: plans, lists of tasks, questions to its user."""
    refuse_outside_of_hooks()


_EVERY: Final[Mapping[str, Callable[..., Json]]] = {
    function.__name__: function
    for function in (read, search, write, program, shell, fetch, search_web, mcp, delegate, session)
}
# The actions of each coding agent.
CLIENTS: Final[Mapping[str, Mapping[str, Callable[..., Json]]]] = {
    "claude-code": _EVERY,
    "codex": {name: _EVERY[name] for name in ("write", "program", "shell", "mcp", "session")},
}
