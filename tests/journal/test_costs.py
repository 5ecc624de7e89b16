"""What the journal asks of a database: no query reads every row, and a commit is one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import psycopg
import pytest

from remit.journal import (
    Journal,
    LiveRecord,
    RunQuery,
    StoredRecord,
    ended_runs,
    find_run,
    lease,
    limits,
    list_runs,
    open_journal,
    run_list,
    store,
    used_bundles,
)
from remit.journal.storage import arm_counts, database, shared, used_tokens
from remit.journal.storage.database import Params, Sql, text_and_params
from remit.journal.watch import audit_cursor, figures, notes, queue
from support.events import RUN, a_whole_run, started, turn
from support.journals import ON_FILE, ON_POSTGRES, query
from support.slow_postgres import slow_postgres

ROWS: Final = 20_000
EVERY: Final = {
    "list_runs": RunQuery(),
    "list_runs of an agent": RunQuery(agent="agent:triage"),
    "list_runs of a user": RunQuery(user="user:ann"),
    "list_runs in a state": RunQuery(state="lost"),
    "list_runs since": RunQuery(since=1),
    "list_runs in doubt": RunQuery(in_doubt=True),
    "list_runs that failed": RunQuery(failed=True),
    "list_runs that were refused": RunQuery(denied=True),
    "list_runs of a tenant": RunQuery(tenant="default"),
}
LATER: Final = "0, '', 0, '', '', 0, '', '', '', '', 0, '', '', 0, '', 0, 0, 0"  # from `asked` to `priority`
IN_ORDER: Final = "SCAN run USING INDEX run_by_start"
# Statements that read all rows of a table, and why that is right.
SCANS: Final = {
    ("list_runs", IN_ORDER): "the newest first: it ends with the page",
    ("list_runs that failed", "SCAN run USING INDEX run_that_failed"): "the index holds only these runs",
    ("list_runs that were refused", "SCAN run USING INDEX run_with_refusal"): "the index holds only these runs",
    ("list_runs in a state", "SCAN run USING INDEX run_unfinished"): "the index holds only these runs",
    ("list_runs of a tenant", IN_ORDER): "a journal of one tenant: it ends with the page",
    ("list_runs in doubt", "SCAN run USING INDEX run_in_doubt"): "the index holds only these runs",
    ("used_bundles", "SCAN run"): "`remit trace prune` asks once which objects are still used",
    ("shared._HOLDS", "SCAN hold"): "every call reads all holds in force, of which there are few",
    ("shared._PUBLISHED", "SCAN published"): "one row, if any rules are published",
    ("shared._KEYS", "SCAN api_key"): "all keys that are not revoked, of which there are few",
    ("used_bundles", "SCAN rollout"): "`remit trace prune` asks once which objects are still used",
    ("run_list._ALERTS", "SCAN alert"): "all alerts in force, of which there are few",
    ("run_list._ALERTS_IN_FORCE", "SCAN alert USING COVERING INDEX sqlite_autoindex_alert_1"): "as above, counted",
    ("shared._OPEN", "SCAN rollout USING INDEX rollout_that_is_open"): "the index holds only these rollouts",
    ("shared._CIRCUITS", "SCAN circuit"): "a row for each tool that failed",
    ("figures._UNFINISHED", "SCAN run USING INDEX run_unfinished"): "the index holds only these runs",
    ("audit_cursor._COUNT", "SCAN head USING INDEX head_to_audit"): "the index holds only these chains",
}


def statements(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, Params]]:
    """Each statement of the list of runs, the store, leases and limits: its name, its text and parameters."""
    dialect = journal.database.dialect
    for module in (
        run_list,
        store,
        lease,
        limits,
        database,
        shared,
        arm_counts,
        used_tokens,
        figures,
        audit_cursor,
        notes,
        queue,
    ):
        for name, found in vars(module).items():
            for part in found if isinstance(found, tuple) else (found,):
                if isinstance(part, Sql) and not part.text(dialect).startswith("INSERT"):
                    yield f"{module.__name__.rpartition('.')[2]}.{name}", part.text(dialect), part.values({}, dialect)
    asked: list[tuple[Any, Params | None]] = []
    read = journal.database.read
    journal.holds()  # read again only after something of it has changed
    with monkeypatch.context() as patched:
        patched.setattr(journal.database, "read", lambda *given: (asked.append((*given, {})[:2]), read(*given))[1])
        acts: dict[str, Callable[[], object]] = {
            **{
                name: lambda given=given: list(islice(list_runs(journal, given, page=2), 4))
                for name, given in EVERY.items()
            },
            "used_bundles": lambda: used_bundles(journal),
        }
        for name, act in acts.items():
            asked.clear()
            act()
            assert asked
            for text, values in {
                text_and_params(*given, dialect)[0]: text_and_params(*given, dialect)[1] for given in asked
            }.items():
                yield name, text, values


class Any_(dict[str, Any]):
    """A value for each parameter that a statement has."""

    def __missing__(self, name: str) -> Any:
        return 5 if name in NUMBERS else RUN


NUMBERS: Final = {
    "after",
    "at",
    "before",
    "held",
    "beat",
    "last",
    "more",
    "most",
    "next",
    "now",
    "number",
    "of_share",
    "seq",
    "since",
    "to",
}


@ON_FILE
def test_no_query_reads_every_row_of_a_file(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plans do not depend on how many rows there are: no statistics are collected."""
    for number in range(6):
        record = StoredRecord(journal, f"{number:032x}")
        for event in a_whole_run():
            record.append(event)
    connection = cast("Any", journal.database)._writer
    found: set[tuple[str, str]] = set()
    seen = 0
    for name, text, values in statements(journal, monkeypatch):
        seen += 1
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", Any_(values))]
        found |= {(name, line) for line in plan if line.startswith("SCAN")}
        sorts = [line for line in plan if "TEMP B-TREE FOR ORDER BY" in line]
        assert not sorts or name == "run_list._IN_STATE", (name, plan)
    assert seen > 40
    assert found == SCANS.keys()


def fill(place: str) -> None:
    """Two thousand runs of ten events."""
    event = (
        "lpad(run::text, 32, '0'), seq, 1000000 + run * 10 + seq, 'model.failed', 'model.failed/' || seq, '', 'h', 'd'"
    )
    generated = "FROM generate_series(1, 2000) AS run, generate_series(0, 9) AS seq"
    columns = (
        "lpad(run::text, 32, '0'), 'default', 'user:' || run % 50, 'agent:triage', 1000000 + run * 10, 1000009 + run * 10,"
        " 'finished', 'completed', '', 'a task', 'digest ' || run % 100, 'm', 1, 'complete', 10, 0, run % 2, '', '', '', '', '',"
        f" {LATER}"
    )
    query(
        place,
        f"INSERT INTO event SELECT {event} {generated}",
        f"INSERT INTO payload SELECT lpad(run::text, 32, '0'), seq, 's', '{{}}' {generated}",
        "INSERT INTO head SELECT lpad(run::text, 32, '0'), 9, 'h', '', 0, 0, -1 FROM generate_series(1, 2000) AS run",
        f"INSERT INTO run SELECT {columns} FROM generate_series(1, 2000) AS run",
        "INSERT INTO approval SELECT lpad(run::text, 32, '0'), 5, 'emergency', run, run FROM generate_series(1, 20) AS run",
        "ANALYZE",
    )


@ON_POSTGRES
def test_no_query_reads_every_event_of_a_database(
    journal: Journal, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place)
    assert query(place, "SELECT count(*) FROM event") == [(ROWS,)]
    seen = 0
    with psycopg.connect(place, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET search_path TO remit_default")
        for name, text, values in statements(journal, monkeypatch):
            seen += 1
            plan = str(connection.execute(f"EXPLAIN {text}", Any_(values)).fetchall())  # type: ignore[arg-type]
            assert "Scan" in plan or "Result" in plan, (name, plan)
            for table in ("event", "payload", "head"):
                assert f"Seq Scan on {table}" not in plan, (name, plan)
            if name in ("list_runs", "list_runs of an agent", "list_runs of a user", "run_list._LAST_GOOD"):
                assert "Seq Scan" not in plan, (name, plan)
                assert "Sort Method" not in plan
    assert seen > 40


RARE: Final = {
    "of an agent": RunQuery(agent="agent:rare"),
    "of a user": RunQuery(user="user:rare"),
    "in a state": RunQuery(state="waiting"),
    "that failed": RunQuery(failed=True),
    "that were refused": RunQuery(denied=True),
    "in doubt": RunQuery(in_doubt=True),
    "since": RunQuery(since=5800),
}
LISTS: Final[dict[str, Callable[[Journal], Sequence[object]]]] = {
    **{name: lambda journal, given=given: list(list_runs(journal, given)) for name, given in RARE.items()},
    "that ended before": lambda journal: ended_runs(journal, 1000),
}


def fill_with_rare_runs(place: Path | str) -> None:
    """Six thousand runs. Every fiftieth one differs in one way from the others, in turn."""
    columns = (
        "'default', {user}, {agent}, n, CASE WHEN n % 300 = 100 THEN 0 WHEN n < 900 THEN n + 50 ELSE n + 5000 END, {state}, {outcome}, '', '', '', '', 0, '',"
        " 0, 0, {denied}, '', '', {doubt}, '', '', {later}"
    )
    ways = {
        "user": ("'user:rare'", "'user:ann'"),
        "agent": ("'agent:rare'", "'agent:triage'"),
        "state": ("'waiting'", "'finished'"),
        "outcome": ("'failed'", "'completed'"),
        "denied": ("1", "0"),
        "doubt": ("'0 0 0 pay'", "''"),
    }
    row = columns.format(
        later=LATER,
        **{
            name: f"CASE WHEN n % 300 = {at * 50} THEN {rare} ELSE {usual} END"
            for at, (name, (rare, usual)) in enumerate(ways.items())
        },
    )
    run = "printf('%032x', n)" if isinstance(place, Path) else "lpad(to_hex(n), 32, '0')"
    numbers = "WITH RECURSIVE m(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM m WHERE n < 6000)"
    query(place, f"INSERT INTO run {numbers} SELECT {run}, {row} FROM m", "ANALYZE")


@ON_FILE
def test_a_filter_reads_no_run_between_those_that_match_in_a_file(journal: Journal, place: Path) -> None:
    """A listed run costs at most twice the steps of SQLite's machine that it costs without a filter."""
    fill_with_rare_runs(place)
    query(place, "DROP TABLE IF EXISTS sqlite_stat1")
    each: dict[str, float] = {}
    every: dict[str, Callable[[Journal], Sequence[object]]] = {"": lambda journal: list(list_runs(journal))}
    for name, listing in (every | LISTS).items():
        steps, rows = _steps_and_rows(journal, listing)
        assert 15 <= rows <= 6000, (name, rows)
        each[name] = steps / rows
    assert {name: cost for name, cost in each.items() if cost > 2 * each[""]} == {}


@ON_POSTGRES
@pytest.mark.parametrize("name", LISTS)
def test_a_filter_reads_no_run_between_those_that_match_in_a_database(journal: Journal, place: str, name: str) -> None:
    """At most twice the rows that are listed, by EXPLAIN ANALYZE."""
    fill_with_rare_runs(place)
    asked: list[tuple[Any, ...]] = []
    read = journal.database.read
    cast("Any", journal.database).read = lambda *given: (asked.append((*given, {})[:2]), read(*given))[1]
    listed = len(LISTS[name](journal))
    assert listed >= 15
    scanned = 0
    with psycopg.connect(place, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET search_path TO remit_default")
        for given in asked:
            text, values = text_and_params(*given, "postgresql")
            ((plan,),) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", values).fetchall()  # type: ignore[arg-type]
            scanned += _scanned(plan[0]["Plan"])
    assert listed <= scanned <= 2 * listed


def _scanned(node: dict[str, Any]) -> int:
    """The rows that the leaves of a plan read, listed or not."""
    if not node.get("Plans"):
        removed = sum(int(node.get(f"Rows Removed by {kind}", 0)) for kind in ("Filter", "Index Recheck"))
        return (int(node["Actual Rows"]) + removed) * int(node["Actual Loops"])
    return sum(map(_scanned, node["Plans"]))


def test_a_later_page_costs_no_more_than_the_first(journal: Journal, place: Path | str) -> None:
    """It begins where the last one ended, in the index."""
    if isinstance(place, str):
        fill(place)
        page = _explained(journal, place)
        assert "Index Scan Backward using run_by_start" in page
        assert "Index Cond: (ROW(started, run) <" in page
        assert "Rows Removed by Filter" not in page
        assert "Sort" not in page
        return
    columns = (
        "printf('%032x', value), 'default', 'u', 'a', value / 3, 0, 'running', '', '', '', '', '', 0, '', 0, 0, 0, '', '', '', '', '', "
        + LATER
    )
    query(
        place,
        f"INSERT INTO run SELECT {columns} FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 3000) SELECT value FROM n)",
    )
    costs = _steps(journal)
    assert len(costs) == 61
    assert max(costs[1:-1]) < 1.5 * costs[0]


def _explained(journal: Journal, place: str) -> str:
    """How PostgreSQL finds a page in the middle: for the last one, any way is short."""
    asked: list[tuple[Any, ...]] = []
    read = journal.database.read
    cast("Any", journal.database).read = lambda *given: (asked.append((*given, {})[:2]), read(*given))[1]
    assert len(list(list_runs(journal, page=50))) == 2000
    text, values = text_and_params(*asked[len(asked) // 2], "postgresql")
    with psycopg.connect(place, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET search_path TO remit_default")
        return str(connection.execute(f"EXPLAIN (ANALYZE) {text}", values).fetchall())  # type: ignore[arg-type]


def _steps(journal: Journal) -> list[int]:
    """The steps of SQLite's machine for each page of fifty runs."""
    counts = [0]
    with _counted(journal, counts):
        for number, _ in enumerate(list_runs(journal, page=50), 1):
            if number % 50 == 0:
                counts.append(0)
    return counts


def _steps_and_rows(journal: Journal, listing: Callable[[Journal], Sequence[object]]) -> tuple[int, int]:
    """The steps of SQLite's machine for a list, and how many runs it has."""
    counts = [0]
    with _counted(journal, counts):
        rows = len(listing(journal))
    return counts[0], rows


@contextmanager
def _counted(journal: Journal, counts: list[int]) -> Iterator[None]:
    """Count the steps of SQLite's machine in the last of these numbers."""
    connection = cast("Any", journal.database)._reader

    def tick() -> int:
        counts[-1] += 1
        return 0

    connection.set_progress_handler(tick, 1)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


async def test_a_commit_of_a_driven_run_is_one_round_trip(
    postgres_journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events, bodies, the head of the chain with its lease and the row of the run are one statement, for one event or many."""
    monkeypatch.setattr(store, "BEAT_S", 3600.0)
    with slow_postgres(postgres_journal) as proxy, open_journal(proxy.url) as journal:
        async with journal.lease(RUN) as held:
            record = LiveRecord(journal, held)
            record.append(started())
            await record.commit()
            counted: dict[int, list[int]] = {1: [], 6: []}
            for round_ in range(5):
                for number, trips in counted.items():
                    events = [event for step in range(3) for event in turn(round_ * 100 + number * 10 + step)]
                    for event in events[:number]:
                        record.append(event)
                    proxy.reset()
                    await record.commit()
                    trips.append(proxy.round_trips)
            # The first ones prepare the statement; the listener asks now and then whether its connection is alive.
            assert {number: min(trips) for number, trips in counted.items()} == {1: 1, 6: 1}
            assert find_run(journal, RUN) is not None
        assert len(journal.events(RUN)) == 1 + 5 * 7
