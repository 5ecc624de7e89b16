"""The PostgreSQL server of the tests: shared, unprivileged, and gone afterwards; and the proxy that counts round trips."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import TESTS
from support.browser import lacking
from support.postgres import Server, programs, shared_server
from support.slow_postgres import Proxy, slow_postgres

WAIT_S = 60.0
CONFTEST = 'pytest_plugins = ["support.postgres_fixtures"]\n'
USES_IT = """
import os, time
import pytest

@pytest.mark.parametrize("number", range(4))
def test_passes(postgres_server, postgres, number):
    with open("address", "a") as file:
        file.write(f"{postgres_server.pid} {postgres_server.folder} {os.getpid()}\\n")
    time.sleep(0.2)

def test_fails(postgres):
    assert False

def test_stays(postgres):
    time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with three tests that use the server."""
    if programs() is None:
        lacking("PostgreSQL", "apt-get install postgresql")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(USES_IT)
    return tmp_path


def pytest_in(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A test session of its own in that folder."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    given["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take seconds to import
    given |= {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]), **environment}
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        f"--basetemp={project / 'temp'}",
        *arguments,
    ]
    return subprocess.Popen(
        line,
        cwd=project,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(true: Callable[[], Any]) -> None:
    """Wait until it is true. Fails after a minute."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)


def servers(project: Path) -> set[tuple[str, str]]:
    """The first process and the folder of each server that tests used."""
    path = project / "address"
    return {tuple(line.split()[:2]) for line in path.read_text().splitlines()} if path.exists() else set()


def left(project: Path) -> list[str]:
    """What is left of these servers."""
    paths = [path for pid, folder in servers(project) for path in (Path("/proc", pid), Path(folder))]
    return [str(path) for path in paths if path.exists()]


def test_the_workers_of_a_session_share_one_server_and_nothing_of_it_is_left_if_a_test_fails(project: Path) -> None:
    session = pytest_in(project, "-p", "xdist", "-n", "2", "-k", "passes or fails")
    out, _ = session.communicate(timeout=WAIT_S)
    assert "1 failed, 4 passed" in out
    assert len(servers(project)) == 1
    assert len({line.split()[2] for line in (project / "address").read_text().splitlines()}) == 2
    assert left(project) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_nothing_of_the_server_is_left_after_a_session_that_is_stopped(project: Path, number: signal.Signals) -> None:
    session = pytest_in(project, "-k", "passes or stays")
    until(lambda: servers(project))
    os.killpg(session.pid, number)  # the whole group, as a terminal does
    session.communicate(timeout=WAIT_S)
    until(lambda: not left(project))


def test_without_postgresql_a_test_is_skipped_and_fails_in_ci(project: Path) -> None:
    for environment, expected in (({}, "4 skipped"), ({"CI": "true"}, "4 errors")):
        session = pytest_in(project, "-k", "passes", REMIT_POSTGRES="/nonexistent", **environment)
        out, _ = session.communicate(timeout=WAIT_S)
        assert expected in out
        assert "no PostgreSQL: apt-get install postgresql" in out


def test_all_processes_of_a_session_share_one_server(project: Path, postgres_server: Server) -> None:
    """The first that leaves does not end it for the others."""
    with shared_server(project, fsync=False) as own:
        line = """
import sys
from pathlib import Path
from support.postgres import shared_server
with shared_server(Path(sys.argv[1]), fsync=False) as server:
    print(server.pid)
"""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [sys.executable, "-c", line, str(project)], env=environment, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == own.pid
        assert own.pid != postgres_server.pid
        with own.database() as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not Path("/proc", str(own.pid)).exists()


def test_the_server_is_unprivileged_listens_on_loopback_only_and_waits_for_the_disk_unless_fsync_is_off(
    project: Path, postgres_server: Server
) -> None:
    owner = Path("/proc", str(postgres_server.pid)).stat().st_uid
    assert owner != 0
    assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody", pwd.getpwuid(os.geteuid()).pw_name)
    with postgres_server.admin() as admin:
        assert admin.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert admin.execute("SHOW unix_socket_directories").fetchone() == ("",)
        assert admin.execute("SHOW fsync").fetchone() == ("off",)
    with shared_server(project) as durable, durable.admin() as admin:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert admin.execute(f"SHOW {setting}").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url("postgres"), password="wrong")


def test_each_test_has_an_empty_database_of_its_own_that_an_ordinary_role_owns(
    postgres_server: Server, postgres: str
) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE t (a int)")
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        assert superuser == (False,)
    with postgres_server.database() as other, psycopg.connect(other) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
        name = connection.info.dbname
    with postgres_server.admin() as admin:
        assert admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None


def test_a_template_is_filled_once_and_copied_from_then_on(postgres_server: Server) -> None:
    filled: list[str] = []

    def fill(url: str) -> None:
        filled.append(url)
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 7 AS a")

    for _ in range(2):
        with (
            postgres_server.database(postgres_server.template("of_a_test", fill)) as url,
            psycopg.connect(url) as connection,
        ):
            assert connection.execute("SELECT a FROM t").fetchone() == (7,)
    assert len(filled) == 1


@pytest.fixture
def proxy(postgres: str) -> Iterator[Proxy]:
    with slow_postgres(postgres) as running:
        yield running


def test_the_proxy_counts_what_the_client_waits_for(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        assert proxy.round_trips == 0  # the log-in does not count
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (%s)", (1,))
        assert proxy.round_trips == 2
        proxy.reset()
        with connection.pipeline():
            for number in range(20):
                connection.execute("INSERT INTO t VALUES (%s)", (number,))
        assert proxy.round_trips == 1  # nothing of it waited for an answer
        proxy.reset()
        connection.execute("SELECT repeat('x', 1000000)").fetchone()
        connection.execute("INSERT INTO t SELECT length(%s)", ("y" * 1_000_000,))
        assert proxy.round_trips == 2  # also if a message or an answer comes in parts
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        assert proxy.round_trips == 3


def test_the_proxy_adds_the_time_to_each_round_trip(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        connection.execute("SELECT 1")
        took = {}
        for milliseconds in (0.0, 20.0):
            proxy.add(milliseconds)
            waited = []
            for _ in range(10):
                started = time.perf_counter()
                connection.execute("SELECT 1")
                waited.append((time.perf_counter() - started) * 1e3)
            took[milliseconds] = min(waited)  # other work on the machine only adds to it
    assert 19 <= took[20.0] - took[0.0] <= 23


def test_the_proxy_ends_with_the_process_that_started_it(postgres: str, tmp_path: Path) -> None:
    line = f"""
import os, signal
from support.slow_postgres import slow_postgres
with slow_postgres({postgres!r}) as proxy:
    print(proxy.url, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL

    def refused() -> bool:
        try:
            psycopg.connect(done.stdout.strip(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return True
        return False

    until(refused)
