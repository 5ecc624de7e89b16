"""A journal with a long history, made in seconds: copies of one real run, with other ids, times, users and agents.

The copies are valid: every chain of events verifies, times inside of events are moved with their run, and the projections agree
with the events. One run in a hundred waits for approval, and one in a thousand has an effect in doubt; the rest has finished.
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from remit.broker.approvals import requests as approval
from remit.core.events import NANO, RunPruned
from remit.journal import WORKSPACE_RUN, ChainLink, RunState, StoredRecord, apply_event, link
from remit.journal.hash_chain import payload_digest
from remit.journal.limits import bucket_of
from remit.journal.projections import run_rows
from remit.journal.run_state import PART_NS
from remit.journal.storage.core_tables import APPROVAL, TABLES
from remit.journal.storage.database import Put, payload_of
from remit.runtime import runner
from remit.workspace.session import WorkspaceSession, open_session
from support.principals import OPERATOR, principal
from support.runs import DONE, turn
from support.workspaces.ledger import ledger_workspace, use

DAYS: Final = 90
WAITING: Final = 100  # one run in so many waits for approval
IN_DOUBT: Final = 1000  # one run in so many has an effect in doubt
USERS: Final = 20
AGENTS: Final = ("agent:clerk", "agent:triage", "agent:billing", "agent:support")
BATCH: Final = 200  # runs that are written together
UNIX_NS: Final = re.compile(r"(?<![\w.-])1[5-9][0-9]{17}(?![\w.])")  # the years 2017 to 2033, in nanoseconds
TEXT: Final = "The pool of payments has two connections, and each request takes one for four seconds. " * 12

Rows: TypeAlias = dict[str, list[Mapping[str, Any]]]  # the new rows of each table


@dataclass(frozen=True, kw_only=True)
class History:
    """What was written. `finished`, `waiting` and `in_doubt` are ids of such runs, the oldest first."""

    events: int
    finished: tuple[str, ...]
    waiting: tuple[str, ...]
    in_doubt: tuple[str, ...]

    @property
    def runs(self) -> int:
        return len(self.finished) + len(self.waiting) + len(self.in_doubt)


# -- the two runs that are copied -----------------------------------------------------------------------------------------


def history_workspace(folder: Path, *, settings: str = "", limits: str = "") -> Path:
    """The ledger workspace, whose agent makes 12 calls and lets a person approve one of them. `settings` go into remit.toml."""
    looks = [turn(f"step {step}", ledger__look={"name": f"a{step}", "text": TEXT}) for step in range(12)]
    looks.insert(6, turn("I pay it", ledger__pay={"name": "ann", "amount": 5000}))
    use(folder)
    budget = 'wall = "4h"'
    ledger_workspace(folder, [*looks, DONE], steps=100_000, calls=100_000, budget=budget, limits=limits)
    toml = folder / "remit.toml"
    toml.write_text(settings + toml.read_text())
    return folder


def record_template(folder: Path) -> tuple[ChainLink, ...]:
    """The events of a run in that workspace that waits for approval, gets it, and completes: 87 events."""
    opened = open_session(folder)
    waiting = play(opened, runner.open_model_of(opened, "clerk"))
    record = StoredRecord(opened.journal, waiting.run)
    by = approval.Approval(by=principal("lea"), role="role:lead")
    approval.grant_approval(record, waiting.waiting[0], by, roles_of=opened.policy.roles_of, now=time.time_ns())
    done = asyncio.run(runner.resume_run(opened, waiting.run, by=OPERATOR))
    assert done.finished is not None
    assert done.finished.outcome == "completed", done.finished
    links = opened.journal.chain(done.run).links
    opened.journal.close()
    return links


def play(opened: WorkspaceSession, model: Any) -> Any:
    """Play one run of that model to its end, or to where it waits."""
    request = runner.RunRequest(agent="clerk", task="keep it", subject="user:operator", by=OPERATOR, model=model)
    return asyncio.run(runner.start_run(opened, request))


# -- copies ---------------------------------------------------------------------------------------------------------------


class Part:
    """The beginning of the recorded run up to one of its events, and its rows in the projections."""

    def __init__(self, links: Sequence[ChainLink]) -> None:
        state = RunState()
        for stored in links:
            state = apply_event(state, stored.recorded())
        self.links = links
        self.rows: Sequence[Put] = tuple(run_rows(links[0].run, state).values())


class Copier:
    """Makes copies of one recorded run, each with an id, a time, a user and an agent of its own."""

    def __init__(self, links: Sequence[ChainLink], seed: int) -> None:
        self._chance = random.Random(seed)
        self._started = links[0].at
        self._with_times = {stored.seq for stored in links if UNIX_NS.search(stored.body or "")}
        waits = next(stored.seq for stored in links if stored.type == "approval.requested")
        pays = next(stored.seq for stored in links if stored.type == "attempt.begun" and stored.seq > waits)
        # After its approval the run pays: if it ended there, nobody would know whether it paid.
        lasts = {"finished": len(links) - 1, "waiting": waits, "in_doubt": pays}
        self._parts = {kind: Part(links[: last + 1]) for kind, last in lasts.items()}

    def copy(self, kind: str, at: int, into: Rows) -> str:
        """Add the rows of a copy that starts at `at` (Unix nanoseconds). Returns its id."""
        parts = (at - self._started) // PART_NS  # whole ones: outcomes that the run counts together stay together
        at = self._started + parts * PART_NS
        run = f"{at // 1_000_000:012x}{self._chance.getrandbits(80):020x}"
        names = {"user": f"user:u{self._chance.randrange(USERS)}", "agent": self._chance.choice(AGENTS)}
        part, shift, prev = self._parts[kind], at - self._started, ""
        for stored in part.links:
            made = self._moved(stored, run, shift, prev, names)
            prev = made.hash
            into["event"].append(made.header)
            into["payload"].append(payload_of(made))
        into["head"].append(_head(made))
        for put in part.rows:
            times = ("requested", "expires") if put.table is APPROVAL else ("started", "ended", "waits_until")
            moved: dict[str, Any] = {name: put.row[name] + shift if put.row[name] else 0 for name in times}
            if put.table is not APPROVAL:
                moved |= {**names, "recent": _later(put.row["recent"], parts)}
            into[put.table.name].append({**put.row, **moved, "run": run})
        return run

    def _moved(self, stored: ChainLink, run: str, shift: int, prev: str, names: Mapping[str, str]) -> ChainLink:
        """The event at its new place. `dataclasses.replace` would take twice the time, for each of a million events."""
        body, digest = stored.body or "", stored.payload_digest
        if stored.seq in self._with_times or stored.seq == 0:
            body = UNIX_NS.sub(lambda found: str(int(found[0]) + shift), body)
            if stored.seq == 0:
                body = body.replace('"user:operator"', f'"{names["user"]}"')
                body = body.replace('"agent:clerk"', f'"{names["agent"]}"')
            digest = payload_digest(stored.salt or "", body)
        made = ChainLink(
            run=run,
            seq=stored.seq,
            at=stored.at + shift,
            type=stored.type,
            key=stored.key,
            prev=prev,
            hash="",
            payload_digest=digest,
            salt=stored.salt,
            body=body,
        )
        object.__setattr__(made, "hash", made.sealed)
        return made


def _later(recent: str, parts: int) -> str:
    """The counted outcomes of a run, so many parts later."""
    lines = (line.partition(" ") for line in recent.split("\n") if line)
    return "\n".join(f"{int(part) + parts} {rest}" for part, _, rest in lines)


def write_history(location: str, links: Sequence[ChainLink], *, events: int, seed: int = 1) -> History:
    """Write about so many events into the journal at `location`, whose tables exist. It must not be in use."""
    copier = Copier(links, seed)
    now = time.time_ns()
    runs = max(1, events // len(links))
    kinds: dict[str, list[str]] = {"finished": [], "waiting": [], "in_doubt": []}
    written = 0

    def batches() -> Iterator[Rows]:
        nonlocal written
        numbers = iter(range(runs))
        while batch := list(islice(numbers, BATCH)):
            rows = _empty()
            for number in batch:
                at = now - int((runs - number) / runs * DAYS * 86_400 * NANO) - NANO
                kind = "waiting" if number % WAITING == 50 else "in_doubt" if number % IN_DOUBT == 25 else "finished"
                kinds[kind].append(copier.copy(kind, at, rows))
            written += len(rows["event"])
            yield rows

    write_rows(location, batches())
    return History(events=written, **{kind: tuple(ids) for kind, ids in kinds.items()})


def write_pruned(location: str, count: int) -> None:
    """Write what `remit trace prune` leaves of so many runs that it deleted."""
    now, prev, rows = time.time_ns(), "", _empty()
    for number in range(count):
        event = RunPruned(run=f"{number:032x}", head=f"86:sha256:{number:064x}", by=OPERATOR)
        made = link(WORKSPACE_RUN, number, now - count + number, prev, event, "00")
        prev = made.hash
        rows["event"].append(made.header)
        rows["payload"].append(payload_of(made))
    rows["head"].append(_head(made))
    write_rows(location, [rows])


def write_claims(location: str, scope: str, window_ns: int, count: int) -> None:
    """Write so many claims of one call each against one shared limit, spread over its window."""
    now, rows = time.time_ns(), _empty()
    starts = Counter(bucket_of(now - number * window_ns // count, window_ns) for number in range(count))
    rows["limit_bucket"] += [{"scope": scope, "start": at, "amount": amount} for at, amount in starts.items()]
    write_rows(location, [rows])


# -- the tables -----------------------------------------------------------------------------------------------------------


def _empty() -> Rows:
    return {table: [] for table in TABLES}


def _head(last: ChainLink) -> dict[str, Any]:
    return {"run": last.run, "seq": last.seq, "hash": last.hash, "holder": "", "beat": 0, "fence": 0, "audited": -1}


def write_rows(location: str, batches: Iterable[Rows]) -> None:
    """Write rows into the tables of the journal at `location`, in one transaction."""
    write: Callable[..., None] = _into_postgres if location.startswith("postgresql:") else _into_sqlite
    columns = {name: [column.name for column in table.columns] for name, table in TABLES.items()}
    write(location, batches, columns)


def _into_sqlite(path: str, batches: Iterable[Rows], columns: Mapping[str, Sequence[str]]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    # Without a write-ahead log, which would be written twice. A file that is incomplete after a failure is thrown away.
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000")
    connection.execute("BEGIN")
    for rows in batches:
        for table, found in rows.items():
            places = ", ".join(f":{name}" for name in columns[table])
            connection.executemany(f'INSERT INTO "{table}" VALUES ({places})', found)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _into_postgres(url: str, batches: Iterable[Rows], columns: Mapping[str, Sequence[str]]) -> None:
    from remit.journal.storage.postgres import PostgresDatabase

    database = PostgresDatabase(url, tenant="default")
    with database.connect() as connection:
        with connection.transaction():
            for rows in batches:
                for table, found in rows.items():
                    names = columns[table]
                    with connection.cursor().copy(f'COPY "{table}" FROM STDIN') as copy:
                        for row in found:
                            copy.write_row([row[name] for name in names])
        connection.execute("VACUUM ANALYZE")  # as autovacuum does it in time
    database.close()
