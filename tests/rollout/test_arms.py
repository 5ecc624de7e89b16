"""Which users have the candidate: the same in every process, and a larger share only adds some."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core import Subjects
from remit.core.events import ArmName, Bar, BarName, RunArm, RunFinished, Stage
from remit.journal import RolloutState, StoredRecord, arm_counts, check_projections, delete_run, open_journal
from remit.journal.storage.arm_counts import COUNTS
from remit.journal.storage.database import Row
from remit.journal.storage.sqlite import SqliteTransaction
from remit.rollout import arm_of, check_bars, open_rollout, place_of
from support.events import started
from support.rollouts import rollout_opened

ARMS: Final[tuple[ArmName, ArmName]] = ("live", "candidate")
SALT = "0123456789abcdef"
USERS = [f"user:u{number}" for number in range(2000)]


def rollout(share: float, **changes: Any) -> RolloutState:
    opened = rollout_opened(**{"stages": (Stage(name="canary", share=share),), **changes})
    return RolloutState(id="3f2a91c0", opened=opened, opened_at=0)


def candidates(share: float, **changes: Any) -> set[str]:
    state = rollout(share, **changes)
    arms = {user: arm_of(state, user=user, run=user) for user in USERS}
    return {user for user, arm in arms.items() if arm is not None and arm.arm == "candidate"}


def test_a_user_has_the_arm_that_the_first_eight_bytes_of_a_sha_256_say() -> None:
    """Written down, so that a later version of Remit, or another program, finds the same."""
    places = [place_of("3f2a91c0", SALT, user) for user in ("user:ann", "user:bob", "user:ünal")]
    assert places == pytest.approx([0.47130695255689203, 0.7890203969500861, 0.3543908044074342], abs=0)


def test_every_process_puts_every_user_into_the_same_arm() -> None:
    """Also one with another seed of Python's own hashes."""
    program = (
        "import sys\n"
        "from remit.rollout import place_of\n"
        f"for user in sys.stdin.read().split():\n    print(place_of('3f2a91c0', '{SALT}', user) < 0.1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(USERS),
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    has_it = [user for user, own in zip(USERS, done.stdout.split(), strict=True) if own == "True"]
    assert has_it == [user for user in USERS if user in candidates(0.1)]


def test_a_larger_share_keeps_every_user_who_has_the_candidate_and_adds_others() -> None:
    shares = (0.05, 0.1, 0.5, 1.0)
    found = [candidates(share) for share in shares]
    for share, have in zip(shares, found, strict=True):
        assert abs(len(have) / len(USERS) - share) < 0.03
    assert found[0] < found[1] < found[2] < found[3]


def test_another_salt_puts_other_users_into_the_candidate() -> None:
    """Else the same users would try every candidate first."""
    assert len(candidates(0.5) & candidates(0.5, salt="another")) / len(candidates(0.5)) == pytest.approx(0.5, abs=0.05)


def test_before_the_canary_no_run_has_an_arm() -> None:
    state = rollout(0.0, stages=(Stage(name="shadow"), Stage(name="full", share=1.0)))
    assert arm_of(state, user="user:ann", run="r") is None


def test_by_run_the_runs_of_one_user_are_in_both_arms() -> None:
    state = rollout(0.5, unit="run")
    arms = {
        arm.arm for number in range(50) if (arm := arm_of(state, user="user:ann", run=f"{number:032x}")) is not None
    }
    assert arms == {"live", "candidate"}


@pytest.mark.parametrize("unit", ["user", "run"])
def test_the_counts_of_a_rollout_are_those_of_all_of_its_runs(tmp_path: Path, unit: str) -> None:
    """A user counts once for each arm and each bar; a run that is deleted counts no more, and the next one of its user does."""
    with open_journal(tmp_path / "journal.db") as journal:
        opened = rollout_opened(unit=unit, bars=(Bar(name="failed"), Bar(name="slow", above=0.0)))
        rollout = open_rollout(journal, opened).id
        seen: dict[tuple[BarName, ArmName, float], set[str]] = {}
        for number in range(40):
            who, arm, fails = number % 7, ARMS[number % 7 % 2], number % 5 == 0
            record = StoredRecord(journal, f"{number:032x}")
            subjects = Subjects(agent="agent:clerk", user=f"user:{who}")
            record.append(started(subjects=subjects, arm=RunArm(rollout=rollout, arm=arm, share=0.5)))
            record.append(RunFinished(outcome="failed", message="no") if fails else RunFinished(outcome="completed"))
            for bar, counts in (("failed", True), ("slow", not fails)):
                if counts:
                    seen.setdefault((bar, arm, 0.5), set()).add(str(who if unit == "user" else number))
        found = arm_counts(journal, rollout)
        assert {place: users for place, (users, _) in found.items()} == {place: len(who) for place, who in seen.items()}
        users = len(seen["slow", "live", 0.5])
        assert found["slow", "live", 0.5] == (users, users)
        assert found["failed", "live", 0.5][1] == (4 if unit == "user" else 5), "5 of the 8 failed runs, of 4 users"
        delete_run(journal, f"{0:032x}")
        assert check_projections(journal) == []
        assert arm_counts(journal, rollout)["failed", "live", 0.5][1] == 4


def test_the_end_of_a_run_reads_the_counts_and_not_the_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a rollout of many runs costs each of them no more than one of few."""
    read: list[int] = []
    execute = SqliteTransaction.execute

    def counted(self: SqliteTransaction, *given: Any) -> list[Row]:
        read.append(len(rows := execute(self, *given)))
        return rows

    with open_journal(tmp_path / "journal.db") as journal:
        rollout = open_rollout(journal, rollout_opened()).id
        monkeypatch.setattr(SqliteTransaction, "execute", counted)
        for number in range(60):
            record = StoredRecord(journal, f"{number:032x}")
            subjects = Subjects(agent="agent:clerk", user=f"user:{number}")
            record.append(started(subjects=subjects, arm=RunArm(rollout=rollout, arm="candidate", share=0.5)))
            record.append(RunFinished(outcome="completed"))
            check_bars(journal, rollout)
        assert max(read) == 1
        assert len(journal.read(COUNTS, of=rollout)) <= len(rollout_opened().bars)
