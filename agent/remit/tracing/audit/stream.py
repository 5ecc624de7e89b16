"""Sends the audit records that were not sent yet. Each arrives at least once: the cursor moves once the sink has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from remit.core.events import CallDecided, Recorded, RunStarted
from remit.journal import EVALUATION_STREAM, Journal, UnsentChain, mark_sent, unsent_chains
from remit.tracing.audit.ocsf import Chain, Record
from remit.tracing.audit.records import AUDITED, audit_record
from remit.tracing.audit.sinks import NotArrived, Sink

AT_ONCE: Final = 500  # records that a sink gets at once
IDLE_S: Final = 1.0  # how often a stream that follows looks for events
LONGEST_WAIT_S: Final = 30.0  # between two attempts, while nothing arrives


class AuditStream:
    """Sends audit records from a journal to a sink. Runs of evaluations and imported runs have none: they have no effect.

    With `arguments`, a decision has the arguments of its call.
    """

    def __init__(self, journal: Journal, sink: Sink, *, arguments: bool = False) -> None:
        self._journal = journal
        self._sink = sink
        self._arguments = arguments

    def send(self) -> int:
        """Send every record that was not sent; returns how many. Raises NotArrived: what has not arrived is sent the next time."""
        sent, records, reached = 0, list[Record](), dict[str, int]()
        for chain in unsent_chains(self._journal):
            for number, record in self._records(chain):
                reached[chain.run] = number
                if record is not None:
                    records.append(record)
                if len(records) >= AT_ONCE:
                    sent += self._arrive(records, reached)
        return sent + self._arrive(records, reached)

    def follow(self, report: Callable[[NotArrived], None], sleep: Callable[[float], None] = time.sleep) -> None:
        """Send records as they come, until the process is interrupted. `report` gets each failure; waits grow from 1 to 30 seconds."""
        wait = IDLE_S
        while True:
            try:
                self.send()
                wait = IDLE_S
            except NotArrived as failure:
                report(failure)
                wait = min(2 * wait, LONGEST_WAIT_S)
            sleep(wait)

    def _arrive(self, records: list[Record], reached: dict[str, int]) -> int:
        """Send what has gathered, and only then move the cursor."""
        count = len(records)
        if records:
            self._sink.write(records)
        if reached:
            mark_sent(self._journal, reached)
        records.clear()
        reached.clear()
        return count

    def _records(self, unsent: UnsentChain) -> Iterator[tuple[int, Record | None]]:
        """The number of each event that was not sent, with its record; None: it is none of audit."""
        name = unsent.run
        started = self._journal.get(name, "run.started/-/-/-")
        run = started.event if started is not None and isinstance(started.event, RunStarted) else None
        live = not name.startswith(EVALUATION_STREAM) and (run is None or not run.apart)
        chain = Chain(name=name, started=run, call=lambda step, index: self._call(name, step, index))
        for link in self._journal.links(name, after=unsent.after):
            audited = live and link.type in AUDITED
            yield link.seq, self._record(link.recorded(), chain) if audited else None

    def _record(self, item: Recorded, chain: Chain) -> Record | None:
        return audit_record(item, chain, arguments=self._arguments)

    def _call(self, run: str, step: int, index: int) -> CallDecided | None:
        found = self._journal.get(run, f"call.decided/{step}/{index}/0")
        return found.event if found is not None and isinstance(found.event, CallDecided) else None
