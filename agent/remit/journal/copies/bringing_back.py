"""Brings back what the copies have and the journal lacks: its database was put back to an earlier state.

A run that is brought back is where it was when its last copy was stored. If an irreversible attempt may have begun then, it is recorded as
begun and not ended, as after a crash: its effect is in doubt until the probe of its tool or a person has settled it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from remit.core.events import AnyEvent
from remit.journal.copies.chain_copies import ChainCopies, CopyName, DamagedCopy
from remit.journal.hash_chain import ChainLink
from remit.journal.lease import RunDriven
from remit.journal.limits import add
from remit.journal.projections import changed_rows, is_run, queue_topics, run_rows
from remit.journal.reducer import apply_event
from remit.journal.run_log import StoredRecord
from remit.journal.storage.core_tables import HEAD
from remit.journal.storage.database import SHARED, Batch, Sql
from remit.journal.store import AlreadyRecorded, Journal
from remit.journal.upkeep.check import spent

_log: Final = logging.getLogger("remit.journal")
_HEADS: Final = Sql(sa.select(HEAD.c.run, HEAD.c.seq))


@dataclass(frozen=True, kw_only=True)
class BroughtBack:
    """What the journal lacked: the runs and the streams of the workspace, and how many events of them.

    `damaged` are the runs with a copy that cannot be read. They do not go on until it is restored or removed.
    """

    runs: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    events: int = 0
    damaged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.events > 0

    def __str__(self) -> str:
        return f"{self.events} events of {len(self.runs)} runs and {len(self.streams)} streams of the workspace are brought back"


def bring_back(journal: Journal, *, runs: bool = True) -> BroughtBack:
    """Append what the copies of all streams have and the journal lacks, with `runs` also those of runs.

    A run that a process drives is left to it: its next append fails, and who continues the run brings it back.

    A damaged copy of one run stops that run, and no other one. One of a hold or a key stops all of them: what it forbids is not known.

    Raises RunEnded (`unrecorded`) if the storage cannot be read, a copy of a stream is damaged, or the journal cannot be written.
    """
    if journal.copies is None:
        return BroughtBack()
    heads = {str(run): int(seq) for run, seq in journal.read(_HEADS)}
    behind = [stream for stream, last in journal.copies.last(runs=runs).items() if heads.get(stream, -1) < last]
    added: dict[str, int] = {}
    damaged: list[str] = []
    for stream in sorted(behind, key=lambda stream: (is_run(stream), stream)):  # holds and keys first
        if not is_run(stream):
            added[stream] = _bring_stream_back(journal, journal.copies, stream)
            continue
        try:
            with suppress(RunDriven), journal.brief_lease(stream):
                added[stream] = bring_run_back(journal, stream)
        except DamagedCopy as failure:
            damaged.append(stream)
            _log.error("run %s does not go on: %s", stream, failure)
    found = BroughtBack(
        runs=tuple(stream for stream, count in added.items() if count and is_run(stream)),
        streams=tuple(stream for stream, count in added.items() if count and not is_run(stream)),
        events=sum(added.values()),
        damaged=tuple(damaged),
    )
    if found:
        _log.warning("the journal %s was put back to an earlier state: %s", journal.name, found)
    return found


def bring_run_back(journal: Journal, run: str) -> int:
    """Append what the copies of one run have and the journal lacks; the caller has its lease. Returns how many events.

    INVARIANT: called before a run goes on. What it did in the time that the database has lost is then in its record.
    """
    if journal.copies is None:
        return 0
    names = journal.copies.names(run)
    head = journal.head(run) or (-1, "")
    added = 0
    for item in names:
        if item.seq > head[0]:
            added += _append_run(journal, run, journal.copies.read(run, item).links)
            head = journal.head(run) or (-1, "")
    return added + sum(_begin(journal, journal.copies, run, item) for item in names)


def _begin(journal: Journal, copies: ChainCopies, run: str, item: CopyName) -> int:
    """Record an attempt that may have begun, if the journal lacks it."""
    if not item.attempt or journal.get(run, item.attempt) is not None:
        return 0
    begun = copies.read(run, item).begun
    if begun is None or begun.key != item.attempt:
        return 0
    StoredRecord(journal, run).append(begun, durable=True)
    return 1


def _append_run(journal: Journal, run: str, links: Sequence[ChainLink]) -> int:
    record = StoredRecord(journal, run)
    seq, prev = journal.head(run) or (-1, "")
    missing = [link for link in links if link.seq > seq]
    if not missing or (missing[0].seq, missing[0].prev) != (seq + 1, prev):
        return _append_again(record, links)
    state, recorded = record.state, [link.recorded() for link in missing]
    for item in recorded:
        state = apply_event(state, item)
    rows = changed_rows(run_rows(run, record.state), run_rows(run, state))
    topics = (run, SHARED, *queue_topics(state, first=True))
    journal.write(Batch(run=run, before=seq, links=missing, changes=rows, durable=True, topics=topics))
    amounts = spent(recorded)
    if amounts:
        with journal.writing() as transaction:
            for (scope, start), amount in amounts.items():
                add(transaction, scope, start, amount)
    return len(missing)


def _append_again(record: StoredRecord, links: Sequence[ChainLink]) -> int:
    """Record the events of links that do not continue the chain: something was recorded before anybody noticed. Returns how many."""
    added = 0
    for link in links:
        event = link.recorded().event
        if event is not None and record.get(event.key) is None:
            record.append(event, durable=True)
            added += 1
    return added


def _bring_stream_back(journal: Journal, copies: ChainCopies, stream: str) -> int:
    """Append what the copies of a stream of the workspace have and the journal lacks. Returns how many events."""
    added = 0
    for item in copies.names(stream):
        if item.seq > (journal.head(stream) or (-1, ""))[0]:
            added += sum(_append_shared(journal, link) for link in copies.read(stream, item).links)
    return added


def _append_shared(journal: Journal, link: ChainLink) -> bool:
    """Append one event of a stream. False if the journal has it."""
    event, (seq, prev) = link.recorded().event, journal.head(link.run) or (-1, "")
    if event is None or ((recorded := journal.get(link.run, event.key)) is not None and recorded.event == event):
        return False
    if (link.seq, link.prev) != (seq + 1, prev):
        return _append_renumbered(journal, link.run, event)
    journal.append_sealed(link, event)
    return True


def _append_renumbered(journal: Journal, stream: str, event: AnyEvent) -> bool:
    """Record an event of a stream whose place in the chain is taken. False if it is recorded already."""
    number = (journal.head(stream) or (-1, ""))[0] + 1
    while True:
        try:
            journal.append_shared(stream, event)
            return True
        except AlreadyRecorded as taken:
            if taken.earlier.event == event or not hasattr(event, "number"):
                return False
            event, number = event.model_copy(update={"number": number}), number + 1
