"""Failure selectors: one text that names a failure and can be looked up in any run: `code=…`, `decision=…`, `final~…`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, get_args

from remit.core import CODES, Failed, UsageError, Verdict
from remit.core.events import CallAnswered, CallDecided, Recorded, RunFinished

SELECTOR_FORMS: Final = "code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:ACTION[:RESOURCE]] or final~REGEX"
_PARTS: Final = re.compile(r"(code|decision)=([^:]*)(?::([^:]*)(?::(.*))?)?|final~(.*)", re.DOTALL)

CallNames: TypeAlias = tuple[str, ...]  # the action of a call, then the resources that it touches


@dataclass(frozen=True, kw_only=True)
class FailureSelector:
    """Selects one kind of failure. `action` limits it to one action, `resource` to calls that touch it; "" is any."""

    text: str
    code: str = ""
    verdict: str = ""
    action: str = ""
    resource: str = ""
    final: re.Pattern[str] | None = None

    def matches(self, records: Sequence[Recorded]) -> list[str]:
        """The keys of the matching events, in order; empty if the run does not have this failure."""
        return [item.key for item, call in _with_calls(records) if self._matches_event(item, call)]

    def _matches_event(self, item: Recorded, call: CallNames) -> bool:
        event = item.event
        if isinstance(event, RunFinished):
            return event.code == self.code if self.final is None else bool(self.final.search(event.answer))
        if self.action not in ("", call[0]) or (self.resource and self.resource not in call[1:]):
            return False
        if isinstance(event, CallAnswered) and isinstance(event.result, Failed):
            return event.result.error.code == self.code
        return isinstance(event, CallDecided) and event.decision is not None and event.decision.verdict == self.verdict


def parse_failure_selector(text: str) -> FailureSelector:
    """Parse a selector. Raises UsageError with the valid forms."""
    matched = _PARTS.fullmatch(text)
    if matched is None:
        raise UsageError(f"{text!r} is not a failure selector: write {SELECTOR_FORMS}")
    kind, value, action, resource, pattern = matched.groups()
    if pattern is not None:
        try:
            return FailureSelector(text=text, final=re.compile(pattern))
        except re.error as failure:
            raise UsageError(f"{pattern!r} is not a valid regular expression: {failure}") from failure
    valid = CODES if kind == "code" else get_args(Verdict)
    if value not in valid:
        noun = "code" if kind == "code" else "verdict"
        raise UsageError(f"{value!r} is not a {noun}: write one of {', '.join(valid)}")
    if kind == "code":
        return FailureSelector(text=text, code=value, action=action or "", resource=resource or "")
    return FailureSelector(text=text, verdict=value, action=action or "", resource=resource or "")


def find_failures(records: Sequence[Recorded]) -> list[str]:
    """The selectors of every failure of a run, as `parse_failure_selector` reads them."""
    return list(dict.fromkeys(_failures(records)))


def _failures(records: Sequence[Recorded]) -> Iterator[str]:
    for item, call in _with_calls(records):
        event = item.event
        if isinstance(event, CallAnswered) and isinstance(event.result, Failed):
            yield ":".join([f"code={event.result.error.code}", *call[:2]])
        if isinstance(event, RunFinished) and event.code is not None:
            yield f"code={event.code}"


def _with_calls(records: Iterable[Recorded]) -> Iterator[tuple[Recorded, CallNames]]:
    """Each event with the names of its call; with ("",) if it belongs to no call."""
    calls: dict[tuple[int | None, int | None], CallNames] = {}
    for item in records:
        event = item.event
        if event is None:
            continue
        if isinstance(event, CallDecided):
            touched = (touch.resource for touch in event.call.touches) if event.call else ()
            calls[event.step, event.index] = (event.call.action if event.call else event.proposed.action, *touched)
        yield item, calls.get((event.step, event.index), ("",))
