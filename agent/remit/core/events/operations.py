"""Events of the whole workspace: holds, and the circuit breakers of tools. All are recorded in the run named `workspace`."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from remit.core.errors import Code
from remit.core.events.event import Event
from remit.core.principals import Principal


class HoldSet(Event):
    """Records that an operator holds (stops) a run, an agent, a tool, or everything. `number` counts the holds."""

    type: Literal["hold.set"] = "hold.set"
    number: int
    scope: str  # "run:…", "agent:…", "tool:…", "all"
    reason: str
    by: Principal

    @property
    def key(self) -> str:
        return f"hold.set/{self.number}"


class HoldLifted(Event):
    """Records that an operator ends a hold."""

    type: Literal["hold.lifted"] = "hold.lifted"
    number: int
    scope: str
    by: Principal

    @property
    def key(self) -> str:
        return f"hold.lifted/{self.number}"


class ToolFailed(Event):
    """Records that a tool failed through its own fault in `run`.

    After `limit` failures in a row its circuit opens: the tool rests for `rest_s` seconds, and twice as long after each trial
    that fails.
    """

    type: Literal["tool.failed"] = "tool.failed"
    tool: str
    run: str
    code: Code
    limit: int
    rest_s: float

    @property
    def key(self) -> str:
        return f"tool.failed/{self.run}/{self.step}/{self.index}/{self.attempt}"


class ToolTrialStarted(Event):
    """Records that one call is allowed to a tool after its rest (half-open circuit).

    `opened_at` is when the rest began, in Unix nanoseconds; `number` counts the trials after it.
    """

    type: Literal["tool.trial_started"] = "tool.trial_started"
    tool: str
    run: str
    opened_at: int
    number: int

    @property
    def key(self) -> str:
        return f"tool.trial_started/{self.tool}/{self.opened_at}/{self.number}"


class ToolRecovered(Event):
    """Records that a tool works again: its circuit closes."""

    type: Literal["tool.recovered"] = "tool.recovered"
    tool: str
    run: str

    @property
    def key(self) -> str:
        return f"tool.recovered/{self.run}/{self.step}/{self.index}/{self.attempt}"
