"""`policies/limits.toml`: how much agents may use over all runs. The reviewer's room; one table is one limit."""

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

_TURN: Final = ("tokens", "money")  # measures of a turn of the model; the others are of calls
_ACTION = r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)"


class LimitTable(TomlTable):
    """One limit. Absent: it counts every action, agent and user; `each` absent: all of them together."""

    note: Summary
    of: Measure
    most: int | float | str = Field(description='Calls or tokens: 100; seconds: "10m"; bytes: "10MiB"; money: 2.50')
    per: Duration
    each: Each | None = None
    action: Annotated[str, Matching(_ACTION, "an action", 'write "tickets.close" or "tickets.*"')] | None = None
    agent: Annotated[str, Matching(r"[a-z][a-z0-9_-]{0,30}", "an agent", "write its name")] | None = None
    user: Annotated[str, Matching(r"user:\S{1,128}", "a user", 'write "user:NAME"')] | None = None


class LimitsTable(TomlTable):
    """The file."""

    limit: list[LimitTable] = []


class SharedLimit(FrozenModel):
    """One limit. `most` is in whole units of `Claim.amount`, `per` in seconds; "" stands for every action, agent, user."""

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
        """What may be used, in words."""
        shown = {"seconds": f"{self.most / 1000:g}", "money": f"{self.most / 1_000_000:g}"}.get(self.of, str(self.most))
        whom = f" for each {self.each}" if self.each else ""
        return f"{shown} {self.of} in {self.per:g} s{whom}"

    def scope(self, run: str, subjects: Subjects, action: str) -> str:
        """The name under which the store counts it; another `most` counts on."""
        whom = {"run": run, "agent": subjects.agent, "user": subjects.user, "action": action}
        counted = whom[self.each] if self.each else "*"
        return "/".join([self.of, self.action or "*", self.agent or "*", self.user or "*", f"{self.per:g}", counted])

    def covers(self, subjects: Subjects, action: str) -> bool:
        """Whether a call of `action` counts against it; "" is a turn of the model."""
        return (
            (not self.action or action_matches(action, self.action))
            and (self.of in _TURN) is (action == "")
            and self.agent in ("", subjects.agent.removeprefix("agent:"))
            and self.user in ("", subjects.user)
        )


def read_limits(text: str, *, actions: Sequence[str], agents: Sequence[str]) -> tuple[SharedLimit, ...]:
    """The limits of the file.

    Raises:
        WorkspaceError: with every problem, its line and what to write.
    """
    table, problems = read_table(LimitsTable, load_toml(text, file=LIMITS), file=LIMITS, text=text)
    limits: list[SharedLimit] = []
    for number, one in enumerate(table.limit if table else ()):
        at = ("limit", str(number))
        most = _most(one)
        if most is None:
            shape = {"seconds": 'a duration: "10m"', "bytes": 'a size: "10MiB"', "money": "a number: 2.50"}
            fix = f"write {shape.get(one.of, 'a whole number: 100')}"
            problems.append(_problem(text, (*at, "most"), f"{one.most!r} is no amount of {one.of}", fix))
            continue
        if one.of in _TURN and (one.action is not None or one.each == "action"):
            what = f"{one.of} are of the model's turns, which no action makes"
            problems.append(_problem(text, (*at, "of"), what, "leave out action, and each = 'action'"))
        problems += _unknown(text, at, one, actions, agents)
        limits.append(
            SharedLimit(
                note=one.note,
                of=one.of,
                most=most,
                per=duration(one.per),
                each=one.each,
                action=one.action or "",
                agent=one.agent or "",
                user=one.user or "",
            )
        )
    if problems:
        raise WorkspaceError(problems)
    return tuple(limits)


def limit_claims(
    limits: Sequence[SharedLimit], amounts: Mapping[Measure, int], *, run: str, subjects: Subjects, action: str
) -> dict[str, tuple[SharedLimit, Claim]]:
    """What one call (or, with the action "", one turn) claims of each limit that covers it, by scope."""
    return {
        (scope := limit.scope(run, subjects, action)): (
            limit,
            Claim(scope=scope, amount=amounts[limit.of], most=limit.most, window_ns=int(limit.per * NANO)),
        )
        for limit in limits
        if limit.of in amounts and limit.covers(subjects, action)
    }


def limit_refusal(limit: SharedLimit, exhausted: Exhausted, now: int) -> Refusal:
    """What the model is told, with the time to come back."""
    after = None if exhausted.free_at is None else round(max(exhausted.free_at - now, 0) / NANO + 0.05, 1)
    return Refusal(
        "rate_limited" if limit.of == "calls" else "budget_exhausted",
        f"{limit.note}: {limit.allowance} are used up",
        details={"limit": limit.of, "of": limit.allowance, "shared": True},
        next_step="do without it" if after is None else f"ask again in {after:g} s, or do without it",
        retryable=after is not None,
        retry_after_s=after,
    )


def _most(one: LimitTable) -> int | None:
    try:
        match one.of, one.most:
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
    text: str, at: tuple[str, ...], one: LimitTable, actions: Sequence[str], agents: Sequence[str]
) -> list[Problem]:
    """A limit on what does not exist would hold nothing and look as if it did."""
    found: list[Problem] = []
    if one.action is not None and not any(action_matches(action, one.action) for action in actions):
        found.append(
            _problem(text, (*at, "action"), f"no tool has {one.action!r}", f"name one of {', '.join(actions)}")
        )
    if one.agent is not None and one.agent not in agents:
        found.append(_problem(text, (*at, "agent"), f"no agent is {one.agent!r}", f"name one of {', '.join(agents)}"))
    return found


def _problem(text: str, path: tuple[str, ...], what: str, fix: str) -> Problem:
    return Problem(file=LIMITS, line=toml_line(text, *path), what=what, fix=fix)
