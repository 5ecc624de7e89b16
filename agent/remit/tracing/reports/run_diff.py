"""Compares two runs: their inputs, the first difference, all later differences, latency and cost.

Calls are paired by what they do (`alignment`), so an additional, missing, moved or renamed call does not hide what follows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal, TypeAlias

from remit.core import Failed, Json, UsageError
from remit.core.events import ApprovalAnswer, RunStarted
from remit.journal import Journal, RunSummary, last_completed
from remit.tracing.reports.alignment import CallPair, align_calls, normalize
from remit.tracing.reports.approvals import needs_text
from remit.tracing.reports.timeline import CallTimeline, Timeline

Kind: TypeAlias = Literal[
    "extra",  # only the second run made the call
    "missing",  # only the first run made it
    "request",  # the same call with another action or other arguments
    "decision",  # the policy decided differently
    "approval",  # people were asked or answered differently
    "result",  # the call ended differently
    "outcome",  # the run ended differently
]

SETUP: Final = ("task", "prompt", "model", "actions", "confinement", "env", "version", "folder")
MOST_LINES: Final = 40  # of one diff
# A call counts as slower if it takes more than this many times as long, and at least this many nanoseconds longer.
SLOWER: Final = 2.0
SLOWER_NS: Final = 250_000_000


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """One difference between the runs. `a` and `b` are the places of the call, `4.0`; "" if a run does not have it."""

    kind: Kind
    a: str
    b: str
    what: str
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChangedInput:
    """A different input of the runs: a setting, or a file of the policy bundle."""

    name: str
    diff: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SlowerStep:
    """A call, or the model, that took longer in the second run. Seconds."""

    a: str
    b: str
    name: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """Time in seconds, counts and tokens of one run; tokens are None if the model does not report them."""

    seconds: float
    thinking: float
    calling: float
    turns: int
    calls: int
    attempts: int
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """The comparison of two runs. `differences` are in the order of the runs, so the first one is where the runs part."""

    a: str
    b: str
    changed: tuple[ChangedInput, ...]
    aligned: int
    moved: tuple[tuple[str, str], ...]
    differences: tuple[RunDifference, ...]
    slower: tuple[SlowerStep, ...]
    costs: tuple[RunCost, RunCost]

    @property
    def same(self) -> bool:
        """True if both runs did the same under the same rules; time and tokens may differ."""
        return not self.differences and not self.changed

    @property
    def first(self) -> RunDifference | None:
        """The first difference; None if there is none."""
        return self.differences[0] if self.differences else None


BundleFiles: TypeAlias = Mapping[str, bytes]  # the files of a policy bundle, by path


def diff_runs(a: Timeline, b: Timeline, *, files: tuple[BundleFiles, BundleFiles] | None = None) -> RunDiff:
    """Compare run `b` with the reference run `a`. `files` are their policy bundles, if both are available."""
    pairs = align_calls(a, b)
    both = [(pair.a, pair.b) for pair in pairs if pair.a is not None and pair.b is not None]
    differences = [found for pair in pairs for found in _differences_of_pair(pair, a.run, b.run)]
    return RunDiff(
        a=a.run,
        b=b.run,
        changed=(*_settings(a.started, b.started), *(_files(*files) if files else ())),
        aligned=len(both),
        moved=tuple((pair.a.place, pair.b.place) for pair in pairs if pair.moved and pair.a and pair.b),
        differences=(*differences, *_outcome(a, b)),
        slower=tuple(sorted(_slower(a, b, both), key=lambda step: step.before - step.after)),
        costs=(_cost_of(a), _cost_of(b)),
    )


def last_good_run(journal: Journal, run: RunSummary) -> RunSummary:
    """The last run of the same agent and task that completed before `run` began.

    Raises UsageError if there is none.
    """
    found = last_completed(journal, run)
    if found is None:
        fix = f"name another run: remit trace diff OTHER {run.run[:8]}"
        raise UsageError(f"no earlier run of {run.agent} with the same task has completed: {fix}")
    return found


def _settings(a: RunStarted | None, b: RunStarted | None) -> Iterator[ChangedInput]:
    if a is None or b is None:
        return
    named = [(name, getattr(a, name), getattr(b, name)) for name in SETUP]
    named += [("agent", a.subjects.agent, b.subjects.agent), ("user", a.subjects.user, b.subjects.user)]
    for name, before, after in named:
        if name == "folder":  # each run has its own working folder; only its parent can differ
            before, after = before.rpartition("/")[0], after.rpartition("/")[0]
        if before != after:
            yield ChangedInput(name=name, diff=_diff(_lines(before), _lines(after)))


def _files(a: BundleFiles, b: BundleFiles) -> Iterator[ChangedInput]:
    for path in sorted({*a, *b}):
        before, after = a.get(path, b""), b.get(path, b"")
        if before != after:
            yield ChangedInput(name=path, diff=_diff(_text(before), _text(after)))


def _differences_of_pair(pair: CallPair, run_a: str, run_b: str) -> Iterator[RunDifference]:
    a, b = pair.a, pair.b
    if a is None or b is None:
        call = a or b
        assert call is not None
        only: Kind = "missing" if b is None else "extra"
        where = "only in the first run" if b is None else "only in the second run"
        yield RunDifference(
            kind=only,
            a=a.place if a else "",
            b=b.place if b else "",
            what=f"{where}: {_call_text(call)}: {_end_text(call)}",
        )
        return
    requests = (
        _request_of(a.action, a.arguments or a.proposed.arguments, run_a),
        _request_of(b.action, b.arguments or b.proposed.arguments, run_b),
    )
    if requests[0] != requests[1]:
        before, after = _call_text(a), _call_text(b)
        change = f"{after}: other arguments" if before == after else f"was {before}, now {after}"
        yield _differ("request", a, b, change, requests)
    if _verdict_of(a) != _verdict_of(b):
        what = f"{_call_text(b)}: was {_verdict_of(a)}, now {_verdict_of(b)}{_rule_text(b)}"
        yield _differ("decision", a, b, what, (_decision_of(a), _decision_of(b)))
    approvals = _approvals_of(a), _approvals_of(b)
    if approvals[0] != approvals[1]:
        before, after = (text or "needs no approval" for text in approvals)
        yield _differ("approval", a, b, f"{_call_text(b)}: was {before}; now {after}", approvals)
    results = _result_of(a, run_a), _result_of(b, run_b)
    if results[0] != results[1]:
        before, after = _end_text(a), _end_text(b)
        change = f"{after}, with another result" if before == after else f"was {before}, now {after}"
        yield _differ("result", a, b, f"{_call_text(b)}: {change}", results)


def _outcome(a: Timeline, b: Timeline) -> Iterator[RunDifference]:
    ends = [
        {
            "outcome": timeline.outcome,
            "code": timeline.finished.code if timeline.finished else None,
            "answer": normalize(timeline.finished.answer, timeline.run) if timeline.finished else "",
        }
        for timeline in (a, b)
    ]
    if ends[0] != ends[1]:
        same = a.outcome == b.outcome
        what = "the answer differs" if same else f"was {a.outcome}, now {b.outcome}"
        if b.finished is not None and b.finished.message:
            what += f": {b.finished.message}"
        yield RunDifference(kind="outcome", a="", b="", what=what, diff=_diff(_lines(ends[0]), _lines(ends[1])))


def _slower(a: Timeline, b: Timeline, both: Sequence[tuple[CallTimeline, CallTimeline]]) -> Iterator[SlowerStep]:
    for call_a, call_b in both:
        before, after = call_a.took, call_b.took
        if before is not None and after is not None and _is_slower(before, after):
            yield SlowerStep(
                a=call_a.place, b=call_b.place, name=_call_text(call_b), before=before / 1e9, after=after / 1e9
            )
    if a.turns and b.turns:
        before, after = (int(median(turn.took for turn in timeline.turns)) for timeline in (a, b))
        if _is_slower(before, after):
            yield SlowerStep(a="", b="", name="a turn of the model (median)", before=before / 1e9, after=after / 1e9)


def _is_slower(before: int, after: int) -> bool:
    return after > before * SLOWER and after - before > SLOWER_NS


def _cost_of(timeline: Timeline) -> RunCost:
    counted = [turn.usage for turn in timeline.turns]
    inputs = [usage.input_tokens for usage in counted if usage.input_tokens is not None]
    outputs = [usage.output_tokens for usage in counted if usage.output_tokens is not None]
    return RunCost(
        seconds=timeline.took / 1e9,
        thinking=sum(turn.took for turn in timeline.turns) / 1e9,
        calling=sum(call.took or 0 for call in timeline.calls) / 1e9,
        turns=len(timeline.turns),
        calls=len(timeline.calls),
        attempts=sum(len(call.attempts) for call in timeline.calls),
        input_tokens=sum(inputs) if inputs else None,
        output_tokens=sum(outputs) if outputs else None,
    )


# -- one call in a few words ---------------------------------------------------------------------------------------------


def _call_text(call: CallTimeline) -> str:
    return " ".join([call.action, *call.resources[:3]])


def _verdict_of(call: CallTimeline) -> str:
    return call.decision.verdict if call.decision else "refused"


def _rule_text(call: CallTimeline) -> str:
    rules = call.decision.rules or call.decision.nearest if call.decision else ()
    if not rules:
        return ""
    return f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "")


def _end_text(call: CallTimeline) -> str:
    if call.result is None:
        return "no result"
    if isinstance(call.result, Failed):
        tool_error = call.result.error.details.get("error")
        return call.result.error.code + (f" ({tool_error})" if tool_error else "")
    return "ok"


def _decision_of(call: CallTimeline) -> Json:
    """The decision and its rules, as JSON for the diff."""
    if call.decision is None:
        return {"verdict": "refused"}
    rules = [f"{rule.effect}: {rule.text}" for rule in call.decision.rules or call.decision.nearest]
    return {"verdict": call.decision.verdict, "reason": call.decision.reason, "rules": sorted(rules)}


def _approvals_of(call: CallTimeline) -> str:
    if call.approval is None:
        return ""
    given = [answer for answer in call.answers if isinstance(answer, ApprovalAnswer)]
    answers = [f"{answer.type.partition('.')[2]} by {answer.approver}" for answer in given]
    return f"needs {needs_text(call.approval.requested)}; {', '.join(sorted(answers)) or 'no answer'}"


def _result_of(call: CallTimeline, run: str) -> Json:
    if call.result is None:
        return None
    if isinstance(call.result, Failed):
        error = call.result.error
        details = {name: error.details[name] for name in ("error", "effect", "reason") if name in error.details}
        return {"code": error.code, "message": normalize(error.message, run), **details}
    return {"value": json.loads(normalize({"value": call.result.value}, run))["value"], "labels": call.result.labels}


def _request_of(name: str, arguments: Json, run: str) -> Json:
    if isinstance(arguments, dict):
        return {"action": name, "arguments": json.loads(normalize(arguments, run))}
    return {"action": name, "arguments": normalize(str(arguments or ""), run)}


def _differ(kind: Kind, a: CallTimeline, b: CallTimeline, what: str, both: tuple[Json, Json]) -> RunDifference:
    return RunDifference(kind=kind, a=a.place, b=b.place, what=what, diff=_diff(_lines(both[0]), _lines(both[1])))


def _diff(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    lines = [line for line in list(difflib.unified_diff(before, after, lineterm="", n=1))[2:] if line[:2] != "@@"]
    rest = len(lines) - MOST_LINES
    return tuple([*lines[:MOST_LINES], f"… and {rest} lines more"] if rest > 0 else lines)


def _lines(value: Json) -> list[str]:
    if isinstance(value, str):
        return value.splitlines()
    return [
        line
        for text in json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
        for line in text.replace("\\n", "\n    ").splitlines()  # so a diff of a long text shows its own lines
    ]


def _text(data: bytes) -> list[str]:
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return [f"{len(data)} bytes that are not text"]
