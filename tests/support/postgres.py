"""A real PostgreSQL, from Debian's package, for tests and benchmarks: one server for all processes of a test session.

The server listens on a free loopback port, runs as an unprivileged account, and keeps its data in a temporary folder. It ends
with the last process that uses it, also if that process is killed (`support/postgres_keeper.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support import postgres_keeper
from support.postgres_keeper import ADMIN, OWNER

END_S: Final = 30.0
CHOSEN: Final = "REMIT_TEST_POSTGRES"  # the server on which new workspaces have their journals


def programs() -> Path | None:
    """The folder of PostgreSQL's programs: `REMIT_POSTGRES`, or the newest version of Debian's packages. None without one."""
    if chosen := os.environ.get("REMIT_POSTGRES"):
        return Path(chosen) if Path(chosen, "initdb").exists() else None
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda path: int(path.parent.name), default=None)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. `pid` is its first process, `folder` is where its data is.

    Addresses have no password, as in remit.toml: `shared_server` puts it into PGPASSWORD.
    """

    port: int
    password: str
    pid: int
    folder: Path

    def url(self, database: str, *, user: str = OWNER) -> str:
        """The address of a database, for the ordinary role that owns it, or for `ADMIN`, who may do everything."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The address of a new database, which is dropped afterwards with its connections. A copy of `template` takes 50 ms."""
        name = f"t_{secrets.token_hex(8)}"
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            with self.admin() as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """The name of a database for `database(template)`. The first process that asks makes it: `fill` gets its address."""
        with self.admin() as admin:
            admin.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))  # released with the connection
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                admin.execute(f"CREATE DATABASE {name}_partial OWNER {OWNER} TEMPLATE template0")
                fill(self.url(f"{name}_partial"))
                admin.execute(f"ALTER DATABASE {name}_partial RENAME TO {name}")
        return name

    @contextmanager
    def admin(self, database: str = ADMIN) -> Iterator[Any]:
        """A connection of the superuser, each statement its own transaction."""
        import psycopg  # 60 ms, which only tests with a database pay

        with psycopg.connect(self.url(database, user=ADMIN), password=self.password, autocommit=True) as connection:
            yield connection


@contextmanager
def shared_server(folder: Path, *, fsync: bool = True) -> Iterator[Server]:
    """The server of all processes that name this folder: the first one starts it, and it ends with the last one.

    Its password is in PGPASSWORD meanwhile, which libpq reads. Without `fsync` it does not wait for the disk: for tests that do
    not look at durability. Raises RuntimeError if it does not start. A child that is forked meanwhile, and runs on, counts as a user.
    """
    kind = "fsync" if fsync else "nofsync"
    place = folder / f"postgres-{kind}.address"
    with place.open("a+") as used:
        with (folder / f"postgres-{kind}.starting").open("a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(used, fcntl.LOCK_SH)  # waits for a keeper that is ending its server
            if not place.read_text():
                _start(place, fsync)
            address = json.loads(place.read_text())
        before = os.environ.get("PGPASSWORD")
        os.environ["PGPASSWORD"] = address["password"]
        try:
            yield Server(**{**address, "folder": Path(address["folder"])})
        finally:
            os.environ.pop("PGPASSWORD", None)
            if before is not None:
                os.environ["PGPASSWORD"] = before
            fcntl.flock(used, fcntl.LOCK_UN)
            _wait_for_end(place)


def _start(place: Path, fsync: bool) -> None:
    found = programs()
    if found is None:
        raise RuntimeError("there is no PostgreSQL: apt-get install postgresql")
    # Without recycling, what was erased is in no file of the log after a checkpoint.
    settings = ["wal_recycle=off", *([] if fsync else ["fsync=off", "full_page_writes=off"])]
    given = json.dumps({"lock": str(place), "programs": str(found), "settings": settings})
    line = [sys.executable, "-I", postgres_keeper.__file__, given]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"PostgreSQL does not start: {done.stderr.strip()}")


def _wait_for_end(place: Path) -> None:
    """Return when the server has ended, or at once if other processes use it."""
    until = time.monotonic() + END_S
    while time.monotonic() < until:
        with place.open() as used:
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
                in_use = False
            except BlockingIOError:
                in_use = True
            # The keeper empties the file as soon as it has the lock, and releases the lock when nothing is left.
            if bool(place.read_text()) == in_use:
                return
        time.sleep(0.01)


def journal_setting() -> str:
    """The line of remit.toml that chooses the journal of a new workspace: a database of its own where `journals_in` is, or none."""
    address = os.environ.get(CHOSEN)
    if address is None:
        return ""
    import psycopg

    name = f"t_{secrets.token_hex(8)}"
    with psycopg.connect(f"postgresql://{ADMIN}@{address}/{ADMIN}", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0")  # type: ignore[arg-type]
    return f'journal = "postgresql://{OWNER}@{address}/{name}"\n'


@contextmanager
def journals_in(server: Server) -> Iterator[None]:
    """New workspaces of the ledger, of the incidents and of `make kills` have their journals on this server, also those of other processes."""
    os.environ[CHOSEN] = f"127.0.0.1:{server.port}"
    try:
        yield
    finally:
        del os.environ[CHOSEN]
