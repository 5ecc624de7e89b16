"""What the runs of a rollout say: how many users each arm has had, and how many of them have broken each bar.

It is counted in the transaction of the event with which a run ends. So no run reads the other ones again, a process that is killed
loses no observation, and each process that looks finds the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from remit.core.events import NANO, ArmName, Bar, BarName, Outcome, RolloutOpened
from remit.journal.storage.core_tables import ARM_COUNT, HAS_ARM, HAS_ENDED, ROLLOUT, RUN
from remit.journal.storage.database import Batch, Put, Row, Sql, Transaction

# A candidate that refuses more makes its runs shorter and cheaper, so time and money of completed runs only are compared.
OF_COMPLETED: Final[Mapping[BarName, str]] = {"slow": "time", "costly": "cost"}

CountPlace: TypeAlias = tuple[BarName, ArmName, float]  # a bar, and the arm and the share of a run
ArmCounts: TypeAlias = Mapping[CountPlace, tuple[int, int]]  # how many users were seen, and how many broke the bar

_COLUMNS: Final = (
    *(
        "ended",
        "run",
        "user",
        "arm",
        "share",
        "started",
        "outcome",
        "denied",
        "asked",
        "in_doubt",
        "violations",
        "cost",
    ),
)
_of: sa.BindParameter[str] = sa.bindparam("of")
_ENDED: Final = sa.select(*(RUN.c[name] for name in _COLUMNS)).where(HAS_ARM, RUN.c.rollout == _of, HAS_ENDED)
_OF_USER: Final = Sql(_ENDED.where(RUN.c.user == sa.bindparam("who")))
_ALL: Final = Sql(_ENDED)
_OF_RUN: Final = Sql(_ENDED.where(RUN.c.run == sa.bindparam("who")))
_OPENED: Final = Sql(sa.select(ROLLOUT.c.opened).where(ROLLOUT.c.rollout == _of))
_ARM_OF: Final = Sql(sa.select(RUN.c.rollout, RUN.c.user).where(RUN.c.run == _of))
_PLACE = (
    ARM_COUNT.c.rollout == _of,
    *(ARM_COUNT.c[name] == sa.bindparam(f"of_{name}") for name in ("bar", "arm", "share")),
)
_ADD: Final = Sql(
    ARM_COUNT.update()
    .where(*_PLACE)
    .values(seen=ARM_COUNT.c.seen + sa.bindparam("more"), broke=ARM_COUNT.c.broke + sa.bindparam("most"))
)
_NEW: Final = Sql(ARM_COUNT.insert())
_FORGET: Final = Sql(ARM_COUNT.delete().where(*_PLACE, ARM_COUNT.c.seen == 0, ARM_COUNT.c.broke == 0))
_FORGET_ALL: Final = Sql(ARM_COUNT.delete().where(ARM_COUNT.c.rollout == _of))
COUNTS: Final = Sql(sa.select(*(ARM_COUNT.c[name] for name in ("bar", "arm", "share", "seen", "broke"))).where(ARM_COUNT.c.rollout == _of))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRun:
    """A run of a rollout that has ended, as its bars need it. `seconds` is from its start to its end; `cost` None: not known."""

    run: str
    user: str
    arm: ArmName
    share: float
    seconds: float
    outcome: Outcome
    refused: bool
    asked: bool
    in_doubt: bool
    violated: bool
    cost: float | None


def breaks(run: ArmRun, bar: Bar) -> bool:
    """True if this run counts against its arm."""
    match bar.name:
        case "refused":
            return run.refused
        case "failed":
            return run.outcome != "completed"
        case "asked":
            return run.asked
        case "in_doubt":
            return run.in_doubt
        case "violation":
            return run.violated
        case "slow":
            return bar.above is not None and run.seconds > bar.above
        case "costly":
            return bar.above is not None and run.cost is not None and run.cost > bar.above


def count_arms(opened: RolloutOpened, runs: Sequence[ArmRun]) -> ArmCounts:
    """What these runs say, in the order in which they ended. The counts of all users are the sums of those of each.

    INVARIANT: a user counts once for each bar, at their first run that breaks it. All runs of a user have the same arm, so ten
    failures of one user are one observation: counted as ten, a single user with many failures would end one rollout in ten.
    """
    found: dict[CountPlace, tuple[int, int]] = {}
    for bar in opened.bars:
        seen: set[tuple[str, ArmName]] = set()
        broke: set[str] = set()
        for run in runs:
            if bar.name in OF_COMPLETED and run.outcome != "completed":
                continue
            who = _who(opened, run)
            place: CountPlace = bar.name, run.arm, run.share
            is_new, has_broken = (who, run.arm) not in seen, who not in broke and breaks(run, bar)
            seen.add((who, run.arm))
            broke.update((who,) if has_broken else ())
            before = found.get(place, (0, 0))
            if is_new or has_broken:
                found[place] = before[0] + is_new, before[1] + has_broken
    return found


def _who(opened: RolloutOpened, run: ArmRun) -> str:
    return run.user if opened.unit == "user" else run.run


@contextmanager
def counting(transaction: Transaction, run: str, arm: tuple[str, str]) -> Generator[None]:
    """Count again what the run says, once the block has changed its row. `arm` are its rollout, "" without one, and its user."""
    rollout, user = arm
    if (opened := _opened(transaction, rollout)) is None:
        yield
        return
    theirs = (_OF_USER, user) if opened.unit == "user" else (_OF_RUN, run)
    before = count_arms(opened, _read(transaction, rollout, *theirs))
    yield
    after = count_arms(opened, _read(transaction, rollout, *theirs))
    for place in sorted({*before, *after}):
        (seen, broke), (seen_before, broke_before) = after.get(place, (0, 0)), before.get(place, (0, 0))
        _add(transaction, rollout, place, seen - seen_before, broke - broke_before)


def recount(transaction: Transaction, rollout: str) -> None:
    """Count all runs of the rollout again: a row of one of them was not what its events say."""
    if (opened := _opened(transaction, rollout)) is None:
        return
    counts = count_arms(opened, _read(transaction, rollout, _ALL, ""))
    transaction.execute(_FORGET_ALL, {"of": rollout})
    for place, numbers in counts.items():
        transaction.execute(_NEW, count_row(rollout, place, numbers))


def arm_of(transaction: Transaction, run: str) -> tuple[str, str]:
    """The rollout of the run, "" without one, and its user."""
    rows = transaction.execute(_ARM_OF, {"of": run})
    return (rows[0][0], rows[0][1]) if rows else ("", "")


def _opened(transaction: Transaction, rollout: str) -> RolloutOpened | None:
    """How the rollout was opened, with the lock of its counts: two runs of one user that end at once must not both count as the first."""
    rows = transaction.execute(_OPENED, {"of": rollout}) if rollout else []
    if not rows:
        return None
    transaction.lock(f"arm/{rollout}")
    return RolloutOpened.model_validate_json(rows[0][0])


def _read(transaction: Transaction, rollout: str, statement: Sql, who: str) -> list[ArmRun]:
    rows = transaction.execute(statement, {"of": rollout, "who": who} if who else {"of": rollout})
    return arm_runs(dict(zip(_COLUMNS, row, strict=True)) for row in rows)


def _add(transaction: Transaction, rollout: str, place: CountPlace, seen: int, broke: int) -> None:
    if not seen and not broke:
        return
    bar, arm, share = place
    at = {"of": rollout, "of_bar": bar, "of_arm": arm, "of_share": share}
    if not transaction.changed(_ADD, {**at, "more": seen, "most": broke}):
        transaction.execute(_NEW, count_row(rollout, place, (seen, broke)))
    elif min(seen, broke) < 0:
        transaction.execute(_FORGET, at)


def arm_runs(rows: Iterable[Mapping[str, Any]]) -> list[ArmRun]:
    """The runs of rows of `run` that have ended, in the order in which they did."""
    return [
        ArmRun(
            run=row["run"],
            user=row["user"],
            arm=row["arm"],
            share=row["share"],
            seconds=(row["ended"] - row["started"]) / NANO,
            outcome=row["outcome"],
            refused=row["denied"] > 0,
            asked=row["asked"] > 0,
            in_doubt=row["in_doubt"] != "",
            violated=row["violations"] > 0,
            cost=float(row["cost"]) if row["cost"] else None,
        )
        for row in sorted(rows, key=lambda row: (row["ended"], row["run"]))
    ]


def counts_of(rows: Iterable[Row]) -> ArmCounts:
    """The counts in rows of the statement `COUNTS`."""
    return {(bar, arm, share): (seen, broke) for bar, arm, share, seen, broke in rows}


def count_row(rollout: str, place: CountPlace, numbers: tuple[int, int]) -> dict[str, Any]:
    """The row of these counts."""
    bar, arm, share = place
    return {"rollout": rollout, "bar": bar, "arm": arm, "share": share, "seen": numbers[0], "broke": numbers[1]}


def ended_arm(batch: Batch) -> tuple[str, str] | None:
    """The rollout and the user of the run, if it has an arm and has ended with this batch or before."""
    rows = (change.row for change in batch.changes if isinstance(change, Put) and change.table is RUN)
    return next(((row["rollout"], row["user"]) for row in rows if row["rollout"] and row["ended"]), None)
