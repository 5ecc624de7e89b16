"""Finds the root cause of a run: what ended or endangered it comes before an error that it recovered from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

from remit.core import Code, Error, Json, Succeeded, failure_place
from remit.core.parsing import load_json
from remit.guardrails import UNTRUSTED
from remit.tracing.reports.timeline import CallTimeline, Timeline

LOOPS: Final = 3  # the same call with the same arguments, proposed at least this often, is a loop
SHORTEST_TARGET: Final = 6  # characters of a text that is looked for in results
MOST_REFUSED: Final = 20  # refused calls of one run whose source is looked for
_ENDANGERED: Final = ("sandbox_violation", "content_blocked")


@dataclass(frozen=True, kw_only=True)
class RootCause:
    """What ended or endangered a run, in one sentence; `step` is where, None if in no step. `call` is the call that failed, if one did."""

    text: str
    step: int | None = None
    call: CallTimeline | None = None


def find_root_cause(timeline: Timeline) -> RootCause | None:
    """The root cause of a run, from its events alone; None if nothing failed.

    It is the first that applies: what ended the run; the failure of a model that the run waits for; an effect of unknown outcome; a
    refused call that an untrusted text asked for; an attempt to reach what was not authorized; a failed call whose action never
    succeeded later; any failed call.
    """
    return (
        _end(timeline)
        or _model_wait(timeline)
        or next((_of_call(call) for call in timeline.calls if call.landed == "unknown" and call.error), None)
        or _injection(timeline)
        or next((_of_call(call) for call in timeline.calls if call.error and call.error.code in _ENDANGERED), None)
        or _failed_call(timeline)
    )


def _end(timeline: Timeline) -> RootCause | None:
    """What ended a run that did not complete."""
    if timeline.outcome in ("completed", "waiting", "waiting: model"):
        return None
    if (loop := _loop(timeline)) is not None:
        return loop
    if timeline.failure is not None:
        step = timeline.failure.step
        return RootCause(text=f"step {step}: the model failed, {timeline.failure.message}", step=step)
    finished = timeline.finished
    if finished is None or not (finished.code or finished.message):
        return None
    before = _failed_call(timeline, but=finished.code)
    text = f"{finished.code or finished.outcome}: {finished.message}" + (
        f"; before that, {before.text}" if before else ""
    )
    return RootCause(
        text=text, step=timeline.turns[-1].step if timeline.turns else None, call=before.call if before else None
    )


def _loop(timeline: Timeline) -> RootCause | None:
    """The call that the model proposed most often with the same arguments: usually the reason why a budget ended."""
    counts = Counter(
        (call.proposed.name, call.proposed.arguments) for call in timeline.calls if call.proposed.arguments
    )
    for most, times in counts.most_common(1):
        if times >= LOOPS:
            call = next(call for call in timeline.calls if (call.proposed.name, call.proposed.arguments) == most)
            text = f"step {call.place}, {call.action}: the model made the same call {times} times"
            if call.error is not None:
                text += f"; {_error_text(call, call.error)}"
            return RootCause(text=text, step=call.step, call=call)
    return None


def _injection(timeline: Timeline) -> RootCause | None:
    """The first refused call whose target an untrusted result names, and the task does not."""
    denied = [call for call in timeline.calls if call.error is not None and call.error.code == "policy_denied"]
    if not denied:
        return None
    untrusted = [
        (call, json.dumps(call.result.value, ensure_ascii=False))
        for call in timeline.calls
        if UNTRUSTED in call.labels and isinstance(call.result, Succeeded)
    ]
    task = timeline.started.task if timeline.started else ""
    for call in denied[:MOST_REFUSED]:
        targets = [target for target in _targets(call) if len(target) >= SHORTEST_TARGET and target not in task]
        for earlier, text in untrusted:
            if earlier.step < call.step and any(target in text for target in targets):
                what = " ".join((earlier.action, *earlier.resources))
                source = f"the result of step {earlier.place}, {what}, asked for it: untrusted text"
                return RootCause(text=f"{_of_call(call).text}; {source}", step=call.step, call=call)
    return None


def _targets(call: CallTimeline) -> Iterator[str]:
    """What a call is about: the names of its resources, and its texts."""
    yield from (resource.partition(":")[2] for resource in call.resources)
    ahead: list[Json] = [call.arguments]
    while ahead:
        value = ahead.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            ahead += cast("Sequence[Json]", value)
        elif isinstance(value, dict):
            ahead += cast("dict[str, Json]", value).values()


def _failed_call(timeline: Timeline, *, but: Code | None = None) -> RootCause | None:
    """The first failed call whose action never succeeded later, or else the first failed call; none with the code `but`."""
    succeeded = {call.action: call.step for call in timeline.calls if call.error is None and call.result is not None}
    failed = [call for call in timeline.calls if call.error and call.error.code != but and not call.refused_in_vain]
    lasting = [call for call in failed if succeeded.get(call.action, -1) <= call.step]
    if lasting:
        return _of_call(lasting[0])
    if not failed:
        return None
    cause = _of_call(failed[0])
    return RootCause(text=f"{cause.text}; a later {failed[0].action} succeeded", step=cause.step, call=cause.call)


def _model_wait(timeline: Timeline) -> RootCause | None:
    waits = timeline.model_wait
    return (
        None
        if waits is None
        else RootCause(text=f"step {waits.step}: the model failed for now, {waits.message}", step=waits.step)
    )


def _of_call(call: CallTimeline) -> RootCause:
    assert call.error is not None
    text = f"step {call.place}, {call.action}: {_error_text(call, call.error)}"
    return RootCause(text=text, step=call.step, call=call)


def _error_text(call: CallTimeline, error: Error) -> str:
    """The code, the message, and where it failed. The model reads no name that the schema does not have; a person reads it here."""
    place = failure_place(error)
    if error.details.get("problem") == "unknown_property" and not error.details.get("argument"):
        known = cast("Collection[str]", error.details.get("expected", ()))
        place += f", which has no {', '.join(repr(name) for name in _given_names(call) if name not in known)}"
    return f"{error.code}, {error.message}" + (f" ({place})" if place else "")


def _given_names(call: CallTimeline) -> Iterator[str]:
    """The names of the arguments as the model wrote them."""
    given: Json = call.proposed.parsed
    if call.proposed.arguments is not None:
        try:
            given = load_json(call.proposed.arguments)
        except ValueError:
            return
    if isinstance(given, dict):
        yield from cast("dict[str, Json]", given)
