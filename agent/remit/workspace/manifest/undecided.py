"""Lines that a person still has to decide: `remit tool import` and `remit tool adopt` write them as comments, with a guess.

    [actions.read_file]
    # decide: touches = ["read file:{path}"]

An action with such a line does not load, so no guess is ever in force: the person writes the line, or removes it. Such a line outside
of every action keeps all actions of the tool from loading. The rest of the workspace loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from remit.core import FrozenModel, Json, Problem, Refusal
from remit.core.parsing import lines_of

MARK: Final = "# decide:"


class OpenLine(FrozenModel):
    """A line that is not decided. `actions` are those that it keeps from loading; empty: all of the tool."""

    line: int
    guess: str
    actions: tuple[str, ...] = ()

    def problem(self, file: str) -> Problem:
        """The line as a problem of its file."""
        names = " and ".join(map(repr, self.actions))
        what = f"action {names}" if names else "the tool"
        fix = f"check it against what the tool does; then write {self.guess!r} without the mark, or remove the line"
        return Problem(file=file, line=self.line, what=f"{what} has a line that is not decided: {self.guess}", fix=fix)


def open_lines(text: str) -> Iterator[OpenLine]:
    """The lines of a manifest that are still to decide, each with the actions of the tables around it.

    A line of a text in triple quotes that looks like one counts, too: nothing that a reader takes for an open question loads. A line
    directly above the table of another action belongs to both.
    """
    lines = text.split("\n")  # as TOML counts them: `splitlines` also ends a line at U+2028, which a comment may hold
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(MARK):
            below = next((at for at in range(number, len(lines)) if not lines[at].lstrip().startswith("#")), None)
            near = [number] if below is None or not lines[below].lstrip().startswith("[") else [number, below + 1]
            found = [_action_at(text, at) for at in near]
            actions = () if "" in found else tuple(dict.fromkeys(found))
            yield OpenLine(line=number, guess=line.lstrip().removeprefix(MARK).strip(), actions=actions)


def _action_at(text: str, number: int) -> str:
    """The action in whose table that line is, by the keys before it; "" if it is in another table."""
    _, path = max(((line, path) for path, line in lines_of(text).items() if line <= number), default=(0, ()))
    return path[1] if len(path) > 1 and path[0] == "actions" else ""


def undecided_actions(text: str, document: Mapping[str, Json]) -> dict[str, int]:
    """The actions of the manifest that do not load, each with the number of the line that a person has to decide first.

    An action whose probe does not load does not load either: without it, nobody could find out whether the action has happened.
    """
    actions = document.get("actions")
    tables = cast("dict[str, Json]", actions) if isinstance(actions, dict) else {}
    found: dict[str, int] = {}
    for one in open_lines(text):
        for name in one.actions or tables:
            found.setdefault(name, one.line)
    while more := {name: found[probe] for name, probe in _probes(tables) if probe in found and name not in found}:
        found |= more
    return found


def _probes(tables: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name, table in tables.items():
        if isinstance(table, dict) and isinstance(probe := cast("dict[str, Json]", table).get("probe"), str):
            yield name, probe


def not_decided(tool: str, action: str, line: int) -> Refusal:
    """A call of an action that does not load."""
    file = f"tools/{tool}/tool.toml"
    return Refusal(
        "policy_denied",
        f"{tool}.{action} has a line that is not decided: {file}:{line}",
        details={"reason": "not_decided", "file": file, "line": line},
        next_step=f"continue without it, and tell the user that a person must decide {file}:{line}",
    )
