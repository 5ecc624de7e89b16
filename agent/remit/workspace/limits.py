"""`policies/limits.toml`: limits that all runs of a workspace share. One table is one limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from remit.core import Claim, Exhausted, FrozenModel, Problem, Refusal, Subjects, WorkspaceError, action_matches
from remit.core.events import NANO
from remit.core.parsing import Duration, Matching, Summary, TomlTable, duration, load_toml, read_table, size, toml_line

LIMITS: Final = "policies/limits.toml"
Measure: TypeAlias = Literal["calls", "seconds", "bytes", "tokens", "money"]
Each: TypeAlias = Literal["run", "agent", "user", "action"]

_TURN: Final = ("tokens", "money")  # what turns of the model use; the other measures count calls
_ACTION = r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)"


class LimitTable(TomlTable):
    """One limit. Without `action`, `agent` or `user` it counts all of them; without `each` it counts them together."""

    note: Summary
    of: Measure = Field(description="What is counted; tokens and money are of turns of the model")
    most: int | float | str = Field(description='Calls or tokens: 100; seconds: "10m"; bytes: "10MiB"; money: 2.50')
    per: Duration = Field(description="The period, which slides")
    each: Each | None = Field(default=None, description="Whose use is counted separately")
    action: Annotated[str, Matching(_ACTION, "an action", 'write "tickets.close" or "tickets.*"')] | None = Field(
        default=None, description='"tickets.close" or "tickets.*"'
    )
    agent: Annotated[str, Matching(r"[a-z][a-z0-9_-]{0,30}", "an agent", "write its name")] | None = Field(
        default=None, description="The name of an agent"
    )
    user: Annotated[str, Matching(r"user:\S{1,128}", "a user", 'write "user:NAME"')] | None = Field(
        default=None, description='"user:NAME"'
    )


class SharedLimitsTable(TomlTable):
    """The whole file."""

    limit: list[LimitTable] = Field(default=[], description="One table for each limit")


class SharedLimit(FrozenModel):
    """One shared limit: at most `most` within any `per` seconds.

    `most` is in the whole units of `Claim.amount`. "" as action, agent or user stands for all. With `each`, the limit holds
    separately for each run, agent, user or action.
    """

    note: str
    of: Measure
    most: int
    per: float
    each: Each | None = None
    action: str = ""
    agent: str = ""
    user: str = ""

    @property
    def allowance(self) -> str:
        """The limit as a text: `100 calls in 60 s for each agent`."""
        shown = {"seconds": f"{self.most / 1000:g}", "money": f"{self.most / 1_000_000:g}"}.get(self.of, str(self.most))
        whom = f" for each {self.each}" if self.each else ""
        return f"{shown} {self.of} in {self.per:g} s{whom}"

    def scope(self, run: str, subjects: Subjects, action: str) -> str:
        """The name under which the journal counts it. `most` is no part of it, so a changed limit continues with the same count."""
        whom = {"run": run, "agent": subjects.agent, "user": subjects.user, "action": action}
        counted = whom[self.each] if self.each else "*"
        return "/".join([self.of, self.action or "*", self.agent or "*", self.user or "*", f"{self.per:g}", counted])

    def covers(self, subjects: Subjects, action: str) -> bool:
        """True if a call of `action` counts against the limit; the action "" is a turn of the model."""
        return (
            (not self.action or action_matches(action, self.action))
            and (self.of in _TURN) is (action == "")
            and self.agent in ("", subjects.agent.removeprefix("agent:"))
            and self.user in ("", subjects.user)
        )


def read_limits(text: str, *, actions: Sequence[str], agents: Sequence[str]) -> tuple[SharedLimit, ...]:
    """The limits of the file.

    Raises:
        WorkspaceError: with every problem of the file, its line and its fix.
    """
    table, problems = read_table(SharedLimitsTable, load_toml(text, file=LIMITS), file=LIMITS, text=text)
    limits: list[SharedLimit] = []
    for number, row in enumerate(table.limit if table else ()):
        at = ("limit", str(number))
        most = _most(row)
        if most is None:
            shape = {"seconds": 'a duration: "10m"', "bytes": 'a size: "10MiB"', "money": "a number: 2.50"}
            fix = f"write {shape.get(row.of, 'a whole number: 100')}"
            problems.append(
                _problem(text, (*at, "most"), f"'most' is {row.most!r}, which is not an amount of {row.of}", fix)
            )
            continue
        if row.of in _TURN and (row.action is not None or row.each == "action"):
            what = f"turns of the model use {row.of}, and actions do not"
            problems.append(_problem(text, (*at, "of"), what, "remove action, and each = 'action'"))
        problems += _unknown(text, at, row, actions, agents)
        limits.append(
            SharedLimit(
                note=row.note,
                of=row.of,
                most=most,
                per=duration(row.per),
                each=row.each,
                action=row.action or "",
                agent=row.agent or "",
                user=row.user or "",
            )
        )
    if problems:
        raise WorkspaceError(problems)
    return tuple(limits)


def limit_claims(
    limits: Sequence[SharedLimit], amounts: Mapping[Measure, int], *, run: str, subjects: Subjects, action: str
) -> dict[str, tuple[SharedLimit, Claim]]:
    """What one call (or one turn, with the action "") claims from each limit that covers it, by scope."""
    return {
        (scope := limit.scope(run, subjects, action)): (
            limit,
            Claim(scope=scope, amount=amounts[limit.of], most=limit.most, window_ns=int(limit.per * NANO)),
        )
        for limit in limits
        if limit.of in amounts and limit.covers(subjects, action)
    }


def limit_refusal(limit: SharedLimit, exhausted: Exhausted, now: int) -> Refusal:
    """The refusal that the model reads, with the time to wait."""
    after = None if exhausted.free_at is None else round(max(exhausted.free_at - now, 0) / NANO + 0.05, 1)
    return Refusal(
        "rate_limited" if limit.of == "calls" else "budget_exhausted",
        f"the limit of {limit.allowance} is used up: {limit.note}",
        details={"limit": limit.of, "of": limit.allowance, "shared": True},
        next_step="continue without this call"
        if after is None
        else f"ask again in {after:g} s, or continue without it",
        retryable=after is not None,
        retry_after_s=after,
    )


def _most(row: LimitTable) -> int | None:
    try:
        match row.of, row.most:
            case "seconds", str() as text:
                return int(duration(text) * 1000)
            case "bytes", str() as text:
                return size(text)
            case "money", int() | float() as number if number >= 0:
                return round(number * 1_000_000)
            case "calls" | "tokens", int() as number if number >= 0:
                return number
            case _:
                return None
    except AssertionError:  # neither a duration nor a size
        return None


def _unknown(
    text: str, at: tuple[str, ...], row: LimitTable, actions: Sequence[str], agents: Sequence[str]
) -> list[Problem]:
    """Problems with names that do not exist: such a limit would limit nothing and look as if it did."""
    problems: list[Problem] = []
    if row.action is not None and not any(action_matches(action, row.action) for action in actions):
        what = f"'action' is {row.action!r}, which no tool has"
        problems.append(_problem(text, (*at, "action"), what, f"write one of {', '.join(actions)}"))
    if row.agent is not None and row.agent not in agents:
        what = f"'agent' is {row.agent!r}, which is not an agent of this workspace"
        problems.append(_problem(text, (*at, "agent"), what, f"write one of {', '.join(agents)}"))
    return problems


def _problem(text: str, path: tuple[str, ...], what: str, fix: str) -> Problem:
    return Problem(file=LIMITS, line=toml_line(text, *path), what=what, fix=fix)
