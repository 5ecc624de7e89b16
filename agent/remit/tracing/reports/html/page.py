"""Renders the incident report of a run as one HTML page to attach to an incident. It needs no network and no other file.

`document.py` says why the output of a tool cannot become markup or code of the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from remit.core import Failed, Json, UsageError, failure_place
from remit.core.events import AttemptEnded, RunStarted
from remit.policy import scope_text
from remit.storage import write_atomically
from remit.tracing.reports.approvals import answer_lines, emergency_lines, needs_text
from remit.tracing.reports.html.document import escaped, html_document
from remit.tracing.reports.incident import IncidentReport
from remit.tracing.reports.timeline import (
    UNRECORDED_EFFECTS,
    CallTimeline,
    Timeline,
    TimelineTurn,
    failed_request_text,
    model_wait_text,
    resumed_text,
    unended_text,
    utc,
)

FAULTS: Final = 20  # shown of a damaged record
LONGEST: Final = 20_000  # characters of one value on the page; the trace contains the whole value
SCRIPT: Final = files("remit.tracing.reports.html").joinpath("page.js").read_text()


def write_page(report: IncidentReport, path: Path) -> None:
    """Write the page with mode 0600. Raises UsageError if it cannot be written."""
    try:
        write_atomically(path, render_page(report).encode())
    except OSError as failure:
        raise UsageError(f"{str(path)!r} cannot be written: {failure.strerror}") from failure


def render_page(report: IncidentReport) -> str:
    """The page as HTML."""
    timeline = report.timeline
    agent = timeline.started.subjects.agent if timeline.started else "run"
    return html_document(f"{agent}: {report.state}, run {timeline.run[:8]}", render_body(report), script=SCRIPT)


def render_body(report: IncidentReport) -> str:
    """The content of the page as HTML, for a page that has the style `STYLE` and the script `SCRIPT`."""
    timeline = report.timeline
    return "\n".join(
        [
            *_damage(report),
            *_head(report),
            *_last_good(report),
            *_effects(timeline),
            *_timeline(report),
            *_end(report),
        ]
    )


def _damage(report: IncidentReport) -> Iterator[str]:
    """The verdict on a record that is damaged or was changed."""
    if report.damage:
        yield '<p class="cause"><b class="bad">Integrity check failed.</b> The page shows what could be read.<br>'
        yield "<br>".join(escaped(line) for line in report.damage[:FAULTS])
        yield f"<br>… and {len(report.damage) - FAULTS} more</p>" if len(report.damage) > FAULTS else "</p>"


def _head(report: IncidentReport) -> Iterator[str]:
    timeline, state, found = report.timeline, report.state, report.cause
    good = found is None and state == "completed"
    tone = (
        "good"
        if state.startswith("completed")
        else "warn"
        if state.startswith("waiting") or state in ("running", "ready")
        else "bad"
    )
    agent = timeline.started.subjects.agent if timeline.started else "run"
    cause = escaped(found.text if found else "no failing call")
    yield f'<h1><span class="{tone}">{escaped(state)}</span> · {escaped(agent)} · run <code>{timeline.run[:8]}</code></h1>'
    yield f'<p class="cause{" good-run" if good else ""}"><b>Root cause:</b> {cause}</p>'
    yield "<dl>"
    for name, value in _properties(report):
        yield f"<dt>{name}</dt><dd>{escaped(value)}</dd>"
    yield "</dl>"


def _start_properties(started: RunStarted) -> Iterator[tuple[str, str]]:
    yield "task", started.task
    yield "user", f"{started.subjects.user} (account {started.by.account})"
    yield "model", started.model + (" (a written script, not a model)" if started.scripted else "")
    yield "confinement", started.confinement
    yield "policy", started.policy_digest
    if started.scope is not None:
        yield "scope", scope_text(started.scope)
    if started.observe is not None:
        yield "observe", started.observe.text
    if started.arm is not None:
        yield "rollout", f"{started.arm.rollout}: {started.arm.arm}"
    if started.content != "complete":
        yield "content", f"{started.content}: this run can be read, not replayed"
    if started.imported is not None:
        yield "imported", f"from trace {started.imported.trace} of {started.imported.tool}"
    if started.shrunk_from:
        yield "synthetic run", f"reduced from run {started.shrunk_from}"


def _properties(report: IncidentReport) -> Iterator[tuple[str, str]]:
    timeline = report.timeline
    if timeline.started is not None:
        yield from _start_properties(timeline.started)
    yield "run", timeline.run
    yield "time", f"{utc(timeline.began_at)} to {utc(timeline.ended_at)}, {timeline.took / 1e9:.1f} s"
    if timeline.resumed:
        yield "resumed", resumed_text(timeline)
    for text in report.accepted:
        yield "changed definition", text
    if report.budget is not None:
        limits = report.budget
        yield "budget", f"{len(timeline.turns)} of {limits.steps} steps, {len(timeline.calls)} of {limits.calls} calls"
    if timeline.labels:
        yield "labels", ", ".join(timeline.labels)
    if report.held:
        yield "held", report.held
    for call in timeline.waiting:
        if call.approval is None or not call.approval.waits():
            yield "waits for", f"the answer to {call.place} {call.action}"
        else:
            yield "waits for", f"approval by {needs_text(call.approval.requested)} of {call.place} {call.action}"
    for call in timeline.calls:
        for line in emergency_lines(call.answers):
            yield "emergency", f"{call.place} {call.action}: {line}"
    if timeline.model_wait is not None:
        yield "waits", f"{model_wait_text(timeline.model_wait)}: {timeline.model_wait.message}"
    for what in timeline.in_flight:
        yield "in flight", what


def _last_good(report: IncidentReport) -> Iterator[str]:
    if report.good is None:
        return
    first = report.good.first
    yield f"<h2>First difference from the last good run <code>{report.good.a[:8]}</code></h2>"
    if first is None:
        yield "<p>None: both runs did the same.</p>"
    else:
        place = first.b or first.a
        yield f"<p>{f'At step {escaped(place)}, ' if place else ''}<b>{first.kind}</b>: {escaped(first.what)}</p>"
        yield _diff(first.diff)
    for changed in report.good.changed:
        yield f"<p>Changed since then: <code>{escaped(changed.name)}</code></p>"
        yield _diff(changed.diff)
    for slow in report.good.slower[:3]:
        times = f"was {slow.before:.2f} s, now {slow.after:.2f} s"
        yield f"<p>Slower: {escaped(slow.b)} {escaped(slow.name)}, {times}</p>"


def _effects(timeline: Timeline) -> Iterator[str]:
    yield "<h2>Side effects</h2>"
    if timeline.started is not None and timeline.started.imported is not None:
        yield f"<p>{UNRECORDED_EFFECTS.capitalize()}.</p>"
        return
    if not timeline.effects:
        yield "<p>No side effect was attempted.</p>"
        return
    yield "<table><thead><tr><th>outcome</th><th>step</th><th>call</th><th>resources</th></tr></thead><tbody>"
    tones = {"landed": "good", "unknown": "bad", "not_landed": "dim"}
    order = ("unknown", "landed", "not_landed")
    for item in sorted(timeline.effects, key=lambda effect: order.index(effect.landed)):
        word = item.landed.replace("_", " ")
        yield (
            f'<tr><td class="{tones[item.landed]}">{word}</td><td>{item.step}.{item.index}</td>'
            f"<td>{escaped(item.action)}</td><td>{escaped(' '.join(item.resources))}</td></tr>"
        )
    yield "</tbody></table>"


def _timeline(report: IncidentReport) -> Iterator[str]:
    timeline, cause = report.timeline, report.cause
    failed = cause.call if cause else None
    yield '<h2>Timeline</h2>\n<p class="dim keys"><kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> open, '
    yield "<kbd>f</kbd> root cause, <kbd>e</kbd> open all, <kbd>c</kbd> close all</p>"
    for turn in timeline.turns:
        yield from _turn(timeline, turn)
        for call in turn.calls:
            yield from _call(timeline, call, running=report.driven, is_cause=call is failed)


def _turn(timeline: Timeline, turn: TimelineTurn) -> Iterator[str]:
    began = turn.at if turn.asked_at is None else turn.asked_at
    tokens = f" · {turn.usage.input_tokens} + {turn.usage.output_tokens} tokens" if turn.usage.input_tokens else ""
    tokens += f", {turn.usage.cache_read} from the cache" if turn.usage.cache_read else ""
    tokens += f", cost {turn.cost:.4f}" if turn.cost else ""
    text = escaped(turn.text[:400]) or '<span class="dim">(no text)</span>'
    for request in turn.failures:
        text += f'<br><span class="bad">{escaped(failed_request_text(request))}</span>'
    if turn.deviations:
        text += f'<br><span class="dim">read although unusual: {escaped(", ".join(turn.deviations))}</span>'
    for own in turn.own_calls:
        text += f'<br><span class="dim">own {escaped(own.name)} {escaped((own.arguments or "")[:400])}</span>'
    if turn.problems:
        text += f'<br><span class="bad">the answer was rejected: {escaped("; ".join(turn.problems))}</span>'
    yield (
        f'<div class="turn"><span>{turn.step}</span><span>{text}<span class="dim">{tokens}</span></span>'
        f'{_bar(timeline, began, turn.at, bad=False)}<span class="num">{_ms(turn.took)}</span></div>'
    )


def _call(timeline: Timeline, call: CallTimeline, *, running: bool | None, is_cause: bool) -> Iterator[str]:
    tone = {"allow": "good", "ask": "warn", "imported": "dim"}.get(call.verdict, "bad")
    first = " first" if is_cause else ""
    place = failure_place(call.error) if call.error else ""
    code = f' <span class="bad">{call.error.code}</span> {escaped(place)}' if call.error else ""
    labels = "".join(f' <span class="label">{escaped(label)}</span>' for label in call.labels)
    ended = call.answered_at or timeline.ended_at
    yield (
        f'<details class="row{first}"><summary><span class="mono">{call.place}</span><span class="{tone}">{call.verdict}</span>'
        f'<span><b>{escaped(call.action)}</b> <span class="mono">{escaped(" ".join(call.resources))}</span>{code}{labels}</span>'
        f"{_bar(timeline, call.decided_at, ended, bad=call.error is not None)}"
        f'<span class="num">{_ms(call.took)}</span></summary><div class="inside">'
    )
    if not call.enforced:
        yield "<p>not enforced: the call is carried out whatever is decided</p>"
    if call.decision is not None:
        yield f"<p>{escaped(call.decision.message)}</p>"
        for rule in call.decision.rules or call.decision.nearest:
            yield f'<p class="mono dim">{escaped(f"{rule.file}:{rule.line}  {rule.text}")}<br>{escaped(rule.note)}</p>'
    if call.approval is not None:
        yield f"<p>approval: {call.approval.status()}</p>"
    for line in answer_lines(call.answers):
        yield f"<p>{escaped(line)}</p>"
    yield f"<p>arguments</p>{_value(call.arguments or call.proposed.arguments)}"
    for attempt in call.attempts:
        yield f"<p>attempt {attempt.number}: {_attempt(attempt.ended, running=running)}</p>"
    if call.result is not None:
        result = call.result.error.model_dump(mode="json") if isinstance(call.result, Failed) else call.result.value
        yield f"<p>result</p>{_value(result)}"
    yield "</div></details>"


def _attempt(ended: AttemptEnded | None, *, running: bool | None) -> str:
    if ended is None:
        return f'<span class="bad">{unended_text(running=running)}</span>'
    end = (
        "ok"
        if ended.code is None
        else f'<span class="bad">{escaped(ended.error or ended.code)}</span> {escaped(ended.message)}'
    )
    changes = "".join(f"<br>wrote {escaped(change.resource)} ({change.size} bytes)" for change in ended.changes)
    refused = "".join(f"<br>refused {item.access} {escaped(item.what)}" for item in ended.denied_accesses)
    return f"{end}, {ended.spent.wall_s * 1000:.0f} ms{changes}{refused}"


def _end(report: IncidentReport) -> Iterator[str]:
    if report.timeline.finished is not None and report.timeline.finished.answer:
        yield f"<h2>Answer</h2><pre>{escaped(report.timeline.finished.answer[:LONGEST])}</pre>"
    yield "<h2>Next commands</h2><pre>"
    yield "\n".join(f"{escaped(command)}  # {escaped(purpose)}" for command, purpose in report.commands)
    yield "</pre>"


def _bar(timeline: Timeline, began: int, ended: int, *, bad: bool) -> str:
    whole = max(1, timeline.took)
    left, width = 100 * max(0, began - timeline.began_at) / whole, 100 * max(0, ended - began) / whole
    tone = "bad" if bad else "bar"
    bar = f'<rect x="{left:.2f}%" width="{max(width, 0.3):.2f}%" height="13" class="{tone}"/>'
    return f'<svg class="track" width="100%" height="13" aria-hidden="true">{bar}</svg>'


def _diff(lines: Iterable[str]) -> str:
    tones = {"+": "add", "-": "del"}
    shown = "\n".join(f'<span class="{tones.get(line[:1], "")}">{escaped(line)}</span>' for line in lines)
    return f"<pre>{shown}</pre>"


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    rest = len(text) - LONGEST
    more = f"\n… and {rest} more characters, see the trace" if rest > 0 else ""
    return f"<pre>{escaped(text[:LONGEST])}{more}</pre>"


def _ms(span: int | None) -> str:
    return "" if span is None else f"{span / 1e6:.0f} ms"
