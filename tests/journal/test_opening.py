"""Opening a journal: it is created once, accounts of one group share it, and what does not fit is one clear message."""

from __future__ import annotations

import grp
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa

from remit.core import RunEnded, UsageError
from remit.journal import Journal, list_runs, open_journal, opening
from remit.journal.opening import _check_schema
from remit.journal.storage.core_tables import SCHEMA, TABLES
from support.events import RUN, append, started
from support.journals import WAITING_FOR_LOCK, Script, query, script, until
from support.postgres import Server

NEWER: Final = f"{int(SCHEMA) + 1:04}"
FIRST, SECOND, OUTSIDER, GROUP = 61001, 61002, 61003, 61009  # accounts and a group that need no entry in /etc/passwd


def test_a_journal_is_created_once_and_found_again(place: Path | str) -> None:
    for _ in range(2):
        with open_journal(place) as journal:
            assert query(place, "SELECT version_num FROM remit_schema") == [(SCHEMA,)]
            append(journal, secrets.token_hex(16), started())
    with open_journal(place) as journal:
        assert len(list(list_runs(journal))) == 2


def test_processes_that_create_one_journal_at_once_all_get_it(tmp_path: Path, postgres: str) -> None:
    """The first command of a workspace may be several."""
    work = """
from remit.core.events import ModelFailed
from remit.journal import StoredRecord
StoredRecord(journal, sys.argv[2]).append(ModelFailed(step=0, message=""))
"""
    for place in (tmp_path / "traces" / "journal.db", postgres):
        processes = [script(work, place, f"{number:032x}") for number in range(3)]
        assert [process.end() for process in processes] == ["", "", ""]
        with open_journal(place) as journal:
            assert journal.read(sa.text("SELECT count(*) FROM head")) == [(3,)]
            assert query(place, "SELECT version_num FROM remit_schema") == [(SCHEMA,)]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            [f"UPDATE remit_schema SET version_num = '{NEWER}'"],
            f"version {NEWER}, .* reads {SCHEMA}: install a newer one",
        ),
        (["UPDATE remit_schema SET version_num = '0000'"], "written by an older version of Remit: move it away"),
        (["DROP TABLE remit_schema"], "written by an older version of Remit: move it away to begin a new one"),
    ],
    ids=["newer", "older", "before versions"],
)
def test_tables_of_another_version_are_not_touched(place: Path | str, statements: list[str], message: str) -> None:
    """The message names the journal and what to do."""
    with open_journal(place) as journal:
        append(journal, RUN, started())
        name = journal.name
    query(place, *statements)
    before = query(place, "SELECT * FROM event")
    with pytest.raises(UsageError, match=message) as refused:
        open_journal(place)
    assert name in str(refused.value)
    assert query(place, "SELECT * FROM event") == before


def test_a_journal_that_another_process_creates_meanwhile_is_not_taken_for_an_old_one(
    place: Path | str, journal: Journal
) -> None:
    """Its tables appear between two looks."""

    class Late:
        """A database whose tables appear after the first look."""

        def __init__(self) -> None:
            self.looks = 0

        def has_table(self, name: str) -> bool:
            self.looks += 1
            return self.looks > 1

        def __getattr__(self, name: str) -> Any:
            return getattr(journal.database, name)

    _check_schema(Late(), "journal")  # type: ignore[arg-type]
    assert query(place, "SELECT version_num FROM remit_schema") == [(SCHEMA,)]


@pytest.mark.parametrize("location", ["mysql://db/remit", "traces/journal.db", ""])
def test_a_location_that_is_no_postgresql_address_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match=r"is no journal: write a postgresql:// URL"):
        open_journal(location)


def test_without_psycopg_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'needs psycopg: pip install "remit\[postgres\]"'):
        open_journal("postgresql://127.0.0.1:1/x")


def test_a_database_that_does_not_answer_is_one_clear_error_without_the_password() -> None:
    with pytest.raises(RunEnded, match=r"the journal 127\.0\.0\.1/ledger cannot be opened: .*refused") as refused:
        open_journal("postgresql://ann:hunter2@127.0.0.1:1/ledger")
    assert refused.value.code == "unrecorded"
    assert "hunter2" not in str(refused.value)


def test_a_password_that_is_wrong_is_one_clear_error(postgres: str) -> None:
    with pytest.raises(RunEnded, match=r"cannot be opened: .*password authentication failed") as refused:
        open_journal(postgres.replace("@", ":hunter2@"))
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def tenant(postgres_server: Server) -> Iterator[str]:
    """The name of a tenant whose role does not exist yet."""
    name = f"t{secrets.token_hex(6)}"
    yield name
    with postgres_server.admin() as admin:
        admin.execute(f"DROP ROLE IF EXISTS remit_{name}")


@pytest.fixture
def ordinary(postgres_server: Server, postgres: str) -> Iterator[str]:
    """The address of the database for a login that may not create roles."""
    name = f"o{secrets.token_hex(6)}"
    with postgres_server.admin() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{postgres_server.password}'")
    yield postgres_server.url(postgres.rpartition("/")[2], user=name)
    with postgres_server.admin(postgres.rpartition("/")[2]) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,))
        admin.execute(f"DROP OWNED BY {name}")
        admin.execute(f"DROP ROLE {name}")


def drop(server: Server, url: str, tenant: str) -> None:
    """Remove a tenant from a database, so that its role can be dropped."""
    with server.admin(url.rpartition("/")[2]) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS remit_{tenant} CASCADE")


def test_a_login_that_may_not_create_the_role_gets_the_statements_that_create_it(
    postgres_server: Server, ordinary: str, tenant: str
) -> None:
    """They are what an administrator runs; then the login can open the journal."""
    with pytest.raises(UsageError, match=f"no role remit_{tenant}, and o[0-9a-f]+ may not create it") as refused:
        open_journal(ordinary, tenant=tenant)
    statements = str(refused.value).partition("run: ")[2]
    with postgres_server.admin(ordinary.rpartition("/")[2]) as admin:
        for statement in filter(None, map(str.strip, statements.split(";"))):
            admin.execute(statement)
    with open_journal(ordinary, tenant=tenant) as journal:
        append(journal, RUN, started())
    drop(postgres_server, ordinary, tenant)


def test_each_tenant_has_a_role_and_tables_that_another_tenant_cannot_read(
    postgres_server: Server, postgres: str, tenant: str
) -> None:
    """Also over a connection of the journal itself: it has given up the rights of its login."""
    with open_journal(postgres, tenant=tenant) as one, open_journal(postgres, tenant=f"{tenant}b") as two:
        append(one, RUN, started())
        assert list(list_runs(two)) == []
        with one.database.snapshot() as mine:  # type: ignore[attr-defined]
            assert mine.execute(sa.text("SELECT current_user")) == [(f"remit_{tenant}",)]
        with pytest.raises(RunEnded, match="permission denied for schema"):
            two.read(sa.text(f"SELECT * FROM remit_{tenant}.event"))
        owners = one.read(sa.text(f"SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'remit_{tenant}'"))
        assert owners == [(f"remit_{tenant}",)]
    for name in (tenant, f"{tenant}b"):
        drop(postgres_server, postgres, name)
    with postgres_server.admin() as admin:
        admin.execute(f"DROP ROLE remit_{tenant}b")


STATEMENTS = (
    "SELECT * FROM {}",
    "SELECT count(*) FROM {}",
    "INSERT INTO {} DEFAULT VALUES",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "ALTER TABLE {} RENAME TO taken",
    "DROP TABLE {}",
    "GRANT ALL ON {} TO PUBLIC",
    "COPY {} TO STDOUT",
    "LOCK TABLE {}",
)


def test_every_statement_of_one_tenant_on_a_table_of_another_is_refused_by_the_database(
    postgres_server: Server, postgres: str, tenant: str
) -> None:
    with open_journal(postgres, tenant=tenant) as one, open_journal(postgres, tenant=f"{tenant}b") as two:
        append(one, RUN, started())
        before = one.chain(RUN)
        for statement in STATEMENTS:
            for table in TABLES:
                for reader, owner in ((two, tenant), (one, f"{tenant}b")):
                    asked = statement.format(f'remit_{owner}."{table}"')
                    with pytest.raises(RunEnded, match="permission denied for schema"), reader.writing() as transaction:
                        transaction.execute(sa.text(asked))
        assert one.chain(RUN) == before
        assert one.read(sa.text("SELECT count(*) FROM event")) == [(1,)]  # its own, by the same names
    for name in (tenant, f"{tenant}b"):
        drop(postgres_server, postgres, name)
    with postgres_server.admin() as admin:
        admin.execute(f"DROP ROLE remit_{tenant}b")


def test_two_processes_that_create_the_role_of_a_tenant_at_once_both_open_the_journal(
    postgres_server: Server, postgres: str, tenant: str
) -> None:
    """Neither sees the role of the other before it is committed."""
    found: list[object] = []

    def open_it() -> None:
        try:
            with open_journal(postgres, tenant=tenant) as journal:
                found.append(journal.name)
        except BaseException as failure:  # noqa: BLE001 - the test looks at it
            found.append(failure)

    with psycopg.connect(postgres) as first, psycopg.connect(postgres, autocommit=True) as looking:
        first.execute(f"CREATE ROLE remit_{tenant} NOLOGIN")  # type: ignore[arg-type]
        first.execute(f"GRANT remit_{tenant} TO CURRENT_USER")  # type: ignore[arg-type]
        second = threading.Thread(target=open_it)
        second.start()
        until(lambda: looking.execute(WAITING_FOR_LOCK).fetchone())
        first.commit()
        second.join(60)
    assert found == [f"127.0.0.1/{postgres.rpartition('/')[2]}"]
    drop(postgres_server, postgres, tenant)


# -- a file that the accounts of a group share --

AS_ACCOUNT = """
import grp, os
from types import SimpleNamespace
import sqlalchemy as sa
from remit.core import RunEnded, UsageError
from remit.core.events import ModelFailed
from remit.journal import StoredRecord
account, member, group, name = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
os.setgroups([member] if member else [])
os.setresgid(account, account, account)
os.setresuid(account, account, account)
os.umask(0o077)
grp.getgrnam = lambda name: SimpleNamespace(gr_gid=group)
try:
    journal = open_journal(place, group=name)
except (RunEnded, UsageError) as refused:
    print("refused", refused)
    sys.exit()
for run in sys.argv[6:]:
    StoredRecord(journal, run).append(ModelFailed(step=0, message=""))
print(journal.read(sa.text("SELECT count(*) FROM head"))[0][0], flush=True)
sys.stdin.readline()
journal.close()
"""
ONLY_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two other accounts")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of a journal in a folder of the first account, which every account can reach."""
    base = Path(tempfile.mkdtemp(prefix="remit-shared-"))
    base.chmod(0o755)
    home = base / "home"
    home.mkdir()
    os.chown(home, FIRST, FIRST)
    yield home / "traces" / "journal.db"
    shutil.rmtree(base)


def as_account(place: Path, account: int, *runs: str, member: bool = True, group: str = "remit") -> Script:
    """A process of that account, in the group or not, which opens the journal, appends runs and waits for a line."""
    given = (str(account), str(GROUP if member else 0), str(GROUP), group, *runs)
    return Script(AS_ACCOUNT, place, given)


@ONLY_ROOT
def test_accounts_of_the_group_share_the_file_and_others_cannot_open_it(shared: Path) -> None:
    """At the same time and one after the other, whatever their umask."""
    first = as_account(shared, FIRST, "a" * 32)
    assert first.read() == "1"
    second = as_account(shared, SECOND, "b" * 32)
    assert second.read() == "2"
    outsider = as_account(shared, OUTSIDER, member=False)
    assert outsider.read().startswith("refused unrecorded: the journal journal.db cannot be opened: Permission denied")
    for file in shared.parent.iterdir():
        status = file.stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (GROUP, 0o660), file
    assert stat.S_IMODE(shared.parent.stat().st_mode) == 0o2770
    for process in (first, second):
        process.send()
    for process in (first, second, outsider):
        process.end()
    last = as_account(shared, FIRST)
    assert last.read() == "2"
    alone = as_account(shared, SECOND, "c" * 32)
    assert alone.read() == "3"
    for process in (last, alone):
        process.send()
        process.end()


@ONLY_ROOT
def test_a_journal_of_one_account_becomes_that_of_a_group_when_its_owner_opens_it(shared: Path) -> None:
    """Until then no other account can open it."""
    alone = as_account(shared, FIRST, group="")
    assert alone.read() == "0"
    alone.send()
    alone.end()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o600
    second = as_account(shared, SECOND)
    assert second.read().startswith("refused")
    for account, count in ((FIRST, "1"), (SECOND, "1")):
        process = as_account(shared, account, *(["a" * 32] if account == FIRST else []))
        assert process.read() == count
        process.send()
        process.end()
    second.end()


def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the group 'nosuchgroup' does not exist on this machine"):
        open_journal(tmp_path / "journal.db", group="nosuchgroup")
    assert not (tmp_path / "journal.db").exists()


def test_a_group_of_this_account_owns_the_file(tmp_path: Path) -> None:
    """The check above needs root; this one needs only a group of the account."""
    group = grp.getgrgid(os.getegid()).gr_name
    with open_journal(tmp_path / "traces" / "journal.db", group=group) as journal:
        append(journal, RUN, started())
        for file in (tmp_path / "traces").iterdir():
            assert (file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (os.getegid(), 0o660)
