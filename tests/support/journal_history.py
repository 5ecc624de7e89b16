"""A journal with a long history, made in seconds: copies of two real runs, with other ids, times, users and agents.

The copies are valid: every chain of events verifies, and times inside of events are moved with their run. One run in a hundred
waits for approval, and one in a thousand has an effect in doubt. The rest is finished.
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from remit.broker.approvals import requests as approval
from remit.core.events import NANO, RunPruned
from remit.journal import WORKSPACE_RUN
from remit.journal.hash_chain import ChainLink, payload_digest
from remit.journal.hash_chain import link as linked
from remit.journal.run_log import Record
from remit.runtime import runner
from remit.workspace.session import WorkspaceSession, open_session
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

Rows: TypeAlias = Mapping[str, list[tuple[Any, ...]]]  # by table, in the order of COLUMNS

# Today's tables (`journal/store.py`), the only place of this file that knows them.
EVENT: Final = ("run", "seq", "at", "type", "key", "prev", "hash", "payload_digest")
SPEND: Final = ("scope", "run", "place", "at", "amount")
COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "event": EVENT,
    "payload": ("run", "seq", "salt", "body"),
    "head": ("run", "seq", "hash"),
}


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
    ledger_workspace(folder, [*looks, DONE], limits=limits)
    toml = folder / "remit.toml"
    toml.write_text(settings + toml.read_text())
    return folder


def record_template(folder: Path) -> tuple[ChainLink, ...]:
    """The events of a run in that workspace that waits for approval, gets it, and completes: 87 events."""
    opened = open_session(folder)
    waiting = play(opened, runner.open_model_of(opened, "clerk"))
    record = Record(opened.journal, waiting.run)
    by = approval.Approval(approver="user:lea", role="role:lead", account="t")
    approval.grant_approval(record, waiting.waiting[0], by, roles_of=opened.policy.roles_of, now=time.time_ns())
    done = asyncio.run(runner.resume_run(opened, waiting.run, account="t"))
    assert done.finished is not None
    assert done.finished.outcome == "completed", done.finished
    links = opened.journal.chain(done.run).links
    opened.journal.close()
    return links


def play(opened: WorkspaceSession, model: Any) -> Any:
    """Play one run of that model to its end, or to where it waits."""
    request = runner.RunRequest(agent="clerk", task="keep it", subject="user:operator", account="t", model=model)
    return asyncio.run(runner.start_run(opened, request))


# -- copies ---------------------------------------------------------------------------------------------------------------


class Copier:
    """Makes copies of one recorded run, each with an id, a time, a user and an agent of its own."""

    def __init__(self, links: Sequence[ChainLink], seed: int) -> None:
        self._links = links
        self._chance = random.Random(seed)
        self._with_times = {link.seq for link in links if UNIX_NS.search(link.body or "")}
        self.waits_at = next(link.seq for link in links if link.type == "approval.requested")
        self.doubtful_at = next(
            link.seq for link in links if link.type == "attempt.begun" and '"ledger.pay"' in (link.body or "")
        )

    def run_id(self, at: int) -> str:
        """An id that sorts by time: 48 bits of milliseconds and 80 random bits."""
        return f"{at // 1_000_000:012x}{self._chance.getrandbits(80):020x}"

    def copy(self, run: str, at: int, *, last: int | None = None) -> list[ChainLink]:
        """The events of a copy that starts at `at` (Unix nanoseconds), up to the event number `last`."""
        shift = at - self._links[0].at
        user, agent = f"user:u{self._chance.randrange(USERS)}", self._chance.choice(AGENTS)
        copied: list[ChainLink] = []
        prev = ""
        for link in self._links if last is None else self._links[: last + 1]:
            body, digest = link.body or "", link.payload_digest
            if link.seq in self._with_times or link.seq == 0:
                body = UNIX_NS.sub(lambda found: str(int(found[0]) + shift), body)
                if link.seq == 0:
                    body = body.replace('"user:operator"', f'"{user}"').replace('"agent:clerk"', f'"{agent}"')
                digest = payload_digest(link.salt or "", body)
            copied.append(_sealed(link, run, link.at + shift, prev, digest, body))
            prev = copied[-1].hash
        return copied


def _sealed(link: ChainLink, run: str, at: int, prev: str, digest: str, body: str) -> ChainLink:
    """The link in its new place. `dataclasses.replace` would take twice the time, for each of a million events."""
    made = ChainLink(
        run=run,
        seq=link.seq,
        at=at,
        type=link.type,
        key=link.key,
        prev=prev,
        hash="",
        payload_digest=digest,
        salt=link.salt,
        body=body,
    )
    object.__setattr__(made, "hash", made.sealed)
    return made


def write_history(location: str, links: Sequence[ChainLink], *, events: int, seed: int = 1) -> History:
    """Write about so many events into the journal at `location`, whose tables exist. It must not be in use."""
    copier = Copier(links, seed)
    now = time.time_ns()
    runs = max(1, events // len(links))
    kinds: dict[str, list[str]] = {"finished": [], "waiting": [], "in_doubt": []}
    written = 0

    def copies() -> Iterator[list[ChainLink]]:
        nonlocal written
        for number in range(runs):
            at = now - int((runs - number) / runs * DAYS * 86_400 * NANO) - NANO
            run = copier.run_id(at)
            kind = "waiting" if number % WAITING == 50 else "in_doubt" if number % IN_DOUBT == 500 else "finished"
            kinds[kind].append(run)
            last = {"waiting": copier.waits_at, "in_doubt": copier.doubtful_at}.get(kind)
            copied = copier.copy(run, at, last=last)
            written += len(copied)
            yield copied

    write_runs(location, copies())
    return History(events=written, **{kind: tuple(ids) for kind, ids in kinds.items()})


def write_pruned(location: str, count: int) -> None:
    """Write what `remit trace prune` leaves of so many runs that it deleted."""
    now = time.time_ns()
    links: list[ChainLink] = []
    for number in range(count):
        event = RunPruned(run=f"{number:032x}", head=f"86:sha256:{number:064x}", account="ops")
        prev = links[-1].hash if links else ""
        links.append(linked(WORKSPACE_RUN, number, now - count + number, prev, event, "00"))
    write_runs(location, iter([links]))


def write_claims(location: str, scope: str, count: int) -> None:
    """Write so many claims of one call each against one shared limit, spread over the last 20 hours."""
    now, run = time.time_ns(), "1" * 32
    apart = 20 * 3600 * NANO // count
    rows = [(scope, run, f"budget.spent/{number}/0", now - number * apart, 1) for number in range(count)]
    write_rows(location, [{"spend": rows}], {"spend": SPEND})


# -- the tables -----------------------------------------------------------------------------------------------------------


def rows_of(runs: Iterable[list[ChainLink]]) -> Rows:
    """The rows of some runs, for each table."""
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
    for links in runs:
        for link in links:
            rows["event"].append(tuple(getattr(link, name) for name in EVENT))
            rows["payload"].append((link.run, link.seq, link.salt, link.body))
        rows["head"].append((links[-1].run, links[-1].seq, links[-1].hash))
    return rows


def write_runs(location: str, runs: Iterator[list[ChainLink]]) -> None:
    """Write runs into the tables, in one transaction."""
    batches = (rows_of(batch) for batch in iter(lambda: list(islice(runs, BATCH)), []))
    write_rows(location, batches, COLUMNS)


def write_rows(location: str, batches: Iterable[Rows], columns: Mapping[str, Sequence[str]]) -> None:
    """Write rows into the tables of the journal at `location`, in one transaction."""
    write: Callable[..., None] = _into_postgres if location.startswith("postgresql:") else _into_sqlite
    write(location, batches, columns)


def _into_sqlite(path: str, batches: Iterable[Rows], columns: Mapping[str, Sequence[str]]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    # Without a write-ahead log, which would be written twice. A file that is incomplete after a failure is thrown away.
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000")
    connection.execute("BEGIN")
    for rows in batches:
        for table, found in rows.items():
            names = columns[table]
            places = ", ".join("?" * len(names))
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", found)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _into_postgres(url: str, batches: Iterable[Rows], columns: Mapping[str, Sequence[str]]) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        for rows in batches:
            for table, found in rows.items():
                line = f"COPY {table} ({', '.join(columns[table])}) FROM STDIN"
                with connection.cursor().copy(line) as copy:  # pyright: ignore[reportArgumentType]
                    for row in found:
                        copy.write_row(row)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")  # what autovacuum does in time
