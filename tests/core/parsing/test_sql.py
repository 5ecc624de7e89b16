"""The tables of a query are found before it runs, and they are those that SQLite reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core.errors import Refusal
from remit.core.parsing.names import tables_of

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy

TABLES = ("orders", "payments", "customers", "secret")


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for table in TABLES:
        connection.execute(
            f"CREATE TABLE {table} (id INTEGER, customer_id INTEGER, status TEXT, amount REAL, at TEXT, j TEXT)"
        )
    connection.execute("CREATE VIEW latest AS SELECT id FROM orders")
    yield connection
    connection.close()


def read_by_sqlite(connection: sqlite3.Connection, sql: str) -> set[str]:
    """The tables that the query reads, as SQLite itself reports them."""
    read: set[str] = set()

    def note(action: int, first: str | None, _second: str | None, _database: str | None, within: str | None) -> int:
        if action == sqlite3.SQLITE_READ and first and within != "latest":  # what a view reads is the view's own
            read.add(first.lower().replace("sqlite_master", "sqlite_schema"))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(note)
    try:
        connection.execute(sql).fetchall()
    finally:
        connection.set_authorizer(None)
    return read


def problem(sql: str) -> str:
    with pytest.raises(Refusal) as refused:
        tables_of(sql)
    assert refused.value.code == "invalid_arguments"
    return str(refused.value.details["problem"])


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", ()),
        ("select * from ORDERS;", ("orders",)),
        ('SELECT * FROM "Orders" o, main.payments', ("orders", "payments")),
        ("SELECT * FROM [orders] JOIN `payments` USING (id)", ("orders", "payments")),
        ("SELECT * FROM orders /* secret */ -- secret", ("orders",)),
        ("SELECT 'secret' FROM orders WHERE status = 'from secret'", ("orders",)),
        ("SELECT * FROM (SELECT id FROM orders) secret", ("orders",)),
        ("SELECT * FROM orders AS secret WHERE secret.id = 1", ("orders",)),
        ("SELECT id FROM orders UNION SELECT id FROM payments EXCEPT SELECT id FROM customers", ("customers", "orders", "payments")),
        ("SELECT (SELECT max(id) FROM payments), EXISTS (SELECT 1 FROM customers) FROM orders", ("customers", "orders", "payments")),
        ("SELECT id FROM orders WHERE customer_id IN (SELECT id FROM customers) ORDER BY (SELECT 1 FROM payments)", ("customers", "orders", "payments")),
        ("WITH o AS (SELECT * FROM orders), p AS (SELECT * FROM o) SELECT * FROM p", ("orders",)),
        ("WITH orders AS (SELECT * FROM main.orders) SELECT * FROM orders", ("orders",)),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n", ()),
        ("SELECT * FROM orders o LEFT JOIN (payments p JOIN customers c ON p.id = c.id) ON o.id = p.id", ("customers", "orders", "payments")),
        ("SELECT name, sql FROM sqlite_master", ("sqlite_schema",)),
        ("SELECT * FROM latest", ("latest",)),
        ("SELECT status, count(*) n, round(sum(amount), 2) FROM orders GROUP BY status HAVING n > 1 ORDER BY 2 DESC LIMIT 5 OFFSET 1", ("orders",)),
        ("SELECT strftime('%H', at) h, date(at), datetime('now', '-1 day') FROM orders WHERE at BETWEEN '2025' AND '2026'", ("orders",)),
        ("SELECT CASE WHEN amount > 1.5e2 THEN 'x' ELSE NULL END, CAST(id AS TEXT) || '-' || upper(status) FROM orders", ("orders",)),
        ("SELECT json_extract(j, '$.a'), j -> '$.b', j ->> 'c' FROM orders WHERE status LIKE 'f%' ESCAPE '!' OR status GLOB 'x*'", ("orders",)),
        ("SELECT row_number() OVER (PARTITION BY status ORDER BY at), lag(id) OVER w FROM orders WINDOW w AS (ORDER BY id)", ("orders",)),
        ("SELECT count(DISTINCT id) FILTER (WHERE amount > 0), group_concat(status, ', '), coalesce(status, '?') FROM orders", ("orders",)),
    ],
)  # fmt: skip
def test_a_query_reads_the_tables_that_it_names(
    database: sqlite3.Connection, sql: str, tables: tuple[str, ...]
) -> None:
    rendered, named = tables_of(sql)
    assert named == tables
    assert tables_of(rendered) == (rendered, named)
    assert read_by_sqlite(database, rendered) == set(tables)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", "statements"),
        ("SELECT 1; SELECT 2", "statements"),
        ("SELECT 1; DROP TABLE orders", "statements"),
        ("DROP TABLE orders", "not_a_query"),
        ("DELETE FROM orders", "not_a_query"),
        ("UPDATE orders SET id = 1", "not_a_query"),
        ("INSERT INTO orders SELECT * FROM secret", "not_a_query"),
        ("REPLACE INTO orders VALUES (1)", "not_a_query"),
        ("CREATE TABLE x AS SELECT * FROM secret", "not_a_query"),
        ("PRAGMA database_list", "not_a_query"),
        ("ATTACH '/etc/passwd' AS x", "not_a_query"),
        ("VACUUM INTO '/tmp/x'", "not_a_query"),
        ("EXPLAIN SELECT 1", "not_a_query"),
        ("VALUES (1)", "not_a_query"),
        ("SELECT * INTO x FROM secret", "not_a_query"),
        ("SELECT * FROM orders FOR UPDATE", "syntax"),
        ("SELECT load_extension('/tmp/x.so')", "function"),
        ('SELECT "load_extension"(\'/tmp/x.so\')', "function"),
        ("SELECT [load_extension] ('/tmp/x.so')", "function"),
        ("WITH load_extension(n) AS (SELECT 1) SELECT load_extension('x') FROM load_extension", "function"),
        ("SELECT readfile('/etc/passwd')", "function"),
        ("SELECT writefile('/tmp/x', 'y')", "function"),
        ("SELECT hex(randomblob(100000000))", "function"),
        ("SELECT random()", "function"),
        ("SELECT * FROM pragma_table_info('secret')", "table_function"),
        ("SELECT * FROM json_each('[1]')", "table_function"),
        ("SELECT * FROM orders, json_each(orders.j)", "table_function"),
        ("SELECT * FROM pragma_database_list", "not_a_table"),
        ("SELECT * FROM sqlite_dbpage", "not_a_table"),
        ("SELECT * FROM sqlite_sequence", "not_a_table"),
        ("SELECT * FROM temp.secret", "not_a_table"),
        ("SELECT * FROM other.secret", "not_a_table"),
        ('SELECT * FROM "order items"', "not_a_table"),
        ("SELECT id FROM orders WHERE id IN secret", "in_table"),
        ('SELECT id FROM orders WHERE id IN "secret"', "in_table"),
        ("SELECT id FROM orders WHERE id IN main.secret", "in_table"),
        ("WITH secret AS (SELECT * FROM secret) SELECT * FROM secret", "ambiguous"),
        ("SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) JOIN secret", "ambiguous"),
        ("WITH a AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM a", "ambiguous"),
        ("WITH a AS (SELECT 1), A AS (SELECT 2) SELECT * FROM a", "ambiguous"),
        ("SELECT * FROM orders WHERE id = ?", "unsupported"),
        ("SELECT * FROM orders WHERE id = :id", "unsupported"),
        ("SELECT * FROM orders INDEXED BY i", "table_function"),
        ("SELECT * FROM", "syntax"),
        ("SELECT (", "syntax"),
        ("SELECT 'a", "syntax"),
        ("SELECT 1\0", "text"),
        ("SELECT " + "1 + " * 6000 + "1", "text"),
    ],
)  # fmt: skip
def test_anything_but_one_plain_query_is_refused(sql: str, expected: str) -> None:
    assert problem(sql) == expected


def test_a_deeply_nested_query_is_refused_without_a_crash() -> None:
    deep = "SELECT " + "(" * 4000 + "1" + ")" * 4000
    with pytest.raises(Refusal):
        tables_of(deep)


NAMES = st.sampled_from([*TABLES, "Secret", '"secret"', "main.secret", "a", "b"])


def queries() -> st.SearchStrategy[str]:
    plain = st.builds("SELECT id FROM {}".format, NAMES)
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.builds("SELECT id FROM ({}) x".format, inner),
            st.builds("SELECT id FROM {} WHERE id IN ({})".format, NAMES, inner),
            st.builds("SELECT x.id FROM {} x JOIN ({}) y".format, NAMES, inner),
            st.builds("{} UNION {}".format, plain, plain),
            st.builds("SELECT id FROM (WITH {} AS ({}) SELECT id FROM {})".format, st.sampled_from(["a", "secret"]), inner, NAMES),
            st.builds("WITH a AS ({}), {} AS ({}) SELECT id FROM {}".format, inner, st.sampled_from(["b", "secret"]), inner, NAMES),
        ),
        max_leaves=4,
    )  # fmt: skip


@UNHURRIED
@given(queries())
def test_sqlite_never_reads_a_table_that_was_not_named(sql: str) -> None:
    try:
        rendered, named = tables_of(sql)
    except Refusal:
        return
    connection = sqlite3.connect(":memory:")
    try:
        for table in (*TABLES, "a", "b"):
            connection.execute(f"CREATE TABLE {table} (id INTEGER)")
        assert read_by_sqlite(connection, rendered) <= set(named)
    finally:
        connection.close()
