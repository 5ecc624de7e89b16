"""Two runs side by side: what they stood on, where they part, and what came of it.

Calls are aligned by meaning (`alignment`), so a call more or less, in another order or under another name, does not hide
what follows it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal, TypeAlias

from remit.core import Failed, Json, UsageError
from remit.core.events import RunStarted
from remit.journal import RunSummary
from remit.tracing.reports.alignment import CallPair, align_calls, normalize
from remit.tracing.reports.timeline import CallTimeline, Timeline

Kind: TypeAlias = Literal[
    "extra",  # only the second run made the call
    "missing",  # only the first run made it
    "request",  # the same call, asked otherwise
    "decision",  # policy said something else
    "approval",  # people were asked or answered otherwise
    "result",  # the call ended otherwise
    "outcome",  # the run ended otherwise
]

SETUP: Final = ("task", "prompt", "model", "actions", "confinement", "env", "version", "folder")
MOST_LINES: Final = 40  # of one diff
SLOWER: Final = 2.0  # times the first run's time, at least, and
SLOWER_NS: Final = 250_000_000  # nanoseconds more, before a call is called slower


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """One thing in which the runs differ. `a` and `b` are the places, `4.0`; "" where a run has none."""

    kind: Kind
    a: str
    b: str
    what: str
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChangedInput:
    """Something that the runs stood on and that is not the same: a setting, or a file of the rulebook."""

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
    """What one run took. Seconds; tokens None where the model does not count them."""

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
    """Two runs compared. `differences` are in the order in which the runs come to them, so the first one is where they part."""

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
        """Whether both did the same under the same rules; time and tokens may differ."""
        return not self.differences and not self.changed

    @property
    def first(self) -> RunDifference | None:
        """Where the runs part."""
        return self.differences[0] if self.differences else None


BundleFiles: TypeAlias = Mapping[str, bytes]  # a rulebook's files by path


def diff_runs(a: Timeline, b: Timeline, *, files: tuple[BundleFiles, BundleFiles] | None = None) -> RunDiff:
    """What differs between two runs, `a` the one to compare with. `files` are their rulebooks, where both are here."""
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
        slower=tuple(sorted(_slower(a, b, both), key=lambda one: one.before - one.after)),
        costs=(_cost_of(a), _cost_of(b)),
    )


def last_good_run(runs: Sequence[RunSummary], run: RunSummary) -> RunSummary:
    """The last run of the same agent and task that completed before `run` began.

    Raises UsageError where there is none.
    """
    wanted = (run.agent, " ".join(run.task.split()))
    earlier = [
        other
        for other in runs
        if other.outcome == "completed"
        and other.run != run.run
        and other.started_at < run.started_at
        and (other.agent, " ".join(other.task.split())) == wanted
    ]
    if not earlier:
        raise UsageError(
            f"no earlier run of {run.agent} with the same task has completed; name one: remit trace diff OTHER {run.run[:8]}"
        )
    return max(earlier, key=lambda other: other.started_at)


def _settings(a: RunStarted | None, b: RunStarted | None) -> Iterator[ChangedInput]:
    if a is None or b is None:
        return
    named = [(name, getattr(a, name), getattr(b, name)) for name in SETUP]
    named += [("agent", a.subjects.agent, b.subjects.agent), ("user", a.subjects.user, b.subjects.user)]
    for name, before, after in named:
        if name == "folder":  # each run has its own
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
        where = "the first run only" if b is None else "the second run only"
        yield RunDifference(
            kind=only,
            a=a.place if a else "",
            b=b.place if b else "",
            what=f"{where}: {_call_text(call)} {_end_text(call)}",
        )
        return
    asked = (
        _request_of(a.name, a.arguments or a.ask.arguments, run_a),
        _request_of(b.name, b.arguments or b.ask.arguments, run_b),
    )
    if asked[0] != asked[1]:
        yield _differ("request", a, b, f"{_call_text(a)} is {_call_text(b)}", asked)
    if _verdict_of(a) != _verdict_of(b):
        what = f"{_call_text(b)}: {_verdict_of(a)} is {_verdict_of(b)}{_rule_text(b)}"
        yield _differ("decision", a, b, what, (_decision_of(a), _decision_of(b)))
    people = _approvals_of(a), _approvals_of(b)
    if people[0] != people[1]:
        yield _differ("approval", a, b, f"{_call_text(b)}: {people[0] or 'nobody'} is {people[1] or 'nobody'}", people)
    results = _result_of(a, run_a), _result_of(b, run_b)
    if results[0] != results[1]:
        yield _differ("result", a, b, f"{_call_text(b)}: {_end_text(a)} is {_end_text(b)}", results)


def _outcome(a: Timeline, b: Timeline) -> Iterator[RunDifference]:
    ends = [
        {
            "outcome": timeline.verdict,
            "code": timeline.finished.code if timeline.finished else None,
            "answer": normalize(timeline.finished.answer, timeline.run) if timeline.finished else "",
        }
        for timeline in (a, b)
    ]
    if ends[0] != ends[1]:
        same = a.verdict == b.verdict
        what = "the answer is another" if same else f"{a.verdict} is {b.verdict}"
        if b.finished is not None and b.finished.message:
            what += f": {b.finished.message}"
        yield RunDifference(kind="outcome", a="", b="", what=what, diff=_diff(_lines(ends[0]), _lines(ends[1])))


def _slower(a: Timeline, b: Timeline, both: Sequence[tuple[CallTimeline, CallTimeline]]) -> Iterator[SlowerStep]:
    for one, other in both:
        before, after = one.took, other.took
        if before is not None and after is not None and _is_slower(before, after):
            yield SlowerStep(a=one.place, b=other.place, name=_call_text(other), before=before / 1e9, after=after / 1e9)
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
    return " ".join([call.name, *call.resources[:3]])


def _verdict_of(call: CallTimeline) -> str:
    return call.decision.verdict if call.decision else "refused"


def _rule_text(call: CallTimeline) -> str:
    rules = call.decision.rules or call.decision.nearest if call.decision else ()
    if not rules:
        return ""
    return f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "")


def _end_text(call: CallTimeline) -> str:
    if call.result is None:
        return "without an answer"
    if isinstance(call.result, Failed):
        named = call.result.error.details.get("error")
        return call.result.error.code + (f" ({named})" if named else "")
    return "ok"


def _decision_of(call: CallTimeline) -> Json:
    """What was decided, and by which rules."""
    if call.decision is None:
        return {"verdict": "refused"}
    rules = [f"{rule.effect}: {rule.text}" for rule in call.decision.rules or call.decision.nearest]
    return {"verdict": call.decision.verdict, "reason": call.decision.reason, "rules": sorted(rules)}


def _approvals_of(call: CallTimeline) -> str:
    if call.requested is None:
        return ""
    said = [f"{answer.type.partition('.')[2]} by {answer.approver}" for answer in call.approvals]
    return f"asked {call.needs}; {', '.join(sorted(said)) or 'no answer'}"


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
        for line in text.replace("\\n", "\n    ").splitlines()  # a diff of documents goes by their own lines
    ]


def _text(data: bytes) -> list[str]:
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return [f"{len(data)} bytes that are not text"]
