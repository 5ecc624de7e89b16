"""The results that tests check: the output of a command, and the outcome of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.core.events import Recorded
from remit.runtime.lifecycle import RunResult
from remit.testing import CapturedRun, read_run, turn
from remit.workspace.session import WorkspaceSession
from support.workspaces.ledger import effects

__all__ = ["DONE", "TASK", "Command", "CommandResult", "Play", "Played", "Remit", "turn"]

TASK = "Checkout is failing: find out why and write the report"


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """The exit code and output of a command. `json` is its last line of output, parsed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


Remit = Callable[..., CommandResult]
Command = Callable[..., CommandResult]  # the first argument is the folder


@dataclass(frozen=True, kw_only=True)
class Played:
    """A run of a script, and its outcome."""

    folder: Path
    opened: WorkspaceSession
    ended: RunResult

    @property
    def captured(self) -> CapturedRun:
        """The run as it is recorded now."""
        return read_run(self.opened, self.ended.run)

    @property
    def records(self) -> list[Recorded]:
        return list(self.captured.records)

    def result(self, step: int, index: int = 0) -> dict[str, Any]:
        """The result of one call, as the model got it."""
        result = self.captured.call(step, index).result
        assert result is not None
        return result.model_dump(mode="json")

    def error(self, step: int, index: int = 0) -> dict[str, Any]:
        """The error of one refused or failed call."""
        result = self.result(step, index)
        assert not result["ok"], result
        error: dict[str, Any] = result["error"]
        return error

    @property
    def effects(self) -> list[dict[str, Any]]:
        return effects(self.folder)


Play = Callable[..., Played]

DONE = turn("done")
