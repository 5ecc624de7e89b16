"""How runs look on a terminal: live while they go, and afterwards as a waterfall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.output import echo, json_text, style
from remit.core import Error, Result, Succeeded
from remit.core.events import (
    AnswerRejected,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    ModelFailed,
    ModelResponded,
    PolicyChanged,
    Recorded,
    RunResumed,
    RunStarted,
)
from remit.guardrails import visible

if TYPE_CHECKING:
    from remit.runtime import RunResult

WIDTH = 100  # characters of somebody's text on one line
WEAKER = {
    "landlock": "confinement: landlock only, as remit.toml accepts; weaker than full (see SECURITY.md)",
    "none": "confinement: NONE, every tool of this agent runs inside this process",
}


def short(text: str, width: int = WIDTH) -> str:
    """One line of somebody's text, hidden characters written out, folded honestly."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= width else f"{line[:width]}… (+{len(line) - width})"


class LiveOutput:
    """Tells a run as its events are recorded: lines for a person, JSON Lines for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._names: dict[tuple[int | None, int | None], str] = {}
        self._deaf = False
        self.run = ""

    def tell(self, recorded: Recorded) -> None:
        """One event, as it happens."""
        self.run = recorded.run
        if self._deaf:
            return
        try:
            self._tell(recorded)
        except OSError:  # whoever read this went away; the run goes on all the same
            self._deaf = True

    def _tell(self, recorded: Recorded) -> None:
        if self._as_json:
            echo(json_text(recorded.model_dump(mode="json")))
            return
        event = recorded.event
        match event:
            case RunStarted() | RunResumed() | PolicyChanged():
                _tell_run(recorded.run, event)
            case ModelResponded() | AnswerRejected() | ModelFailed():
                _tell_turn(event)
            case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() | ApprovalRevoked() | ApprovalVoided():
                self._approval(event)
            case CallDecided():
                self._decided(event)
            case AttemptEnded() if event.retry_in_s is not None:
                why = event.error or event.code
                self._line(event.step, event.index, "retries", f"{why}: {short(event.message, 60)}", "yellow")
            case CallAnswered():
                self._answered(event)
            case _:
                pass

    def end(self, ended: RunResult) -> None:
        """The last lines: the answer, or whom the run waits for; always the run and its trace."""
        finished = ended.finished
        if self._as_json:
            body = (
                finished.model_dump(mode="json")
                if finished
                else {"outcome": "held" if ended.held else "waiting", "held": ended.held}
            )
            waiting = [item.model_dump(mode="json") for item in ended.waiting]
            echo(
                json_text(
                    {"run": ended.run, "trace": str(ended.trace), **body, "waiting": waiting, "unsent": ended.unsent},
                )
            )
            return
        echo()
        if finished is None:
            echo(style("held" if ended.held else "paused", fg="yellow") + (f": {ended.held}" if ended.held else ""))
            for item in ended.waiting:
                echo(f"  waits for approval: remit approve show {ended.run[:8]}/{item.step}.{item.index}")
            echo(f"  goes on with:       remit run --resume {ended.run[:8]}")
        elif finished.outcome == "completed":
            echo(finished.answer)
        else:
            echo(f"{style(finished.outcome, fg='red')}: {finished.message}")
        if ended.unsent:
            lost = f"{ended.unsent} spans did not arrive at the collector; the trace file has them all"
            echo(style(f"\n{lost}", fg="yellow"))
        echo(f"\nrun    {ended.run}\ntrace  {ended.trace}\nreplay remit replay {ended.run[:8]}")

    def _approval(
        self, event: ApprovalRequested | ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided
    ) -> None:
        match event:
            case ApprovalRequested():
                needs = ", ".join(f"{item.count} × {item.role}" for item in event.missing)
                word, rest, colour = "waits for", needs, "yellow"
            case ApprovalGranted():
                how = ", scripted for this demonstration" if event.scripted else ""
                word, rest, colour = "approved", f"by {event.approver} as {event.role}{how}", "green"
            case ApprovalRejected():
                word, rest, colour = "rejected", f"by {event.approver}: {event.reason}", "red"
            case ApprovalRevoked() | ApprovalVoided():
                word = "revoked" if isinstance(event, ApprovalRevoked) else "void"
                rest, colour = f"{event.approver}'s approval: {event.reason}", "yellow"
        self._line(event.step, event.index, word, rest, colour)

    def _decided(self, event: CallDecided) -> None:
        if event.call is None or event.round > 0:
            self._names.setdefault((event.step, event.index), event.proposed.action)
            return
        touched = " ".join(touch.resource for touch in event.call.touches)
        self._names[event.step, event.index] = f"{event.call.action} {short(touched, 60)}"

    def _answered(self, event: CallAnswered) -> None:
        colour = "green" if event.result.ok else "red"
        word = "ok" if isinstance(event.result, Succeeded) else "refused" if event.result.refused else "failed"
        self._line(event.step, event.index, word, _told(event.result), colour)

    def _line(self, step: int | None, index: int | None, word: str, rest: str, colour: str) -> None:
        name = self._names.get((step, index), "")
        echo(f"     {style(f'{word:<9}', fg=colour)} {name}  {style(rest, dim=True)}")


def _tell_run(run: str, event: RunStarted | RunResumed | PolicyChanged) -> None:
    match event:
        case RunStarted():
            _tell_start(run, event)
        case RunResumed():
            echo(f"run {run}  taken up again by {event.account}")
        case PolicyChanged() if event.problem:
            edited = "the rules were edited and are not in force; those from before are:"
            _tell_aside(f"{edited} {short(event.problem)}", "red")
        case PolicyChanged():
            _tell_aside("the rules were edited; the run goes on under the new ones", "yellow")


def _tell_start(run: str, event: RunStarted) -> None:
    script = style("  (a written script, not a model)", fg="yellow") if event.scripted else ""
    echo(f"run {run}  {event.subjects.agent} for {event.subjects.user}  {event.model}{script}")
    if event.content != "complete":
        _tell_aside("content is off: this run can be read, not replayed, and ends with this process", "yellow")
    if event.confinement in WEAKER:
        _tell_aside(WEAKER[event.confinement], "yellow")


def _tell_turn(event: ModelResponded | AnswerRejected | ModelFailed) -> None:
    match event:
        case ModelResponded():
            echo(f"\n{style(f'{event.step:>3}', bold=True)}  {short(event.text)}".rstrip())
        case AnswerRejected():
            _tell_aside(f"the answer does not hold: {short('; '.join(event.problems))}", "yellow")
        case ModelFailed():
            _tell_aside(f"the model failed: {event.message}", "red")


def _tell_aside(text: str, colour: str) -> None:
    echo(style(f"     {text}", fg=colour))


def _told(result: Result) -> str:
    if isinstance(result, Succeeded):
        return short(json_text(result.value), 60)
    return explain(result.error)


def explain(error: Error) -> str:
    """One error in one line."""
    named = f" {error.details['error']}" if "error" in error.details else ""
    return f"{error.code}{named}: {short(error.message, 140)}"
