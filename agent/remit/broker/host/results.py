"""Remit's own action: it reads a part of an earlier result of the run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remit.broker.ports import AttemptOutcome, ProbeOutcome
from remit.core import Call, Confinement, ResourceUsage, Succeeded, page_of, result_message, result_text
from remit.core.events import AttemptEnded, CallAnswered
from remit.core.parsing import canonical_json, digest
from remit.journal import Record


class ResultReader:
    """The executor of `remit.read_result`: it reads the record of the run, and nothing outside of it.

    A replay computes the part again from the replayed record, and compares it with the recorded one.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        return digest({"built-in": call.action}), "none"

    async def read_digest(self, call: Call, number: int) -> str:
        return ""

    def keyed(self, call: Call) -> bool:
        return False

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        return ()

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        return ProbeOutcome(landed="unknown")

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[_Reading]:
        yield _Reading(reader=self, call=call)

    def read(self, call: Call) -> AttemptOutcome:
        """The part that the arguments name, or the declared error `not_found`."""
        answered = self._answered(call)
        if answered is None:
            return _not_found(f"no earlier result of this run is {call.arguments['call']!r}")
        text = result_text(result_message(call.arguments["call"], answered.result))
        offset, find = call.arguments["offset"], call.arguments["find"]
        begin = text.find(find, offset) if find else offset
        if begin < 0 or begin > len(text):
            missing = "it does not have that text after the offset" if find else "it has not so many"
            return _not_found(f"the result {call.arguments['call']!r} has {len(text)} characters, and {missing}")
        most = self._record.conversation.result_bytes
        assert most is not None  # the agent has this action
        page = page_of(text, begin, most=most, labels=self.labels(call))
        return AttemptOutcome(code=None, value=page, spent=ResourceUsage(output_bytes=len(canonical_json(page))))

    def labels(self, call: Call) -> Iterable[str]:
        """The labels of the result that the call reads: the model reads its text again, so they are put on the run again."""
        answered = self._answered(call)
        if answered is None:
            return ()
        if isinstance(answered.result, Succeeded):
            return answered.result.labels
        if answered.labels:  # the words of the tool's types, which refused the arguments before an attempt
            return answered.labels
        place = f"{answered.step}/{answered.index}/{answered.result.error.attempts}"
        ended = self._record.get(f"attempt.ended/{place}")
        return ended.labels if isinstance(ended, AttemptEnded) else ()

    def _answered(self, call: Call) -> CallAnswered | None:
        """The earlier result that the arguments name; None without one. The model has read no results of internal steps."""
        step, index = map(int, call.arguments["call"].split("."))
        answered = self._record.get(f"call.answered/{step}/{index}/-")
        known = self._record.state.internal < step < call.step
        return answered if known and isinstance(answered, CallAnswered) else None


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """A call of the action; its arguments are as decided."""

    reader: ResultReader
    call: Call
    arguments: None = None

    async def attempt(self, during: object = None) -> AttemptOutcome:
        return self.reader.read(self.call)


def _not_found(message: str) -> AttemptOutcome:
    return AttemptOutcome(code="tool_failed", error="not_found", message=message)
