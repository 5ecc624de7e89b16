"""Prints the events of a run while it runs, and its outcome at the end."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from remit.cli.output import counted, echo, json_text, style
from remit.core import CallOutcome, Error, ProposedCall, ReceiptItem, Result, Succeeded, failure_place
from remit.core.events import (
    NANO,
    AnswerRejected,
    ApprovalAnswer,
    ApprovalRequested,
    AttemptEnded,
    AttemptProgressed,
    CallAnswered,
    CallDecided,
    ContextReduced,
    ModelFailed,
    ModelResponded,
    PolicyChanged,
    QuestionAnswered,
    QuestionAsked,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.guardrails import with_visible_characters
from remit.tracing.reports import model_wait_text

if TYPE_CHECKING:
    from remit.runtime import RunResult

WIDTH = 100  # characters of a recorded text on one line
OUTCOMES: Mapping[CallOutcome, str] = {
    "done": "green",
    "refused": "red",
    "failed": "red",
    "waiting": "yellow",
    "unknown": "yellow",
}
RECEIPT_LINES = 20  # of one run; `remit trace show` has all of them
_OWN_LINE = re.compile(r"^\s*(?:receipt|sources|run|trace|replay)\b", re.MULTILINE)
WEAKER = {
    "landlock": "confinement: landlock only, which remit.toml accepts; weaker than full (see SECURITY.md)",
    "none": "confinement: NONE, every tool of this agent runs in this process",
}


def short(text: str, width: int = WIDTH) -> str:
    """The text on one line, with hidden characters written out; says how many characters were cut off."""
    line = with_visible_characters(" ".join(text.split()))
    return line if len(line) <= width else f"{line[:width]}… (+{len(line) - width})"


def own_call_text(call: ProposedCall) -> str:
    """A call of a function of a custom graph, which no rule decides."""
    arguments = json_text(call.parsed) if call.arguments is None else call.arguments
    return f"own       {call.name}  {short(arguments)}"


class LiveOutput:
    """Prints each event as it is recorded: as text for a person, or as JSON Lines for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._names: dict[tuple[int | None, int | None], str] = {}
        self._closed = False
        self.run = ""

    def on_event(self, recorded: Recorded) -> None:
        """Print one event."""
        self.run = recorded.run
        if self._closed:
            return
        try:
            self._print(recorded)
        except OSError:  # the reader has closed the pipe; the run continues
            self._closed = True

    def _print(self, recorded: Recorded) -> None:
        if self._as_json:
            echo(json_text(recorded.model_dump(mode="json")))
            return
        event = recorded.event
        match event:
            case RunStarted() | RunResumed() | PolicyChanged():
                _print_run(recorded.run, event)
            case ModelResponded() | AnswerRejected() | ModelFailed() | ContextReduced():
                _print_turn(event)
            case _ if isinstance(event, ApprovalRequested | ApprovalAnswer | QuestionAsked | QuestionAnswered):
                self._approval(event)
            case CallDecided():
                self._decided(event)
            case AttemptEnded() if event.retry_in_s is not None:
                error = event.error or event.code
                self._line(event.step, event.index, "retries", f"{error}: {short(event.message, 60)}", "yellow")
            case AttemptProgressed():
                self._line(event.step, event.index, "progress", short(event.text, 100), "white")
            case CallAnswered():
                self._answered(event)
            case _:
                pass

    def end(self, result: RunResult) -> None:
        """Print the last lines: the answer or what the run waits for, then the run id and its trace file."""
        finished = result.finished
        if self._as_json:
            body = finished.model_dump(mode="json") if finished else {"outcome": _paused(result), "held": result.held}
            failed = result.model_wait
            waiting = [item.model_dump(mode="json") for item in result.waiting]
            echo(
                json_text(
                    {
                        "run": result.run,
                        "trace": str(result.trace),
                        **body,
                        "waiting": waiting,
                        "receipt": [item.model_dump(mode="json") for item in result.receipt],
                        "model_wait": None if failed is None else failed.model_dump(mode="json"),
                        "unsent": result.unsent,
                    },
                )
            )
            return
        echo()
        if finished is None:
            echo(style("held" if result.held else "waiting", fg="yellow") + (f": {result.held}" if result.held else ""))
            if result.model_wait is not None:
                echo(f"  waits {model_wait_text(result.model_wait)}")
            for item in result.waiting:
                echo(f"  waits for approval: remit approve show {result.run[:8]}/{item.step}.{item.index}")
            if not (result.held or result.model_wait or result.waiting):
                echo("  a server asks something: remit answer")
            first = "remit start, then " if result.held else ""
            echo(f"  to continue it:     {first}remit run --resume {result.run[:8]}")
        elif finished.outcome == "completed":
            echo(_distinct(finished.answer))
            _print_sources(finished)
        else:
            echo(f"{style(finished.outcome, fg='red')}: {finished.message}")
        _print_receipt(result)
        if result.unsent:
            lost = f"{result.unsent} spans did not arrive at the collector; the trace file contains all spans"
            echo(style(f"\n{lost}", fg="yellow"))
        echo(f"\nrun    {result.run}\ntrace  {result.trace}\nreplay remit replay {result.run[:8]}")

    def _approval(self, event: ApprovalRequested | ApprovalAnswer | QuestionAsked | QuestionAnswered) -> None:
        from remit.tracing.reports import answer_lines, needs_text

        if isinstance(event, ApprovalRequested):
            self._line(event.step, event.index, "waits for", needs_text(event), "yellow")
            return
        colour = {"approval.granted": "green", "approval.rejected": "red"}.get(event.type, "yellow")
        for line in answer_lines([event]):
            label = "question" if event.type.startswith("question.") else "approval"
            self._line(event.step, event.index, label, line, colour)

    def _decided(self, event: CallDecided) -> None:
        if event.call is None or event.round > 0:
            self._names.setdefault((event.step, event.index), event.proposed.action)
            return
        touched = " ".join(touch.resource for touch in event.call.touches)
        self._names[event.step, event.index] = f"{event.call.action} {short(touched, 60)}"

    def _answered(self, event: CallAnswered) -> None:
        colour = "green" if event.result.ok else "red"
        word = "ok" if isinstance(event.result, Succeeded) else "refused" if event.result.refused else "failed"
        self._line(event.step, event.index, word, _result_line(event.result), colour)

    def _line(self, step: int | None, index: int | None, word: str, rest: str, colour: str) -> None:
        name = self._names.get((step, index), "")
        echo(f"     {style(f'{word:<9}', fg=colour)} {name}  {style(rest, dim=True)}")


def _print_run(run: str, event: RunStarted | RunResumed | PolicyChanged) -> None:
    match event:
        case RunStarted():
            _print_start(run, event)
        case RunResumed():
            echo(f"run {run}  resumed by {event.by.account}")
        case PolicyChanged() if event.problem:
            edited = "the edited rules are not valid; the earlier rules stay in force:"
            _print_note(f"{edited} {short(event.problem)}", "red")
        case PolicyChanged():
            _print_note("the rules were edited; the run continues under the new rules", "yellow")


def _print_start(run: str, event: RunStarted) -> None:
    script = style("  (a written script, not a model)", fg="yellow") if event.scripted else ""
    models = ", then ".join((event.model, *event.fallbacks))
    echo(f"run {run}  {event.subjects.agent} for {event.subjects.user}  {models}{script}")
    if event.content != "complete":
        _print_note("content is off: this run cannot be replayed or resumed", "yellow")
    if event.confinement in WEAKER:
        _print_note(WEAKER[event.confinement], "yellow")


def _print_turn(event: ModelResponded | AnswerRejected | ModelFailed | ContextReduced) -> None:
    match event:
        case ModelResponded():
            echo(f"\n{style(f'{event.step:>3}', bold=True)}  {short(event.text)}".rstrip())
            for own in event.own_calls:
                echo(f"     {style(own_call_text(own), dim=True)}")
        case AnswerRejected():
            _print_note(f"the answer was rejected: {short('; '.join(map(str, event.problems)))}", "yellow")
        case ModelFailed():
            _print_failure(event)
        case ContextReduced():
            _print_note(reduction_text(event), "yellow")


def _print_failure(event: ModelFailed) -> None:
    if event.again_at is None:
        _print_note(f"the model failed: {event.message}", "red")
        return
    left = (event.again_at - time.time_ns()) / NANO
    after = f"asks again in {left:.{left < 1:d}f} s" if left > 0 else "asks again now"
    _print_note(f"the model failed: {short(event.message.partition(chr(10))[0], 200)}; {after}", "yellow")


def _paused(result: RunResult) -> str:
    """What a paused run waits for, in a word."""
    if result.held:
        return "held"
    return "waiting" if result.model_wait is None else "waiting: model"


def reduction_text(event: ContextReduced) -> str:
    """Why the model reads less of the conversation, and what it still reads."""
    why = "is longer than the limit" if event.cause == "limit" else "was too long for the model"
    results = "" if event.result is None else f", and at most {event.result} bytes of a result"
    return (
        f"the conversation ({event.input_bytes} bytes) {why}: the model reads it from step {event.before} on{results}"
    )


def _distinct(answer: str) -> str:
    """The answer; each line marked if one of them could be taken for a line that Remit prints, such as that of a receipt."""
    return "\n".join(f"| {line}" for line in answer.split("\n")) if _OWN_LINE.search(answer) else answer


def _print_sources(finished: RunFinished) -> None:
    """Print where each claim of a grounded answer comes from."""
    if finished.sources:
        echo("\nsources")
    for number, source in enumerate(finished.sources, start=1):
        cited = source.citation
        echo(f"  {number:<5} {short(f'{cited.document} version {cited.version}, {cited.section}', 100)}  {source.call}")


def _print_receipt(result: RunResult) -> None:
    """Print what the broker saw: how many calls had which outcome, and each one that is more than a read that succeeded.

    An answer has a receipt also if there was no call.
    """
    if not result.receipt and (result.finished is None or result.finished.outcome != "completed"):
        return
    counts = Counter(item.outcome for item in result.receipt)
    calls = counted(len(result.receipt), "call")
    outcomes = ", ".join(f"{counts[word]} {word}" for word in OUTCOMES if counts[word])
    echo(f"\nreceipt {calls}{outcomes and f': {outcomes}'}")
    listed = [item for item in result.receipt if item.outcome != "done" or item.landed == "landed"]
    for item in listed[:RECEIPT_LINES]:
        what = short(" ".join([item.action, *item.resources]), 80)
        echo(f"  {item.call:<5} {style(f'{item.outcome:<8}', fg=OUTCOMES[item.outcome])} {what}{_how(item)}")
    if len(listed) > RECEIPT_LINES:
        echo(f"  and {len(listed) - RECEIPT_LINES} more: remit trace show {result.run[:8]}")


def _how(item: ReceiptItem) -> str:
    """The code of a call, who approved it, and who found out its outcome, as the end of its line."""
    parts: list[str] = [] if item.code is None else [item.code]
    if item.approved_by:
        names = ", ".join(f"{approver.subject} as {approver.role}" for approver in item.approved_by)
        parts.append(f"approved by {names}")
    if item.settled_by:
        parts.append(f"settled by {item.settled_by}")
    return f"  {style(', '.join(parts), dim=True)}" if parts else ""


def _print_note(text: str, colour: str) -> None:
    echo(style(f"     {text}", fg=colour))


def _result_line(result: Result) -> str:
    if isinstance(result, Succeeded):
        return short(json_text(result.value), 60)
    return explain(result.error)


def explain(error: Error) -> str:
    """The error on one line: its code, the name of the tool's own error, the message, and the place."""
    named = f" {error.details['error']}" if "error" in error.details else ""
    place = failure_place(error)
    return f"{error.code}{named}: {short(error.message, 140)}{place and f' ({place})'}"
