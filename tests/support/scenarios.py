"""Evaluations that are really played, in the workspace of a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.evals import Changes, Evaluation, Grade, Selection, play, record_evaluation
from remit.evals.player import OpenModel
from remit.workspace import WorkspaceSession, open_session, principal_of_process

LOOK = {"action": "ledger.look", "value": {"name": "ann", "text": "all is well"}}
PAID = {"action": "ledger.pay", "value": "paid"}


@dataclass(frozen=True, kw_only=True)
class PlayedEvaluation:
    """An evaluation, and the workspace in which it was played."""

    session: WorkspaceSession
    evaluation: Evaluation

    @property
    def grade(self) -> Grade:
        """The only grade."""
        (grade,) = self.evaluation.grades
        return grade

    @property
    def wrong(self) -> list[str]:
        """The names of the checks of the only grade that did not pass."""
        return [check.name for check in self.grade.checks if not check.passed]


def write_scenarios(folder: Path, *rows: Mapping[str, Any], agent: str = "clerk") -> None:
    """Write the rows as the scenarios of the agent; JSON is YAML."""
    whole = [
        {"name": f"s{number}", "note": "a note", "task": "keep the ledger", **row} for number, row in enumerate(rows)
    ]
    path = folder / "agent" / agent / "evals" / "all.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(whole, indent=1))


def write_script(folder: Path, name: str, *turns: Mapping[str, Any]) -> None:
    """Write a script that a scenario names."""
    (folder / "agent" / "clerk" / name).write_text(json.dumps({"turns": turns}))


def evaluate(
    folder: Path,
    *rows: Mapping[str, Any],
    agent: str = "clerk",
    repeats: int = 1,
    variants: Sequence[Changes] = (Changes(),),
    parallel: int = 2,
    open_model: OpenModel | None = None,
) -> PlayedEvaluation:
    """Play these scenarios, or those that the workspace has."""
    if rows:
        write_scenarios(folder, *rows, agent=agent)
    session = open_session(folder)
    by = principal_of_process(session.workspace.settings)
    recorded = record_evaluation(session, Selection(agent=agent, repeats=repeats, variants=variants), by=by)
    played = asyncio.run(play(session, recorded, by=by, parallel=parallel, open_model=open_model))
    return PlayedEvaluation(session=session, evaluation=played)
