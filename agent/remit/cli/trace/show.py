"""Prints the incident report of a run: integrity, outcome, root cause, context, side effects, timeline, next commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.live_output import explain, own_call_text, reduction_text, short
from remit.cli.output import counted, echo, json_text, style
from remit.cli.trace.steps import Omitted, StepChoice, choose_steps, omitted_text
from remit.core import Landed, Succeeded
from remit.guardrails import with_visible_characters
from remit.policy import scope_text
from remit.tracing.reports import (
    UNRECORDED_EFFECTS,
    answer_lines,
    emergency_lines,
    failed_request_text,
    model_wait_text,
    needs_text,
    resumed_text,
    unended_text,
    utc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remit.core.events import AttemptEnded
    from remit.tracing.reports import CallTimeline, FailedRequest, IncidentReport, RunDiff, Timeline, TimelineTurn

COLOURS = {"allow": "green", "ask": "yellow", "deny": "red", "imported": "cyan"}
STATES: dict[str, str] = {
    "completed": "green",
    "waiting": "yellow",
    "waiting: model": "yellow",
    "waiting: hold": "yellow",
    "waiting: graph": "yellow",
    "ready": "yellow",
    "running": "cyan",
}
EFFECTS: tuple[tuple[str, Landed], ...] = (("landed", "landed"), ("not landed", "not_landed"), ("unknown", "unknown"))
RULES = 3  # shown of one decision
FAULTS = 8  # shown of a damaged record
INDENT = " " * 25


def show_run(report: IncidentReport, choice: StepChoice) -> None:
    """Print one run: a summary, and the chosen steps. Raises UsageError if the run does not have the chosen step."""
    timeline = report.timeline
    cause = report.cause
    parts = choose_steps(timeline, choice, cause.step if cause else None)
    for line in damage_lines(report):
        echo(line)
    colour = STATES.get(report.state.partition(",")[0], "red")
    echo(f"{style(report.state, fg=colour, bold=True)}  {count_line(timeline)}")
    echo(f"root cause: {short(cause.text if cause else 'no failing call', 400)}")
    for line in context_lines(report):
        echo(line)
    echo("\nside effects")
    for line in effect_lines(timeline):
        echo(f"  {line}")
    echo("\ntimeline")
    for part in parts:
        if isinstance(part, Omitted):
            echo(f"{INDENT}{style(omitted_text(part), dim=True)}")
        else:
            _show_turn(timeline, part, running=report.driven, whole=choice.step is not None)
    _show_failures(timeline, timeline.failures)
    if timeline.finished is not None and timeline.finished.answer:
        echo(f"\nanswer: {short(timeline.finished.answer, 400)}")
    echo("\nnext commands")
    for command, purpose in report.commands:
        echo(f"  {command}  {style(f'# {purpose}', dim=True)}")


def effect_lines(timeline: Timeline) -> list[str]:
    """The side effects of a run by what is known of them."""
    if timeline.started is not None and timeline.started.imported is not None:
        return [UNRECORDED_EFFECTS]
    lines: list[str] = []
    for word, state in EFFECTS:
        listed = [
            f"{item.step}.{item.index} {item.action} {' '.join(item.resources)}"
            for item in timeline.effects
            if item.landed == state
        ]
        lines.append(f"{word + ':':<12}{'; '.join(listed) or 'none'}")
    return lines


def damage_lines(report: IncidentReport) -> list[str]:
    """The verdict on a record that is damaged or was changed, and its first faults; nothing for an intact one."""
    if not report.damage:
        return []
    rest = len(report.damage) - FAULTS
    count = counted(len(report.damage), "fault")
    lines = [style(f"integrity check failed: {count}; what follows is what could be read", fg="red", bold=True)]
    lines += [f"  {short(line, 240)}" for line in report.damage[:FAULTS]]
    return [*lines, f"  … and {rest} more"] if rest > 0 else lines


def _show_turn(timeline: Timeline, turn: TimelineTurn, *, running: bool | None, whole: bool) -> None:
    """Print one step; `whole` adds the arguments and results of its calls, and shortens no text."""
    _show_failures(timeline, turn.failures)
    other = turn.model if timeline.started is None or turn.model != timeline.started.model else "model"
    took = f"  {other} {turn.took / 1e6:.0f} ms" if turn.asked_at is not None else ""
    text = turn.text if whole else short(turn.text)
    echo(f"{_at(timeline, turn.at)}  {style(f'step {turn.step}', bold=True)}  {text}{took}")
    if turn.deviations:
        unusual = f"read although unusual: {', '.join(turn.deviations)}"
        echo(f"{INDENT}{style(unusual, dim=True)}")
    if turn.problems:
        rejected = f"the answer was rejected: {short('; '.join(turn.problems), 160)}"
        echo(f"{INDENT}{style(rejected, fg='red')}")
    for own in turn.own_calls:
        echo(f"{INDENT}{style(own_call_text(own), dim=True)}")
    for call in turn.calls:
        _show_call(timeline, call, running=running)
        for line in content_lines(call) if whole else ():
            echo(f"{INDENT}{line}")


def content_lines(call: CallTimeline) -> list[str]:
    """The arguments, the printed texts and the result of a call, whole."""
    arguments = json_text(call.arguments) if call.arguments else call.proposed.arguments
    lines = [f"arguments: {arguments}"]
    lines += [f"printed: {attempt.ended.stderr}" for attempt in call.attempts if attempt.ended and attempt.ended.stderr]
    if isinstance(call.result, Succeeded):
        lines.append(f"result: {json_text(call.result.value)}")
    return lines


def _show_failures(timeline: Timeline, failures: Sequence[FailedRequest]) -> None:
    for request in failures:
        what = style(short(failed_request_text(request), 160), fg="yellow")
        echo(f"{_at(timeline, request.at)}  {style(f'step {request.failed.step}', bold=True)}  {what}")


def count_line(timeline: Timeline) -> str:
    """The number of turns, calls, refusals and failures, and the duration, in one line."""
    refused = timeline.refused
    failed = sum(call.error is not None for call in timeline.calls) - refused
    turns, calls = counted(len(timeline.turns), "turn"), counted(len(timeline.calls), "call")
    spent = sum(turn.cost for turn in timeline.turns if turn.cost is not None)
    cost = f", cost {spent:.4f}" if spent else ""
    return f"{turns}, {calls}, {refused} refused, {failed} failed, {timeline.took / 1e9:.1f} s{cost}"


def context_lines(report: IncidentReport) -> list[str]:
    """The context of the run: the last good run, holds, approvals, what was in flight, who, what, and limits."""
    timeline = report.timeline
    lines: list[str] = []
    if report.good is not None:
        lines += _last_good_lines(report.good)
    lines += [f"held: {report.held}"] if report.held else []
    lines += [waiting_line(call) for call in timeline.waiting]
    emergencies = ((call, line) for call in timeline.calls for line in emergency_lines(call.answers))
    lines += [f"emergency: {call.place} {call.action}: {short(line, 240)}" for call, line in emergencies]
    lines += [f"step {item.step}: {reduction_text(item)}" for item in timeline.reduced]
    if timeline.model_wait is not None:
        lines.append(
            f"waits: {model_wait_text(timeline.model_wait)}, which failed: {short(timeline.model_wait.message, 240)}"
        )
    lines += [f"in flight: {what}" for what in timeline.in_flight]
    lines += [f"the clock stepped back {back / 1e9:.1f} s at event {seq}" for seq, back in timeline.steps_back]
    if timeline.started is not None:
        lines += _start_lines(report)
    return lines


def _last_good_lines(good: RunDiff) -> list[str]:
    lines: list[str] = []
    first = good.first
    if first is not None:
        where = f"at step {first.b or first.a}, " if first.a or first.b else ""
        lines.append(f"differs from the last good run {good.a[:8]} {where}{first.kind}: {short(first.what, 240)}")
    else:
        lines.append(f"the last good run {good.a[:8]} did the same")
    if good.changed:
        lines.append(f"changed since then: {', '.join(changed.name for changed in good.changed)}")
    if good.slower:
        slow = good.slower[0]
        place = f"{slow.b} " if slow.b else ""
        lines.append(f"slower than then: {place}{slow.name}, was {slow.before:.2f} s, now {slow.after:.2f} s")
    return lines


def _start_lines(report: IncidentReport) -> list[str]:
    timeline = report.timeline
    started = timeline.started
    assert started is not None
    scripted = " (a written script, not a model)" if started.scripted else ""
    who = f"{started.subjects.agent} for {started.subjects.user} (account {started.by.account})"
    resumed = f", resumed {resumed_text(timeline)}" if timeline.resumed else ""
    lines = [
        f"{who}, {', then '.join((started.model, *started.fallbacks))}{scripted}, confinement {started.confinement}",
        f"run {timeline.run}, began {utc(timeline.began_at)}{resumed}",
        f"task: {short(started.task)}",
        *(f"since then with another definition: {short(text)}" for text in report.accepted),
    ]
    if (place := started.conversation) is not None:
        before = f", after run {place.after[:8]}" if place.after else ""
        lines.append(f"message {place.number} of the conversation {place.id[:8]}{before}")
    if started.scope is not None:
        lines.append(f"scope: {scope_text(started.scope)}")
    if started.observe is not None:
        lines.append(f"observe: {started.observe.text}")
    if started.arm is not None:
        lines.append(f"rollout {started.arm.rollout}: {started.arm.arm}, {started.arm.share:.0%} have the candidate")
    if started.content != "complete":
        lines.append(f"content {started.content}: this run can be read, not replayed")
    if started.imported is not None:
        origin = started.imported
        lines.append(
            f"imported from trace {origin.trace} of {origin.tool}: this run can be read and decided again, not replayed"
        )
    if started.shrunk_from:
        lines.append(f"synthetic run, reduced from run {started.shrunk_from}")
    if report.budget is not None:
        limits = report.budget
        used = f"{len(timeline.turns)} of {limits.steps} steps, {len(timeline.calls)} of {limits.calls} calls"
        waited = f", {timeline.waited / 1e9:.1f} s of waiting for the model" if timeline.waited else ""
        lines.append(f"budget: {used}, {(timeline.took - timeline.waited) / 1e9:.1f} of {limits.wall:g} s{waited}")
    if timeline.labels:
        lines.append(f"labels: {', '.join(timeline.labels)}")
    return lines


def waiting_line(call: CallTimeline) -> str:
    """Whose approval a call waits for, who has approved it already, and when the request expires; or what its tool asks."""
    if call.approval is None or not call.approval.waits():
        return f"waits: {call.place} {call.action} asks a person; answer it in its graph"
    requested, approvers = call.approval.requested, [grant.approver for grant in call.approval.grants]
    given = f", approved so far by {', '.join(approvers)}" if approvers else ""
    return f"waits: {call.place} {call.action} needs approval by {needs_text(requested)}{given}, expires {utc(requested.expires_at)}"


def _at(timeline: Timeline, at: int) -> str:
    return f"  {max(0, at - timeline.began_at) / 1e6:>8.0f} ms"


def _show_call(timeline: Timeline, call: CallTimeline, *, running: bool | None) -> None:
    ms = "no result" if call.took is None else f"{call.took / 1e6:.0f} ms"
    word = style(f"{call.verdict:<7}", fg=COLOURS.get(call.verdict, "red"))
    labels = style(f"  +{' +'.join(call.labels)}", fg="magenta") if call.labels else ""
    what = short(" ".join([call.action, *call.resources]), 160)
    echo(f"{_at(timeline, call.decided_at)}    {word} {what}  {ms}{labels}")
    for line in detail_lines(call, running=running):
        echo(f"{INDENT}{style(line, dim=True)}")
    if call.error is not None:
        echo(f"{INDENT}{style(explain(call.error), fg='red')}")
        if _is_allowable(call):
            echo(
                f"{INDENT}{style(f'the change that would allow it: remit allow {timeline.run[:8]}/{call.place}', dim=True)}"
            )


def _is_allowable(call: CallTimeline) -> bool:
    """True for a call that other files of the workspace could allow: no rule denies it."""
    if call.error is None or call.proposed.redacted:
        return False
    if call.decision is not None and call.decision.verdict == "deny":
        return call.decision.reason == "no_rule_allows"
    return (
        call.error.code in ("unknown_action", "sandbox_violation")
        or call.error.details.get("reason") == "outside_manifest"
    )


def detail_lines(call: CallTimeline, *, running: bool | None) -> list[str]:
    """A call's repairs, rules, approvals and attempts, one line each."""
    lines = [] if call.enforced else ["not enforced: the call is carried out whatever is decided"]
    lines += [f"repaired: {repair.text}" for repair in call.repairs]
    if call.left_out:
        lines.append(f"left out, because no rule permits it: {', '.join(call.left_out)}")
    if call.decision is not None:
        lines += [call.decision.message] if call.decision.reason == "imported" else []
        rules = call.decision.rules[:RULES] or call.decision.nearest[:1]
        lines += [f"{rule.file}:{rule.line}  {short(rule.note or rule.text)}" for rule in rules]
    if call.approval is not None:
        lines.append(f"approval: {call.approval.status()}")
    lines += [short(line, 240) for line in answer_lines(call.answers)]
    for attempt in call.attempts:
        ended = attempt.ended
        if ended is None:
            lines.append(f"attempt {attempt.number}: {unended_text(running=running)}")
            continue
        took = f"cached from call {attempt.cached}" if attempt.cached else f"{ended.spent.wall_s * 1000:.0f} ms"
        lines += _ended_lines(attempt.number, ended, took)
    return lines


def _ended_lines(number: int, ended: AttemptEnded, took: str) -> Iterator[str]:
    """The end of an attempt, what it wrote, and what it was refused, with the line of tool.toml that would allow that."""
    from remit.workspace.manifest import network_line

    message = f": {short(ended.message, 80)}" if ended.message else ""
    end = f"{ended.error or ended.code}{message}" if ended.code else "ok"
    retry = f", retry after {ended.retry_in_s:g} s" if ended.retry_in_s is not None else ""
    yield f"attempt {number}: {end}, {took}{retry}"
    for change in ended.changes:
        yield f"  wrote {change.resource} ({change.size} bytes)"
    for item in ended.denied_accesses:
        yield f"  refused {item.access} {with_visible_characters(item.what)}; to allow it, in tool.toml: {item.allow}"
    for request in ended.connections:
        if line := network_line(request):
            what = with_visible_characters(str(request))
            yield f"  refused {what}; to allow it, in [always] of tool.toml: {line}"
