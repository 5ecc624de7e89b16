"""The baseline of an agent: the outcomes of a variant that was reviewed and committed, in `agent/NAME/evals/baseline.json`.

A comparison with it says whether a change makes the agent worse. Every scenario is one line, so that a review shows what changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from remit.core import Problem, UsageError, WorkspaceError
from remit.core.parsing import load_json, read_text
from remit.evals.results import Evaluation
from remit.evals.statistics import VariantOutcomes, outcomes_of
from remit.storage import write_atomically

BASELINE: Final = "baseline.json"
_AGAIN: Final = "write it again with `remit eval AGENT --write-baseline`, and review it"


def baseline_file(root: Path, agent: str) -> Path:
    """Where the workspace `root` has the baseline of an agent."""
    return root / "agent" / agent / "evals" / BASELINE


def write_baseline(path: Path, evaluation: Evaluation) -> None:
    """Write the outcomes of the definition on disk, the first variant.

    Raises UsageError if not all of its repeats are played, if one has no grade because of an infrastructure failure, or if the
    file cannot be written.
    """
    outcomes = outcomes_of(evaluation, evaluation.variants[0].name)
    for scenario in outcomes.scenarios:
        if len(scenario.outcomes) < scenario.repeats or "infrastructure" in scenario.outcomes:
            graded = sum(outcome != "infrastructure" for outcome in scenario.outcomes)
            raise UsageError(
                f"{graded} of {scenario.repeats} repeats of scenario {scenario.name!r} have a grade: "
                f"a baseline needs all of them; continue with `remit eval --resume {evaluation.id}`"
            )
    try:
        write_atomically(path, _text_of(outcomes).encode())
    except OSError as failure:
        raise UsageError(f"{str(path)!r} cannot be written: {failure.strerror}") from failure


def read_baseline(path: Path, *, file: str) -> VariantOutcomes:
    """The baseline in a file. Raises WorkspaceError, with `file` as its name, if it cannot be read or is not valid."""
    text = read_text(path, file=file)
    try:
        return VariantOutcomes.model_validate_json(json.dumps(load_json(text)))
    except ValidationError as failure:
        error = failure.errors(include_url=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        problem = Problem(
            file=file, line=_line_of(text, error["loc"]), what=f"{where!r} is not valid: {error['msg']}", fix=_AGAIN
        )
    except ValueError as failure:
        line = failure.lineno if isinstance(failure, json.JSONDecodeError) else None
        problem = Problem(file=file, line=line, what=f"not valid JSON: {failure}", fix=_AGAIN)
    raise WorkspaceError([problem])


def _text_of(outcomes: VariantOutcomes) -> str:
    values = outcomes.model_dump(mode="json")
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in values.pop("scenarios"))
    head = "".join(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in values.items())
    return f'{{\n{head} "scenarios": [\n{rows}\n ]\n}}\n'


def _line_of(text: str, where: tuple[int | str, ...]) -> int | None:
    """The line of a scenario in a file that `_text_of` wrote; None for the whole file."""
    if len(where) < 2 or where[0] != "scenarios" or not isinstance(where[1], int):
        return None
    rows = [number for number, line in enumerate(text.split("\n"), 1) if line.startswith("  {")]
    return rows[where[1]] if where[1] < len(rows) else None
