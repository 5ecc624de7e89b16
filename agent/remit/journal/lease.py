"""The lease of a run: which process may extend its chain.

A process that drives a run holds its lease, and writes the lease's fencing number with every append: a process that was
stopped for so long that another one took over cannot record any more, and so cannot have an effect. The holder says every
few seconds that it lives. A lease without such a sign for `EXPIRES_S` may be taken; a lease of a process of this machine that
has ended, at once. What a run does now follows from its lease too: `status_now`.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from remit.core import UsageError
from remit.core.events import NANO
from remit.journal.run_state import RecordedStatus, RunStatus
from remit.journal.storage.core_tables import HEAD
from remit.journal.storage.database import Database, Sql, insert_or

RUN_LOCKED: Final = "another process executes run {}; that process applies approvals and rejections itself"
# A run of a machine that has failed is resumed within 5 s: workers look every second. A holder that lives is late only if it was
# stopped, or cut off, for four beats; then it is refused, and the run goes on elsewhere.
BEAT_S: Final = 1.0  # how often a holder says that it lives
EXPIRES_S: Final = 4.0  # after so long without a sign another process may take over
FRESH_S: Final = EXPIRES_S / 2  # a sign that is older proves nothing: the clocks of two machines may differ by the rest
LOST: Final = "lost"  # the holder of a lease whose process could not record the run any more

_of: sa.BindParameter[str] = sa.bindparam("of")
_held: sa.BindParameter[int] = sa.bindparam("held")
_now: sa.BindParameter[int] = sa.bindparam("now")
_LEASE: Final = Sql(sa.select(HEAD.c.holder, HEAD.c.beat, HEAD.c.fence).where(HEAD.c.run == _of))
_TAKE: Final = Sql(
    HEAD.update()
    .where(HEAD.c.run == _of, HEAD.c.fence == _held)
    .values(holder=sa.bindparam("new_holder"), beat=_now, fence=sa.bindparam("next"))
)
_BEGIN: Final = Sql(lambda dialect: insert_or(HEAD, dialect).on_conflict_do_nothing())
_BEAT: Final = Sql(HEAD.update().where(HEAD.c.run == _of, HEAD.c.fence == _held).values(beat=_now))
_RELEASE: Final = Sql(
    HEAD.update().where(HEAD.c.run == _of, HEAD.c.fence == _held).values(holder=sa.bindparam("left"), beat=0)
)
_FORGET: Final = Sql(HEAD.delete().where(HEAD.c.run == _of, HEAD.c.fence == _held, HEAD.c.seq == -1))


class RunDriven(UsageError):
    """Another process has the lease of the run."""

    def __init__(self, run: str) -> None:
        super().__init__(RUN_LOCKED.format(run))


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to extend the chain of one run, until it is released or lost.

    `fence` is its fencing number; `before` names the holder that had ended without releasing it, "" if there was none.
    """

    run: str
    fence: int
    before: str = field(default="", compare=False)


def take_lease(database: Database, run: str, now: int) -> Lease:
    """Take the lease of the run; `now` is in Unix nanoseconds. Raises RunDriven while another holder lives."""
    holder = f"{this_process()} {secrets.token_hex(4)}"
    with database.transaction(durable=False) as transaction:
        # The first number is a time: the row of a run that never began is removed, and a later row must not repeat its numbers.
        row = {"run": run, "seq": -1, "hash": "", "holder": holder, "beat": now, "fence": now, "audited": -1}
        if transaction.changed(_BEGIN, row):
            return Lease(run=run, fence=now)
        ((earlier, beat, fence),) = transaction.execute(_LEASE, {"of": run})
        if is_alive(earlier, beat, now):
            raise RunDriven(run)
        # A time again: a database that is put back to an earlier state must not give a number that a process still holds.
        following = max(fence + 1, now)
        if not transaction.changed(
            _TAKE, {"of": run, "held": fence, "next": following, "new_holder": holder, "now": now}
        ):
            raise RunDriven(run)  # another process took it in between
        return Lease(run=run, fence=following, before=earlier)


def keep_leases(database: Database, leases: Sequence[Lease], now: int) -> None:
    """Say that the holder of these leases lives. Nothing happens to those that were lost."""
    with database.transaction(durable=False) as transaction:
        transaction.many(_BEAT, [{"of": lease.run, "held": lease.fence, "now": now} for lease in leases])


def renew_lease(database: Database, lease: Lease, now: int) -> bool:
    """Say that the holder of the lease lives; False if another process has taken it over."""
    with database.transaction(durable=False) as transaction:
        return transaction.changed(_BEAT, {"of": lease.run, "held": lease.fence, "now": now}) > 0


def release_lease(database: Database, lease: Lease, *, left: str = "") -> None:
    """Give the lease back. `left` names the holder with which the run is lost; "": it is not. Nothing happens if the lease was lost."""
    with database.transaction(durable=False) as transaction:
        transaction.execute(_FORGET, {"of": lease.run, "held": lease.fence})
        transaction.execute(_RELEASE, {"of": lease.run, "held": lease.fence, "left": left})


def is_leased(database: Database, run: str, now: int) -> bool:
    """True if a process that lives drives the run."""
    found = database.read(_LEASE, {"of": run})
    return bool(found) and is_alive(found[0][0], found[0][1], now)


def is_alive(holder: str, beat: int, now: int) -> bool:
    """True if the process that this text names may still drive the run."""
    if not holder:
        return False
    machine, _, process = holder.split(" ")[0].partition("/")
    # A process of this machine and of this PID namespace is looked up, so that a crash never leaves a run locked.
    if machine == _machine() and not _lives(process):
        return False
    return now - beat < EXPIRES_S * NANO


def status_now(
    recorded: RecordedStatus, until: int, lease: tuple[str, int], now: int, *, held: bool, graph: bool
) -> RunStatus:
    """What a run does now.

    `recorded` is its status by its events, `until` when a waiting run goes on without an answer (0: never). `lease` is the holder of
    its lease and when that last said that it lives. `held` is True for a run on hold, `graph` for one of an external graph.
    Times are Unix nanoseconds.
    """
    if recorded == "finished":
        return recorded
    alive = is_alive(*lease, now)
    if not alive and recorded == "running" and lease[0]:
        return "lost"
    if not alive and held:
        return "waiting: hold"
    if recorded.startswith("waiting") and (alive or not until or now < until):
        return recorded
    if alive:
        return "running"
    return "waiting: graph" if graph and recorded == "running" else "ready"


def holder_text(holder: str) -> str:
    """The process that a lease names, as a person finds it: `process 412 on host web-3`; "" without one."""
    machine, _, process = holder.split(" ")[0].partition("/")
    return f"process {process.partition('.')[0]} on host {machine.partition(':')[0]}" if process else ""


def this_process() -> str:
    """The name of this process: machine, PID namespace, and its number with its start time, because numbers are used again."""
    return f"{_machine()}/{os.getpid()}.{_start_of(os.getpid())}"


@cache
def _machine() -> str:
    """This machine since its last start, and this PID namespace: only there the number of a process means the same.

    Without Linux, this process alone: a run of a process that has ended is free after `EXPIRES_S`, as if it ran elsewhere.
    """
    host = socket.gethostname().replace(" ", "_").replace("/", "_")
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host}:{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except FileNotFoundError:
        return f"{host}:{secrets.token_hex(8)}"


def _lives(process: str) -> bool:
    number, _, start = process.partition(".")
    return number.isdecimal() and _start_of(int(number)) == start


def _start_of(number: int) -> str:
    """When a process started, in ticks since the start of the machine; "" if it does not exist or has ended."""
    try:
        after_name = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] in "ZX" else after_name[19]
