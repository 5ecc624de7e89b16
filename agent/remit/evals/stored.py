"""Evaluations as the journal has them: each is a fold of the events of its stream, `evaluation:ID`."""

from __future__ import annotations

from remit.core import UsageError
from remit.core.events import EvaluationFinished, EvaluationGraded, EvaluationStarted, Grade
from remit.evals.results import Evaluation
from remit.journal import EVALUATION_STREAM, Journal


def stream_of(evaluation: str) -> str:
    """The name of the stream of an evaluation."""
    return f"{EVALUATION_STREAM}{evaluation}"


def read_evaluation(journal: Journal, evaluation: str) -> Evaluation:
    """The evaluation with this id. Raises UsageError if the journal has none."""
    found: Evaluation | None = None
    grades: list[Grade] = []
    for recorded in journal.events(stream_of(evaluation)):
        match recorded.event:
            case EvaluationStarted() as event:
                found = Evaluation(
                    id=evaluation,
                    agent=event.agent,
                    started=recorded.at,
                    scenarios=event.scenarios,
                    variants=event.variants,
                )
            case EvaluationGraded(grade=grade):
                grades.append(grade)
            case EvaluationFinished() if found is not None:
                found = found.model_copy(update={"ended": recorded.at})
            case _:
                pass
    if found is None:
        raise UsageError(f"the journal has no evaluation {evaluation!r}: `remit eval list` shows all")
    return found.model_copy(update={"grades": tuple(grades)})
