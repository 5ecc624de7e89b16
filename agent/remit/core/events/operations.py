"""Events of the workspace: holds, and tools that fail, are tried again and recover."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from remit.core.errors import Code
from remit.core.events.event import Event


class HoldSet(Event):
    """An operator stops a run, an agent, a tool, or all. Recorded in the run named `workspace`."""

    type: Literal["hold.set"] = "hold.set"
    number: int
    scope: str  # "run:…", "agent:…", "tool:…", "all"
    reason: str
    account: str

    @property
    def key(self) -> str:
        return f"hold.set/{self.number}"


class HoldLifted(Event):
    """An operator lifts a hold."""

    type: Literal["hold.lifted"] = "hold.lifted"
    number: int
    scope: str
    account: str

    @property
    def key(self) -> str:
        return f"hold.lifted/{self.number}"


class ToolFailed(Event):
    """A tool failed by itself, in whatever run. Recorded in the run named `workspace`; `run` is where it happened.

    After `limit` failures in a row it rests for `rest_s` seconds, twice as long each time that it fails a trial.
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
    """One call is let through to a tool that has rested. `opened_at` names the rest; `number` counts its trials."""

    type: Literal["tool.trial_started"] = "tool.trial_started"
    tool: str
    run: str
    opened_at: int
    number: int

    @property
    def key(self) -> str:
        return f"tool.trial_started/{self.tool}/{self.opened_at}/{self.number}"


class ToolRecovered(Event):
    """A tool works again."""

    type: Literal["tool.recovered"] = "tool.recovered"
    tool: str
    run: str

    @property
    def key(self) -> str:
        return f"tool.recovered/{self.run}/{self.step}/{self.index}/{self.attempt}"
