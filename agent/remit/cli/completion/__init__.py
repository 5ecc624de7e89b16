"""Completion of names in a shell: agents, tools, actions, runs, users and subjects, besides the commands and options that click completes itself.

Nothing of this is loaded but while a shell completes. It reads the names of folders, the manifests of one tool, and the newest runs,
never a whole workspace: a broken file must not keep the others from being completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

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
        case "subject":
            return _subjects
        case "user":
            return _users
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


class _Bash(BashComplete):
    """The completion of click for bash, which splits the word `agent:triage` at its colon and completes what follows it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and that word, with names put together again."""
        args, last = super().get_completion_args()
        words: list[str] = []
        for word in (*args, last):
            if words and (word == ":" or words[-1].endswith(":")):
                words[-1] += word
            else:
                words.append(word)
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """The kind of the offer, and the part of it that bash writes: what follows the last colon."""
        return f"{item.type},{item.value.rpartition(':')[2]}"


add_completion_class(_Bash)


def _root(start: Path) -> Path | None:
    from remit.workspace import MARKER

    return next((folder for folder in (start, *start.parents) if (folder / MARKER).is_file()), None)


def _users(root: Path, _: str) -> Iterator[str]:
    """The users and services that remit.toml names."""
    from remit.core.parsing import load_toml, read_text
    from remit.workspace import MARKER

    settings = load_toml(read_text(root / MARKER, file=MARKER), file=MARKER)
    named = [*settings.get("identity", {}).values(), *settings.get("users", [])]
    yield from sorted({str(name) for name in named})


def _subjects(root: Path, incomplete: str) -> Iterator[str]:
    yield from (f"agent:{name}" for name in _agents(root, incomplete))
    yield from _users(root, incomplete)


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
