"""The file of `remit attack --accept`: calls that may get through, each with the reason above it.

# Support reads every comment that triage writes
tickets.comment, ticket:INC-*
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from remit.core import Problem, WorkspaceError, one_of, spelled
from remit.policy.language import GlobError, Pattern, parse_pattern, parse_resource


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """One line: calls of `action` at places that `pattern` covers may get through, for the reason `why`."""

    action: str
    pattern: Pattern
    why: str
    line: int


def read_accepted(text: str, *, file: str, actions: Collection[str]) -> tuple[Acceptance, ...]:
    """The lines of the file.

    Raises:
        WorkspaceError: every line that names no action or no pattern, or has no reason above it.
    """
    found: list[Acceptance] = []
    problems: list[Problem] = []
    why = ""
    for number, row in enumerate(text.split("\n"), start=1):
        line = row.strip()
        if not line or line.startswith("#"):
            why = line.lstrip("#").strip()
            continue
        action, _, pattern = (part.strip() for part in line.partition(","))
        problem = _problem(action, pattern, why, actions)
        if problem is not None:
            problems.append(Problem(file=file, line=number, what=problem[0], fix=problem[1]))
            continue
        found.append(Acceptance(action=action, pattern=parse_pattern(pattern), why=why, line=number))
    if problems:
        raise WorkspaceError(problems)
    return tuple(found)


def _problem(action: str, pattern: str, why: str, actions: Collection[str]) -> tuple[str, str] | None:
    if action not in actions:
        return f"the agent has no action {spelled(action)}", one_of(action, actions)
    if not why:
        return "the line has no reason", "write a comment above it that says why this may get through"
    try:
        parse_pattern(pattern)
    except GlobError as error:
        return error.what, error.fix
    return None


def acceptances_of(accepted: Iterable[Acceptance], action: str, resources: Collection[str]) -> tuple[Acceptance, ...]:
    """The lines that accept a call of the action at these places; none unless each place is accepted."""
    lines = [one for one in accepted if one.action == action]
    used: dict[int, Acceptance] = {}
    for resource in resources:
        line = next((one for one in lines if one.pattern.covers(parse_resource(resource))), None)
        if line is None:
            return ()
        used[line.line] = line
    return tuple(used.values())
