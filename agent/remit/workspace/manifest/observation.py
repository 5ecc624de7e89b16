"""Reads `mode`, `observe_until` and `enforce` of agent.toml: for how long which decisions are not enforced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from remit.core import Problem
from remit.core.events import NANO, Observation
from remit.core.parsing import toml_line

if TYPE_CHECKING:
    from remit.workspace.definitions import Tool
    from remit.workspace.file_schema import AgentTable

_ENFORCED_BY_DATE = 'write observe_until = "2026-12-31" with the last day of it, or remove the line'


def read_observation(
    file: str,
    text: str,
    table: AgentTable,
    tools: Mapping[str, Tool],
    actions: Sequence[str],
    problems: list[Problem],
) -> Observation | None:
    """What the agent observes; None if all of its decisions are enforced. Adds to `problems` what is wrong.

    `actions` are those of the agent. A date that has passed is no problem: nothing is observed any more.
    """

    def problem(key: str, what: str, fix: str) -> None:
        problems.append(Problem(file=file, line=toml_line(text, *key.split(" ")), what=what, fix=fix))

    if table.mode == "enforce":
        for key in ("observe_until", "enforce"):
            if getattr(table, key):
                problem(key, f"{key!r} is for an agent that observes", 'write mode = "observe", or remove the line')
        return None
    hosted = [name for name in actions if _is_hosted(name, tools)]
    if not hosted:
        what = "'mode' is 'observe', and the agent has no host tool: a sandboxed tool is always enforced"
        problem("mode", what, "remove the line")
    for number, name in enumerate(table.enforce):
        if name not in hosted:
            fix = f"write one of {', '.join(hosted) or 'the actions of its host tools'}"
            what = f"'enforce' has {name!r}, which is no action of a host tool of this agent"
            problem(f"enforce {number}", what, fix)
    if table.observe_until is None:
        problem("mode", "'mode' is 'observe', without a day on which that ends", _ENFORCED_BY_DATE)
        return None
    try:
        return Observation(until=_end_of(table.observe_until), enforce=tuple(table.enforce))
    except ValueError:
        what = f"'observe_until' is {table.observe_until!r}, which is no day of the calendar"
        problem("observe_until", what, _ENFORCED_BY_DATE)
        return None


def _is_hosted(action: str, tools: Mapping[str, Tool]) -> bool:
    tool = tools.get(action.partition(".")[0])
    return tool is not None and tool.manifest.hosted


def _end_of(day: str) -> int:
    """The end of that day in UTC, in Unix nanoseconds."""
    after = date.fromisoformat(day) + timedelta(days=1)
    return int(datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp()) * NANO
