"""The journal: an append-only store of the events of every run. Everything else is computed from it.

Events are written with the rows of the projections that change with them, in one transaction. No effect happens before its
event is written: an event that cannot be written ends the run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from operator import itemgetter
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError

from remit.core import RemitError, RunEnded, UsageError, in_pool
from remit.core.events import AnyEvent, HoldSet, KeyCreated, Recorded
from remit.journal import limits
from remit.journal.copies.chain_copies import ChainCopies
from remit.journal.copies.sealed_bodies import SealedBodies
from remit.journal.hash_chain import Chain, ChainFault, ChainLink, link
from remit.journal.lease import BEAT_S, LOST, Lease, is_leased, keep_leases, release_lease, take_lease
from remit.journal.projections import (
    CIRCUIT_COLUMNS,
    CIRCUIT_STREAM,
    EVALUATION_STREAM,
)
from remit.journal.run_state import Circuit, RolloutState
from remit.journal.storage.arm_counts import counting, ended_arm
from remit.journal.storage.changes import ChangeWatcher
from remit.journal.storage.core_tables import (
    CIRCUIT,
    EVENT,
    HEAD,
    IS_LOOKED_UP,
    LOOKED_UP,
    ROLLOUT,
    SEALED,
)
from remit.journal.storage.database import (
    SHARED,
    Batch,
    Database,
    HeadMoved,
    Row,
    Sql,
    Transaction,
    append_events,
)
from remit.journal.storage.rows import COLUMNS, STORED, as_link
from remit.journal.storage.sealed import unpack
from remit.journal.storage.shared import Shared, circuit_of, read_shared, rollout_of
from remit.journal.storage.streams import stream_changes

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log: Final = logging.getLogger("remit.journal")
PAUSES: Final = 2.0  # times as long as upkeep held the lock
LONGEST_PAUSE_S: Final = 0.5
FIX: Final = "free disk space or restore access to the journal, then resume the run: `remit run --resume`"

_TIME_OF: Final = itemgetter(*(COLUMNS.index(name) for name in ("at", "run", "seq")))
_of: sa.BindParameter[str] = sa.bindparam("of")
IN_ORDER: Final = Sql(STORED.where(EVENT.c.run == _of, EVENT.c.seq > sa.bindparam("after")).order_by(EVENT.c.seq))
_BY_KEY: Final = Sql(STORED.where(EVENT.c.run == _of, EVENT.c.key == sa.bindparam("named")))
_BY_TYPE: Final = Sql(
    STORED.where(IS_LOOKED_UP, EVENT.c.type == sa.bindparam("kind"), EVENT.c.at >= sa.bindparam("since")).order_by(
        EVENT.c.at, EVENT.c.run, EVENT.c.seq
    )
)
_HEAD_OF: Final = Sql(sa.select(HEAD.c.seq, HEAD.c.hash).where(HEAD.c.run == _of))
_FENCE_OF: Final = Sql(sa.select(HEAD.c.fence).where(HEAD.c.run == _of))
SEALED_OBJECT: Final = Sql(sa.select(SEALED.c.last, SEALED.c.chain, SEALED.c.bodies).where(SEALED.c.run == _of))
_CIRCUIT: Final = Sql(sa.select(*(CIRCUIT.c[name] for name in CIRCUIT_COLUMNS)).where(CIRCUIT.c.tool == _of))
_ROLLOUT: Final = Sql(sa.select(ROLLOUT).where(ROLLOUT.c.rollout == _of))


class AlreadyRecorded(RemitError):
    """The run already has an event with that key, which is `earlier`."""

    def __init__(self, earlier: Recorded) -> None:
        self.earlier = earlier
        super().__init__(f"{earlier.key} is already recorded as event {earlier.seq}")


class Journal:
    """The events of every run of a workspace. Threads share one; each process opens its own.

    `clock` gives Unix nanoseconds. `copies` are those of its chains in shared storage, None without; `bodies` those of sealed runs. Every method that reads or writes raises RunEnded (`unrecorded`) if the database cannot.
    """

    def __init__(self, database: Database, name: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.database: Final = database
        self.name: Final = name
        self.clock: Final = clock
        self._closed = False
        self._leases: set[Lease] = set()
        self._lease_lock = threading.Lock()
        self._beating: threading.Thread | None = None
        self._ending = threading.Event()
        self.changes: Final = ChangeWatcher(database)
        self.copies: ChainCopies | None = None
        self.bodies = SealedBodies(None)
        self._shared: tuple[int, Shared] | None = None
        self._looked: asyncio.AbstractEventLoop | None = None  # the event loop that has looked in its present iteration
        # SQLite has one writer, so more threads would only wait for each other.
        threads = 1 if database.dialect == "sqlite" else 4
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="remit-journal")

    def close(self) -> None:
        """Close the database. Nothing that was recorded is lost if a process dies without it."""
        self._ending.set()
        self._executor.shutdown(wait=True)
        self._closed = True
        self.database.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def run_in_thread(self, function: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Call a function of the journal in one of its threads; it is carried out to its end also if the caller is cancelled."""
        self._check_open()
        try:
            work = in_pool(self._executor, partial(function, *given, **named))
        except RuntimeError:  # the interpreter is shutting down and starts no thread
            return function(*given, **named)
        return await work

    # -- writing --

    def write(self, batch: Batch) -> None:
        """Append a batch.

        Raises:
            HeadMoved: the chain is not where the batch expects it, or the lease is lost. Nothing was recorded.
            Exhausted: a claim would pass its limit. Nothing was recorded.
        """
        with self.failing("written"):
            arm = ended_arm(batch)
            if not batch.claims and arm is None:
                self.database.append(batch)
                return
            try:
                with self.database.transaction(durable=batch.durable) as transaction:
                    with nullcontext() if arm is None else counting(transaction, batch.run, arm):
                        append_events(transaction, batch)
                    # In one order: runs that take from the same limits must not wait for each other.
                    for claim in sorted(batch.claims, key=lambda claim: claim.scope):
                        limits.grant(transaction, claim, claim.at or batch.links[-1].at)
                    transaction.notify(batch.topics)
            except self.database.conflicts as conflict:
                raise HeadMoved(str(conflict)) from conflict

    def write_now(self, batch: Batch) -> bool:
        """Append a batch if that takes less than a change of threads and back. False: nothing was recorded."""
        if batch.claims or ended_arm(batch) is not None:
            return False
        with self.failing("written"):
            return self.database.append_now(batch)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Generator[Transaction]:
        """One write transaction of upkeep, which lets the writers of runs come first."""
        with (
            self.letting_others_write(),
            self.failing("written"),
            self.database.transaction(durable=durable) as transaction,
        ):
            yield transaction

    @contextmanager
    def letting_others_write(self) -> Generator[None]:
        """Pause after the block, if it held the only write lock of the database.

        SQLite has no queue: a process that waits looks again after 1 to 100 ms. If many short transactions follow each other, it
        finds the lock taken each time, and waits for seconds.
        """
        begun = time.monotonic()
        yield
        if self.database.dialect == "sqlite":
            time.sleep(min(PAUSES * (time.monotonic() - begun), LONGEST_PAUSE_S))

    def append_shared(self, stream: str, event: AnyEvent, *, durable: bool = True) -> Recorded:
        """Record one event that belongs to no run: a hold, a pruned run, or one of a circuit breaker.

        Raises:
            AlreadyRecorded: the stream has an event with that key.
        """
        while True:
            seq, prev = self.head(stream) or (-1, "")
            with self.failing("written"):
                sealed = link(stream, seq + 1, self.clock(), prev, event, secrets.token_hex(16))
            try:
                recorded = self.append_sealed(sealed, event, durable=durable)
            except HeadMoved:
                if (earlier := self.get(stream, event.key)) is not None:
                    raise AlreadyRecorded(earlier) from None
                continue  # another process appended first
            if self.copies is not None and durable and not stream.startswith((CIRCUIT_STREAM, EVALUATION_STREAM)):
                try:
                    self.copies.add(self, stream)
                except RunEnded as failure:  # it is recorded, and counts; the next copy has it too
                    _log.warning("%s is recorded, and not copied: %s", event.key, failure)
            return recorded

    def append_sealed(self, sealed: ChainLink, event: AnyEvent, *, durable: bool = True) -> Recorded:
        """Record one event of a stream at its place in the chain. Raises HeadMoved if that is not the next one."""
        recorded = sealed.of(event)
        changes = stream_changes(self, recorded)
        before = sealed.seq - 1
        self.write(
            Batch(run=sealed.run, before=before, links=(sealed,), changes=changes, durable=durable, topics=(SHARED,))
        )
        self._shared = None
        return recorded

    def announce(self, *topics: str) -> None:
        """Wake the processes that wait for one of these topics."""
        with self.failing("written"), self.database.transaction(durable=False) as transaction:
            transaction.notify(topics)

    # -- reading --

    def read(self, statement: Sql | sa.ClauseElement, **params: object) -> list[Row]:
        """The rows of one statement."""
        with self.failing("read"):
            return self.database.read(statement, params)

    def head(self, run: str) -> tuple[int, str] | None:
        """The number and the hash of the last event; None if there is no event."""
        rows = self.read(_HEAD_OF, of=run)
        return (int(rows[0][0]), str(rows[0][1])) if rows and rows[0][0] >= 0 else None

    def fence_of(self, run: str) -> int:
        """The fencing number of the latest lease of the run; 0 without one."""
        rows = self.read(_FENCE_OF, of=run)
        return int(rows[0][0]) if rows else 0

    def links(self, run: str, after: int = -1) -> list[ChainLink]:
        """The events of a run as they are stored, beginning with the one after number `after`."""
        links = [as_link(row) for row in self.read(IN_ORDER, of=run, after=after)]
        if links and links[0].seq == after + 1:
            return links
        return [*self._sealed_links(run, self.read(SEALED_OBJECT, of=run), after), *links]

    def _sealed_links(self, run: str, rows: Sequence[Row], after: int) -> list[ChainLink]:
        with self.failing("read"):
            return [
                link for row in rows for link in unpack(run, row[1], self.bodies.get(run, row[2])) if link.seq > after
            ]

    def events(self, run: str, after: int = -1) -> list[Recorded]:
        """The events of a run in order, beginning with the one after number `after`."""
        with self.failing("read"):
            return [stored.recorded() for stored in self.links(run, after)]

    def get(self, run: str, key: str) -> Recorded | None:
        """The event with that key, None without one."""
        rows = self.read(_BY_KEY, of=run, named=key)
        with self.failing("read"):
            if rows:
                return as_link(rows[0]).recorded()
            sealed = self._sealed_links(run, self.database.read(SEALED_OBJECT, {"of": run}), -1)
            return next((item.recorded() for item in sealed if item.key == key), None)

    def every(self, *kinds: str, since: int = 0) -> list[Recorded]:
        """All events of those types in all runs that are not sealed, the oldest first; `since` is Unix nanoseconds.

        The types are of `LOOKED_UP`, which have an index.
        """
        assert set(kinds) <= set(LOOKED_UP), kinds
        rows = [row for kind in kinds for row in self.read(_BY_TYPE, kind=kind, since=since)]
        rows.sort(key=_TIME_OF)
        with self.failing("read"):
            return [as_link(row).recorded() for row in rows]

    def chain(self, run: str) -> Chain:
        """The events of a run as they are stored and its head, read in one transaction: an append in between would look like damage."""
        with self.failing("read"), self.database.snapshot() as snapshot:
            head = snapshot.execute(_HEAD_OF, {"of": run})
            links = tuple(as_link(row) for row in snapshot.execute(IN_ORDER, {"of": run, "after": -1}))
            sealed = snapshot.execute(SEALED_OBJECT, {"of": run}) if not links or links[0].seq else []
        links = (*self._sealed_links(run, sealed, -1), *links)
        return Chain(run=run, links=links, head=(int(head[0][0]), str(head[0][1])) if head and links else None)

    def verify(self, run: str) -> tuple[ChainFault, ...]:
        """Every difference from what was recorded; empty if there is none."""
        return self.chain(run).verify()

    # -- what all runs share --

    def holds(self) -> Mapping[str, HoldSet]:
        """The holds in force, by scope."""
        return self._shared_state().holds

    def published(self) -> str:
        """The key of the event that published the rules in force; "" if each process has those of its files."""
        return self._shared_state().published

    def keys(self) -> Mapping[str, KeyCreated]:
        """The API keys that are not revoked, by id; some of them may have expired."""
        return self._shared_state().keys

    def circuits(self) -> Mapping[str, Circuit]:
        """The circuit breakers of the tools that failed, by tool."""
        return self._shared_state().circuits

    def circuit(self, tool: str) -> Circuit | None:
        """The circuit breaker of one tool as it is now; None if it has no failures."""
        rows = self.read(_CIRCUIT, of=tool)
        return circuit_of(rows[0]) if rows else None

    def rollouts(self) -> Sequence[RolloutState]:
        """The open rollouts, the oldest first."""
        return self._shared_state().rollouts

    def rollout(self, rollout: str) -> RolloutState | None:
        """The rollout of that id, open or not; None if there is none."""
        rows = self.read(_ROLLOUT, of=rollout)
        return rollout_of(rows[0]) if rows else None

    def _shared_state(self) -> Shared:
        """What all runs share, read again only after something has changed: every call asks for it, and several times."""
        # An event loop looks once in each iteration. INVARIANT: a request that arrives later is handled in a later one.
        loop = asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage] - without an exception where there is none
        if loop is not None:  # a thread without an event loop looks each time
            if self._looked is loop and self._shared is not None:
                return self._shared[1]
            self._looked = loop
            loop.call_soon(self._look_again)
        with self.failing("read"):
            version = self.database.version((SHARED,))
            if self._shared is None or self._shared[0] != version:
                self._shared = version, read_shared(self.database)
            return self._shared[1]

    def _look_again(self) -> None:
        self._looked = None

    def version(self, topics: Sequence[str]) -> int:
        """A number that differs after a process has recorded something of these topics: the id of a run, or `SHARED`."""
        with self.failing("read"):
            return self.database.version(topics)

    # -- leases --

    @asynccontextmanager
    async def lease(self, run: str) -> AsyncGenerator[Lease]:
        """Hold the lease of the run for the `async with` block. Raises UsageError if another process drives the run.

        A run is lost if the block could not record it any more; a lost run stays lost if the block could not resume it.
        """
        taking = asyncio.ensure_future(self.run_in_thread(self._take_lease, run))
        left = ""
        try:
            yield await asyncio.shield(taking)
        except RemitError as error:
            unrecorded = isinstance(error, RunEnded) and error.code == "unrecorded"
            left = LOST if unrecorded else taking.result().before if not taking.exception() else ""
            raise
        finally:
            await asyncio.wait([taking])  # a caller that is cancelled meanwhile must not leave the run locked
            if taking.exception() is None:
                with suppress(RunEnded) if left else nullcontext():  # the error that is raised already says why
                    await self.run_in_thread(self._release_lease, taking.result(), left)

    @contextmanager
    def brief_lease(self, run: str) -> Generator[Lease]:
        """As `lease`, for code that drives nothing, without an event loop: a lost run stays lost."""
        lease = self._take_lease(run)
        try:
            yield lease
        finally:
            self._release_lease(lease, lease.before)

    def _take_lease(self, run: str) -> Lease:
        with self.failing("written"):
            lease = take_lease(self.database, run, self.clock())
        with self._lease_lock:
            self._leases.add(lease)
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat, name="remit-lease", daemon=True)
                self._beating.start()
        return lease

    def _release_lease(self, lease: Lease, left: str = "") -> None:
        with self._lease_lock:
            self._leases.discard(lease)
        with self.failing("written"):
            release_lease(self.database, lease, left=left)

    def forget_shared(self) -> None:
        """Read what all runs share again at the next look."""
        self._shared = None

    def is_driven(self, run: str) -> bool:
        """True if a process drives the run now."""
        with self.failing("read"):
            return is_leased(self.database, run, self.clock())

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_S):
            with self._lease_lock:
                leases = list(self._leases)
                if not leases:
                    self._beating = None
                    return
            # A database that is gone, and a lease that is lost, are found out by the next append of the run.
            with suppress(*self.database.failures):
                keep_leases(self.database, leases, self.clock())

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the journal {self.name} is closed: open its workspace again")

    @contextmanager
    def failing(self, verb: str) -> Generator[None]:
        """Raise RunEnded for errors of the database, the disk and an event; `verb` is `read`, `written` or `opened`."""
        self._check_open()
        try:
            yield
        except HeadMoved:
            raise
        except self.database.failures as failure:
            cause = getattr(failure, "strerror", None) or str(failure).strip() or type(failure).__name__
            raise RunEnded("unrecorded", f"the journal {self.name} cannot be {verb}: {cause}", fix=FIX) from failure
        except ValidationError as failure:
            raise RunEnded(
                "unrecorded",
                f"the journal {self.name} has an event that this version cannot read",
                fix="use the version of Remit that wrote it, or check it for changes with `remit trace verify`",
            ) from failure
        except ValueError as failure:  # encode()
            raise RunEnded(
                "unrecorded",
                f"an event cannot be written as JSON: {failure}",
                fix="report this as a bug: the text must be sanitized before it is recorded",
            ) from failure
