"""Completion of names in a shell: agents, tools, actions and runs, besides the commands and options that click completes itself.

Nothing of this is loaded but while a shell completes. It reads the names of folders, the manifests of one tool, and the newest runs,
never a whole workspace: a broken file must not keep the others from being completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from remit.cli.run_argument import open_for_person

MOST: Final = 100  # names that are offered


def with_completion(command: click.Command, group: str = "") -> click.Command:
    """The command, whose parameters and those of its sub-commands complete the names that they stand for."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_completion(inner, command.name or "")
    for parameter in command.params:
        kind = _kind(parameter, group)
        if kind is not None and type(parameter.type) in (click.types.StringParamType, click.types.UnprocessedParamType):
            parameter.type = _Names(kind)
    return command


def _kind(parameter: click.Parameter, group: str) -> Callable[[Path, str], Iterable[str]] | None:
    """What the parameter names, by its own name."""
    match parameter.name:
        case "agent":
            return _agents
        case "action" | "call":
            return _actions
        case "tool":
            return _tools
        case "name" | "names" if group == "tool":
            return _tools
        case "run" | "other" | "place" | "effect" | "request":
            return _runs
        case _:
            return None


class _Names(click.ParamType[str]):
    """A text for which a shell is offered names of the workspace around it."""

    name = "text"

    def __init__(self, kind: Callable[[Path, str], Iterable[str]]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        root = _root(Path.cwd())
        if root is None:
            return []
        try:
            names = (name for name in self._kind(root, incomplete) if name.startswith(incomplete))
            return [CompletionItem(name) for name in islice(names, MOST)]
        except Exception:  # noqa: BLE001 - a shell that completes prints nothing, and a traceback would be in the middle of a line
            return []


def _root(start: Path) -> Path | None:
    from remit.workspace import MARKER

    return next((folder for folder in (start, *start.parents) if (folder / MARKER).is_file()), None)


def _folders(root: Path, area: str, marker: str) -> Iterator[str]:
    return (path.parent.name for path in sorted((root / area).glob(f"*/{marker}")))


def _agents(root: Path, _: str) -> Iterator[str]:
    return _folders(root, "agent", "agent.toml")


def _tools(root: Path, _: str) -> Iterator[str]:
    return _folders(root, "tools", "tool.toml")


def _actions(root: Path, incomplete: str) -> Iterator[str]:
    """The tools with a dot; behind the dot, the actions of that tool."""
    from remit.core.parsing import load_toml, read_text

    tool, dot, _ = incomplete.partition(".")
    if not dot:
        found = [name for name in _tools(root, "") if name.startswith(tool)]
        if len(found) != 1:
            yield from (f"{name}." for name in found)
            return
        tool = found[0]
    path = root / "tools" / tool / "tool.toml"
    if "/" in tool or not path.is_file():
        return
    actions = load_toml(read_text(path, file=path.name), file=path.name).get("actions", {})
    yield from (f"{tool}.{name}" for name in sorted(actions))


def _runs(root: Path, _: str) -> Iterator[str]:
    """The newest runs, by the eight digits that commands print."""
    from remit.journal import RunQuery, list_runs

    return (row.run[:8] for row in islice(list_runs(open_for_person(root).journal, RunQuery()), MOST))
