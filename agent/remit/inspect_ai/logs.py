"""An evaluation of Remit as logs of Inspect: one file for each variant, for its reader and its viewer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from inspect_ai.event import ApprovalEvent, Event, ModelEvent, ToolEvent
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalPlanStep,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage
from inspect_ai.scorer import CORRECT, INCORRECT, Score
from inspect_ai.tool import ToolCall, ToolCallError

from remit import __version__
from remit.core import Failed, result_message
from remit.core.events import NANO, Usage
from remit.evals import Evaluation, Grade
from remit.evals.statistics import VariantSummary, summarize
from remit.inspect_ai.approver import DECISIONS
from remit.inspect_ai.messages import recorded_messages
from remit.inspect_ai.solver import run_facts
from remit.journal import Journal
from remit.tracing.reports import CallTimeline, Timeline, build_timeline

SCORER: Final = "remit"


def write_logs(journal: Journal, evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write one log for each variant of an evaluation into `folder`, and return their paths. A second call writes the same files.

    A scenario is a sample, a repeat an epoch, and the grade the score of the scorer `remit`: "C" if the run passed, "I" if not. A
    run without a grade of its agent (`infrastructure`) has an error too, and counts as not passed, as in every report of Remit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for number, summary in enumerate(summarize(evaluation)):
        name = f"{_time(evaluation.started):%Y-%m-%dT%H-%M-%S+00-00}_{evaluation.agent}_{evaluation.id}{number}.eval"
        write_eval_log(_log(journal, evaluation, summary), folder / name)
        paths.append(folder / name)
    return paths


def _log(journal: Journal, evaluation: Evaluation, summary: VariantSummary) -> EvalLog:
    variant = summary.variant
    grades = [grade for grade in evaluation.grades if grade.variant == variant.name]
    samples = [_sample(journal, evaluation, grade) for grade in grades]
    names: list[str | int] = [scenario.name for scenario in evaluation.scenarios]
    spec = EvalSpec.model_validate(
        {
            "eval_id": f"{evaluation.id}-{variant.name}",
            "run_id": evaluation.id,
            "created": _time(evaluation.started).isoformat(),
            "task": evaluation.agent,
            "task_id": f"{evaluation.id}-{variant.name}",
            "solver": SCORER,
            "dataset": EvalDataset(name=evaluation.agent, samples=len(names), sample_ids=names),
            "model": variant.model.replace(":", "/", 1),
            "config": EvalConfig(epochs=max(scenario.repeats for scenario in evaluation.scenarios)),
            "packages": {"remit": __version__},
            "metadata": {"variant": variant.model_dump(mode="json")},
            "scorers": [{"name": SCORER, "metrics": [{"name": "inspect_ai/accuracy"}]}],
        }
    )
    return EvalLog(
        status="started" if evaluation.ended is None else "success",
        eval=spec,
        plan=EvalPlan(steps=[EvalPlanStep(solver=SCORER, params={"agent": evaluation.agent})]),
        results=_results(summary, len(grades)),
        stats=_stats(evaluation, samples),
        samples=samples,
    )


def _results(summary: VariantSummary, graded: int) -> EvalResults:
    accuracy = EvalMetric(name="accuracy", value=summary.rate)
    return EvalResults(
        total_samples=summary.planned,
        completed_samples=graded - summary.infrastructure,
        scores=[EvalScore(name=SCORER, scorer=SCORER, scored_samples=graded, metrics={"accuracy": accuracy})],
    )


def _stats(evaluation: Evaluation, samples: Sequence[EvalSample]) -> EvalStats:
    usage: dict[str, ModelUsage] = defaultdict(ModelUsage)
    for sample in samples:
        for model, used in sample.model_usage.items():
            usage[model] += used
    ended = "" if evaluation.ended is None else _time(evaluation.ended).isoformat()
    return EvalStats(started_at=_time(evaluation.started).isoformat(), completed_at=ended, model_usage=dict(usage))


def _sample(journal: Journal, evaluation: Evaluation, grade: Grade) -> EvalSample:
    records = journal.events(grade.run) if grade.run else []
    timeline = build_timeline(records)
    lost = grade.outcome == "infrastructure"
    note = next(scenario.note for scenario in evaluation.scenarios if scenario.name == grade.scenario)
    answer = "" if timeline.finished is None else timeline.finished.answer
    return EvalSample(
        id=grade.scenario,
        epoch=grade.repeat + 1,
        input=note if timeline.started is None else timeline.started.task,
        target="",
        description=note,
        messages=recorded_messages(records),
        output=ModelOutput.from_content(_model(timeline), answer),
        scores={SCORER: _score(grade, answer)},
        metadata=run_facts(timeline),
        events=list(_events(timeline)),
        model_usage={_model(timeline): _usage(timeline)},
        started_at=_time(timeline.began_at).isoformat() if records else None,
        completed_at=_time(timeline.ended_at).isoformat() if records else None,
        total_time=grade.seconds,
        uuid=f"{evaluation.id}-{grade.variant}-{grade.scenario}-{grade.repeat}",
        error=EvalError(message=grade.reason, traceback="", traceback_ansi="") if lost else None,
    )


def _score(grade: Grade, answer: str) -> Score:
    failed = [f"{check.name}: {check.detail}" for check in grade.checks if not check.passed]
    return Score(
        value=CORRECT if grade.outcome == "passed" else INCORRECT,
        answer=answer,
        explanation="\n".join(failed) or grade.reason or "every check passed",
        reason="infrastructure" if grade.outcome == "infrastructure" else None,
        metadata={"checks": [check.model_dump(mode="json") for check in grade.checks], "run": grade.run},
    )


def _model(timeline: Timeline) -> str:
    return "" if timeline.started is None else timeline.started.model.replace(":", "/", 1)


def _usage(timeline: Timeline) -> ModelUsage:
    return sum((_turn_usage(turn.usage) for turn in timeline.turns), ModelUsage())


def _turn_usage(usage: Usage) -> ModelUsage:
    read, written, output = usage.cache_read or 0, usage.cache_write or 0, usage.output_tokens or 0
    return ModelUsage(
        input_tokens=max(0, (usage.input_tokens or 0) - read - written),  # Inspect counts the cached ones apart
        output_tokens=output,
        total_tokens=(usage.input_tokens or 0) + output,
        input_tokens_cache_read=usage.cache_read,
        input_tokens_cache_write=usage.cache_write,
        reasoning_tokens=usage.reasoning,
    )


def _events(timeline: Timeline) -> Iterator[Event]:
    """The turns and the calls, in order, without the messages, which the sample has."""
    for turn in timeline.turns:
        if turn.internal:
            continue
        output = ModelOutput.from_content(turn.model, turn.text)
        output.usage = _turn_usage(turn.usage)
        yield ModelEvent(
            timestamp=_time(turn.at),
            working_start=_since(timeline, turn.at),
            model=turn.model,
            input=[],
            tools=[],
            tool_choice="auto",
            config=GenerateConfig(),
            output=output,
        )
        for call in turn.calls:
            yield from _call_events(timeline, call)


def _call_events(timeline: Timeline, call: CallTimeline) -> Iterator[Event]:
    proposed = ToolCall(id=call.place, function=call.proposed.name, arguments=dict(call.arguments))
    if (decision := call.decision) is not None:
        yield ApprovalEvent(
            timestamp=_time(call.decided_at),
            working_start=_since(timeline, call.decided_at),
            message="",
            call=proposed,
            approver=SCORER,
            decision=DECISIONS[decision.verdict],
            explanation=decision.message,
            metadata={"resources": list(call.resources), "policy": decision.policy_digest},
        )
    if call.result is None or call.answered_at is None:
        return
    error = call.result.error if isinstance(call.result, Failed) else None
    yield ToolEvent(
        timestamp=_time(call.decided_at),
        working_start=_since(timeline, call.decided_at),
        id=call.place,
        function=call.proposed.name,
        arguments=proposed.arguments,
        result="" if error else result_message(call.place, call.result),
        error=None if error is None else ToolCallError("unknown", json.dumps(error.model_dump(mode="json"))),
        completed=_time(call.answered_at),
        metadata={"landed": call.landed, "labels": list(call.labels)},
    )


def _since(timeline: Timeline, at: int) -> float:
    return max(0, at - timeline.began_at) / NANO


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / NANO, UTC)
