"""How a run failed, in a word that can be looked for in another run: `code=…`, `decision=…`, `final~…`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, get_args

from remit.core import CODES, Failed, UsageError, Verdict
from remit.core.events import CallAnswered, CallDecided, Recorded, RunFinished

FORMS: Final = "code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:ACTION[:RESOURCE]] or final~REGEX"
_PARTS: Final = re.compile(r"(code|decision)=([^:]*)(?::([^:]*)(?::(.*))?)?|final~(.*)", re.DOTALL)

Called: TypeAlias = tuple[str, ...]  # a call's action, then the resources that it touches


@dataclass(frozen=True, kw_only=True)
class FailureSelector:
    """One way to fail. `action` narrows it to one action, `resource` to calls that touch it; "" is any."""

    text: str
    code: str = ""
    verdict: str = ""
    action: str = ""
    resource: str = ""
    final: re.Pattern[str] | None = None

    def found(self, records: Sequence[Recorded]) -> list[str]:
        """The keys of the events that are such a failure, in order; empty where the run does not fail so."""
        return [item.key for item, called in _with_called(records) if self._is(item, called)]

    def _is(self, item: Recorded, called: Called) -> bool:
        event = item.event
        if isinstance(event, RunFinished):
            return event.code == self.code if self.final is None else bool(self.final.search(event.answer))
        if self.action not in ("", called[0]) or (self.resource and self.resource not in called[1:]):
            return False
        if isinstance(event, CallAnswered) and isinstance(event.result, Failed):
            return event.result.error.code == self.code
        return isinstance(event, CallDecided) and event.decision is not None and event.decision.verdict == self.verdict


def parse_failure_selector(text: str) -> FailureSelector:
    """Read one of the forms. Raises UsageError with what may stand there."""
    matched = _PARTS.fullmatch(text)
    if matched is None:
        raise UsageError(f"{text!r} says no way to fail: write {FORMS}")
    kind, value, action, resource, pattern = matched.groups()
    if pattern is not None:
        try:
            return FailureSelector(text=text, final=re.compile(pattern))
        except re.error as failure:
            raise UsageError(f"{pattern!r} is no regular expression: {failure}") from failure
    known = CODES if kind == "code" else get_args(Verdict)
    if value not in known:
        raise UsageError(f"{value!r} is no {'code' if kind == 'code' else 'verdict'}: write one of {', '.join(known)}")
    if kind == "code":
        return FailureSelector(text=text, code=value, action=action or "", resource=resource or "")
    return FailureSelector(text=text, verdict=value, action=action or "", resource=resource or "")


def find_failures(records: Sequence[Recorded]) -> list[str]:
    """Every way in which a run failed, in the words of `parse_failing`."""
    return list(dict.fromkeys(_failures(records)))


def _failures(records: Sequence[Recorded]) -> Iterator[str]:
    for item, called in _with_called(records):
        event = item.event
        if isinstance(event, CallAnswered) and isinstance(event.result, Failed):
            yield ":".join([f"code={event.result.error.code}", *called[:2]])
        if isinstance(event, RunFinished) and event.code is not None:
            yield f"code={event.code}"


def _with_called(records: Iterable[Recorded]) -> Iterator[tuple[Recorded, Called]]:
    """Each event with what its call was: empty where it is of none."""
    known: dict[tuple[int | None, int | None], Called] = {}
    for item in records:
        event = item.event
        if event is None:
            continue
        if isinstance(event, CallDecided):
            touched = (touch.resource for touch in event.call.touches) if event.call else ()
            known[event.step, event.index] = (event.call.action if event.call else event.proposed.action, *touched)
        yield item, known.get((event.step, event.index), ("",))
