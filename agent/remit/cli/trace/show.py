"""How a run looks afterwards on a terminal: verdict, first cause, effects, whom it waits for, then the waterfall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.live_output import explain, short
from remit.cli.output import echo, style
from remit.core import Landed
from remit.core.events import ApprovalGranted, ApprovalVoided
from remit.guardrails import visible
from remit.policy import scope_text
from remit.tracing.reports import utc

if TYPE_CHECKING:
    from remit.tracing.reports import Approval, CallTimeline, IncidentReport, Timeline

COLOURS = {"allow": "green", "ask": "yellow", "deny": "red"}
STATES: dict[str, str] = {"completed": "green", "waiting": "yellow", "held": "yellow", "running": "cyan"}
EFFECTS: tuple[tuple[str, Landed], ...] = (("landed", "landed"), ("not landed", "not_landed"), ("unknown", "unknown"))
RULES = 3  # of one decision
INDENT = " " * 25


def show_brief(found: IncidentReport) -> None:
    """Print one run."""
    timeline = found.timeline
    echo(f"{style(found.state, fg=STATES.get(found.state, 'red'), bold=True)}  {counted(timeline)}")
    echo(f"first cause: {short(timeline.first_cause or 'none: every call succeeded', 240)}")
    for line in around(found):
        echo(line)
    echo("\neffects")
    for word, state in EFFECTS:
        listed = [
            f"{item.step}.{item.index} {item.action} {' '.join(item.resources)}"
            for item in timeline.effects
            if item.landed == state
        ]
        echo(f"  {word + ':':<12}{'; '.join(listed) or 'none'}")
    echo("\nwaterfall")
    for turn in timeline.turns:
        took = f"  model {turn.took / 1e6:.0f} ms" if turn.asked_at is not None else ""
        echo(f"{_at(timeline, turn.at)}  {style(f'step {turn.step}', bold=True)}  {short(turn.text)}{took}")
        if turn.problems:
            held = f"the answer does not hold: {short('; '.join(turn.problems), 160)}"
            echo(f"{INDENT}{style(held, fg='red')}")
        for call in turn.calls:
            _show_call(timeline, call)
    if timeline.finished is not None and timeline.finished.answer:
        echo(f"\nanswer: {short(timeline.finished.answer, 400)}")
    echo("\nnext")
    for command, why in found.commands:
        echo(f"  {command}  {style(f'# {why}', dim=True)}")


def counted(timeline: Timeline) -> str:
    """How much happened, in one line."""
    refused = sum(call.error is not None and not call.attempts for call in timeline.calls)
    failed = sum(call.error is not None and bool(call.attempts) for call in timeline.calls)
    return f"{len(timeline.turns)} turns, {len(timeline.calls)} calls, {refused} refused, {failed} failed, {timeline.took / 1e9:.1f} s"


def around(found: IncidentReport) -> list[str]:
    """What stands beside the run itself: who, what, under which limits, and where it left the last good run."""
    timeline = found.timeline
    lines: list[str] = []
    if found.good is not None:
        first = found.good.first
        if first is not None:
            where = f"at step {first.b or first.a}, " if first.a or first.b else ""
            lines.append(f"left the last good run {found.good.a[:8]} {where}{first.kind}: {short(first.what, 240)}")
        else:
            lines.append(f"the last good run {found.good.a[:8]} did the same")
        if found.good.changed:
            lines.append(f"changed since: {', '.join(changed.name for changed in found.good.changed)}")
        if found.good.slower:
            slow = found.good.slower[0]
            place = f"{slow.b} " if slow.b else ""
            lines.append(f"slower than then: {place}{slow.name}, {slow.before:.2f} s is {slow.after:.2f} s")
    lines += [f"held: {found.held}"] if found.held else []
    lines += [waits(call) for call in timeline.waiting]
    lines += [f"in flight: {what}" for what in timeline.in_flight]
    lines += [f"the clock stepped back {back / 1e9:.1f} s at event {seq}" for seq, back in timeline.steps_back]
    if timeline.started is not None:
        lines += _of_start(found)
    return lines


def _of_start(found: IncidentReport) -> list[str]:
    timeline = found.timeline
    started = timeline.started
    assert started is not None
    scripted = " (a written script, not a model)" if started.scripted else ""
    who = f"{started.subjects.agent} for {started.subjects.user} (account {started.account})"
    lines = [
        f"{who}, {started.model}{scripted}, confinement {started.confinement}",
        f"run {timeline.run}, began {utc(timeline.began_at)}"
        + (f", resumed {len(timeline.resumed)} times" * bool(timeline.resumed)),
        f"task: {short(started.task)}",
    ]
    if started.scope is not None:
        lines.append(f"scope: {scope_text(started.scope)}")
    if started.content != "complete":
        lines.append(f"content {started.content}: this run can be read, not replayed")
    if started.shrunk_from:
        lines.append(f"nobody ever ran this: it was shrunk from run {started.shrunk_from}")
    if found.budget is not None:
        spent = (
            f"{len(timeline.turns)} of {found.budget.steps} steps, {len(timeline.calls)} of {found.budget.calls} calls"
        )
        lines.append(f"budget: {spent}, {timeline.took / 1e9:.1f} of {found.budget.wall:g} s")
    if timeline.labels:
        lines.append(f"labels: {', '.join(timeline.labels)}")
    return lines


def waits(call: CallTimeline) -> str:
    """Whom a call waits for, since when and until when."""
    assert call.requested is not None
    given = [f"{approver} said yes" for approver in call.approvers]
    said = f"; {', '.join(given)}" if given else ""
    return f"waits: {call.place} {call.name} for {call.needs}{said}, until {utc(call.requested.expires_at)}"


def _at(timeline: Timeline, at: int) -> str:
    return f"  {max(0, at - timeline.began_at) / 1e6:>8.0f} ms"


def _show_call(timeline: Timeline, call: CallTimeline) -> None:
    ms = "no answer" if call.took is None else f"{call.took / 1e6:.0f} ms"
    verdict = call.decision.verdict if call.decision else "refused"
    word = style(f"{verdict:<7}", fg=COLOURS.get(verdict, "red"))
    labels = style(f"  +{' +'.join(call.labels)}", fg="magenta") if call.labels else ""
    named = short(" ".join([call.name, *call.resources]), 160)
    echo(f"{_at(timeline, call.decided_at)}    {word} {named}  {ms}{labels}")
    for line in details(call):
        echo(f"{INDENT}{style(line, dim=True)}")
    if call.error is not None:
        echo(f"{INDENT}{style(explain(call.error), fg='red')}")


def approved(answer: Approval) -> str:
    """What a person said, or what became of it."""
    match answer:
        case ApprovalGranted():
            return f"approved by {answer.approver}{' (scripted)' if answer.scripted else ''}"
        case ApprovalVoided():
            return f"the approval by {answer.approver} counts no more: {short(answer.reason, 80)}"
        case _:
            return f"{answer.type.partition('.')[2]} by {answer.approver}: {short(answer.reason, 80)}"


def details(call: CallTimeline) -> list[str]:
    """A call's rules, approvals and attempts, a line each."""
    lines: list[str] = []
    if call.decision is not None:
        rules = call.decision.rules[:RULES] or call.decision.nearest[:1]
        lines += [f"{rule.file}:{rule.line}  {short(rule.note or rule.text)}" for rule in rules]
    for answer in call.approvals:
        lines.append(approved(answer))
    for attempt in call.attempts:
        ended = attempt.ended
        if ended is None:
            lines.append(f"attempt {attempt.number}: nobody saw its end")
            continue
        said = f"{ended.error or ended.code}: {short(ended.message, 80)}" if ended.code else "ok"
        again = f", again in {ended.retry_in_s:g} s" if ended.retry_in_s is not None else ""
        lines.append(f"attempt {attempt.number}: {said}, {ended.spent.wall_s * 1000:.0f} ms{again}")
        lines += [f"  wrote {change.resource} ({change.size} bytes)" for change in ended.changes]
        lines += [
            f"  refused {item.access} {visible(item.what)}; to allow: {item.allow}" for item in ended.denied_accesses
        ]
    return lines
